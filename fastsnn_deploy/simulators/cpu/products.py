"""Synaptic input of many rows of spikes at once: exact integer convolutions and matrix products.

The fast ways are our own int8 convolution (`convolution`), where the processor has its instructions, and that of
oneDNN, reached through an operator of PyTorch that is not public; both sum in int32 and give float32, exact below
2**24. Wherever they are missing or do not fit, PyTorch's public convolution on float32 or float64 takes their place,
with the same integers. Which one is decided for each synapse from the range analysis, and by a trial: convolutions of
PyTorch 2.13 leave parts of some maps undefined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from fastsnn_deploy.graph import Conv2d, ConvTranspose2d, Identity, Linear, Synapse, Upsample
from fastsnn_deploy.graph.arithmetic import EXACT_FLOAT64
from fastsnn_deploy.graph.synapses.conv_transpose2d import channels_swapped
from fastsnn_deploy.simulators.cpu.assembly import available
from fastsnn_deploy.simulators.cpu.convolution import Convolution, source_taps, takes
from fastsnn_deploy.simulators.cpu.kernels import scale_rows
from fastsnn_deploy.simulators.cpu.winograd import Winograd, gains

EXACT_FLOAT32 = 2**24
"""Every integer up to this magnitude is a float32."""

MATRIX_WEIGHTS = 2**25
"""Most weights that a small convolution may have as a matrix."""

Float32 = npt.NDArray[np.float32]
Rows = npt.NDArray[np.generic]
UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Product:
    """Synaptic input of rows, uint8 or float32 [n, source neurons]: synaptic input float32 [n, neurons], positions
    before channels.

    What `call(rows, zero)` returns is too large by `shift(rows.dtype, zero)`, float32 [neurons] or [0] for nothing:
    int8 convolutions are faster if zero counts as a number, and the neurons subtract what it adds.
    """

    name: str
    call: Callable[[Rows, int], Float32]
    shift: Callable[[npt.DTypeLike, int], Float32]
    convolution: Convolution | None = None
    """What the neurons may be fused with."""


NO_SHIFT = np.zeros(0, dtype=np.float32)


@dataclass(frozen=True)
class Shape:
    """Of one synapse: source (C, H, W) and synaptic input (C, H, W); vectors are (N, 1, 1)."""

    source: tuple[int, int, int]
    synaptic_input: tuple[int, int, int]


def products(synapse: Synapse, shape: Shape, largest: int, order: npt.NDArray[np.int64] | None,
             private: bool) -> Iterator[Product]:  # fmt: skip
    """Ways to compute the synaptic input of a synapse, the fastest first; all should agree.

    largest: greatest |payload| of one spike. order: canonical index of each source neuron, None if they agree.
    private: whether operators that are not public may be used.
    """
    form = synapse if type(synapse) in WAYS else as_convolution(synapse, shape, order)
    yield from WAYS[type(form)](form, shape, largest, private)


def _of_upsample(synapse: Upsample, shape: Shape, largest: int, private: bool) -> Iterator[Product]:
    yield _unshifted("upsample", _upsample(synapse, shape))


def _of_identity(synapse: Identity, shape: Shape, largest: int, private: bool) -> Iterator[Product]:
    yield identity(synapse.effective_weight)


def _reach(synapse: Synapse, largest: int) -> int:
    """Greatest sum of mantissas times payloads: what exponents add is a power of two, which no sum loses."""
    reach = largest * int(np.abs(synapse.weight.astype(np.int64)).reshape(synapse.channels, -1).sum(1).max(initial=0))
    if reach >= EXACT_FLOAT64:
        raise OverflowError(f"{synapse.name}: sums of {reach} are not exact in float64")
    return reach


def _exact_kinds(reach: int) -> tuple[torch.dtype, ...]:
    return (torch.float32, torch.float64) if reach < EXACT_FLOAT32 else (torch.float64,)


def _of_conv_transpose(conv: ConvTranspose2d, shape: Shape, largest: int, private: bool) -> Iterator[Product]:
    for kind in _exact_kinds(_reach(conv, largest)):
        yield _unshifted(_called(kind), _public_transpose(conv, shape, kind))


def _of_conv(conv: Conv2d, shape: Shape, largest: int, private: bool) -> Iterator[Product]:
    reach = _reach(conv, largest)
    if _one_column_of_one_channel(conv, shape):
        yield _unshifted(_called(torch.float64), _public(conv, shape, torch.float64))
        return
    plain = {_called(kind): _public(conv, shape, kind) for kind in _exact_kinds(reach)}
    first = next(iter(plain.values()))
    fits = 2 * reach < EXACT_FLOAT32
    if private and fits and takes(conv) and available():
        ours = [Convolution(conv, shape.source, shape.synaptic_input)]
        if gains(conv, shape.source, shape.synaptic_input, largest):
            ours.insert(0, Winograd(conv, shape.source, shape.synaptic_input, largest))
        for each in ours:
            name = type(each).__name__.lower()
            yield replace(_shifted(name, each.synaptic_input, first), convolution=each)
    if private and fits and _windows_meet_the_map(conv, shape) and private_operators_work():
        fast = _private_matrix(conv, shape) if _is_matrix(conv, shape) else _private(conv, shape)
        yield _shifted("onednn", fast, first)
    yield from (_unshifted(name, call) for name, call in plain.items())


def _called(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")


def _one_column_of_one_channel(conv: Conv2d, shape: Shape) -> bool:
    """Groups of one source channel and synaptic input one position wide: with a stride beyond one along it, and from
    some number of rows on, oneDNN leaves synaptic input as it was in memory, in float32 and in int8 (seen in torch
    2.13). PyTorch computes float64 without it.
    """
    return conv.weight.shape[1] == 1 and shape.synaptic_input[2] == 1


def _unshifted(name: str, call: Callable[[Rows, int], Float32]) -> Product:
    return Product(name, call, lambda dtype, zero: NO_SHIFT)


def _shifted(name: str, fast: Callable[[UInt8], Float32], plain: Callable[[Rows, int], Float32]) -> Product:
    """`fast` for rows of uint8, which takes zero for a number; `plain` for the others."""
    shifts: dict[int, Float32] = {}

    def shift(dtype: npt.DTypeLike, zero: int) -> Float32:
        return shifts.get(zero, NO_SHIFT) if dtype == np.uint8 else NO_SHIFT

    def call(rows: Rows, zero: int) -> Float32:
        if rows.dtype != np.uint8:
            return plain(rows, zero)
        if zero and zero not in shifts:
            shifts[zero] = fast(np.full((1, rows.shape[1]), zero, dtype=np.uint8))[0].copy()
        return fast(rows.view(np.uint8))

    return Product(name, call, shift)


WAYS: dict[type[Synapse], Callable[[Any, Shape, int, bool], Iterator[Product]]] = {
    Conv2d: _of_conv, ConvTranspose2d: _of_conv_transpose, Identity: _of_identity, Upsample: _of_upsample
}  # fmt: skip
"""`products` of synapse types: synapse, shape, largest, private. Others become a convolution (see
`as_convolution`)."""


def as_convolution(synapse: Synapse, shape: Shape, order: npt.NDArray[np.int64] | None) -> Conv2d | ConvTranspose2d:
    """The synapse as a convolution from `shape.source` to `shape.synaptic input`; a linear layer as one of a single
    pixel."""
    form = synapse.as_primitive()
    if isinstance(form, (Conv2d, ConvTranspose2d)):
        return form
    if not isinstance(form, Linear):
        raise TypeError(f"{synapse.name}: {type(form).__name__} is no primitive form of a synapse")
    weight = form.weight if order is None else form.weight[:, order]
    return Conv2d(
        name=form.name,
        inputs=form.inputs,
        shape=shape.synaptic_input,
        weight=weight[:, :, None, None],
        exponent=form.exponent,
    )


def _is_matrix(conv: Conv2d, shape: Shape) -> bool:
    """It is a matrix, or as one from all neurons to all neurons takes fewer multiplications: most taps are padding."""
    if math.prod(shape.source[1:]) == math.prod(shape.synaptic_input[1:]) == math.prod(conv.kernel) == conv.groups == 1:
        return True
    weights = math.prod(shape.source) * math.prod(shape.synaptic_input)
    return weights <= MATRIX_WEIGHTS and weights <= 0.8 * conv.weight.size * math.prod(shape.synaptic_input[1:])


def identity(effective_weight: npt.NDArray[np.integer]) -> Product:
    """Product of each source neuron with the weight of its channel, int [C]."""
    weight = effective_weight.astype(np.float32)

    def call(rows: Rows, zero: int) -> Float32:
        synaptic_input = np.empty(rows.shape, dtype=np.float32)
        scale_rows(rows, np.float32(zero), weight, synaptic_input)
        return synaptic_input

    return _unshifted("identity", call)


def _upsample(synapse: Upsample, shape: Shape) -> Callable[[Rows, int], Float32]:
    channels, height, width = shape.source
    weight = synapse.effective_weight.astype(np.float32)

    def call(rows: Rows, zero: int) -> Float32:
        maps = (rows.astype(np.float32) - np.float32(zero)).reshape(-1, height, width, channels) * weight
        return maps.repeat(synapse.factor[0], axis=1).repeat(synapse.factor[1], axis=2).reshape(len(rows), -1)

    return call


def _images(rows: npt.NDArray[np.generic], shape: Shape) -> Tensor:
    """Rows as a tensor [n, C, H, W] in channels-last layout, without a copy."""
    channels, height, width = shape.source
    return torch.from_numpy(rows.reshape(-1, height, width, channels)).permute(0, 3, 1, 2)


def _rows(synaptic_input: Tensor) -> Float32:
    """[n, C, H, W] in channels-last layout -> float32 [n, neurons], without a copy."""
    flat = synaptic_input.permute(0, 2, 3, 1).contiguous()
    return flat.reshape(len(flat), -1).numpy()


def _public(conv: Conv2d, shape: Shape, dtype: torch.dtype) -> Callable[[Rows, int], Float32]:
    weight = torch.from_numpy(conv.weight.astype(np.float64)).to(dtype)
    weight = weight.contiguous(memory_format=torch.channels_last)
    factor = torch.from_numpy(np.exp2(conv.exponent.astype(np.float64))).to(dtype).reshape(-1, 1, 1)
    scaled = bool((conv.exponent != 0).any())

    def call(rows: Rows, zero: int) -> Float32:
        images = _images(rows, shape).to(dtype)
        if zero:
            images = images - zero
        synaptic_input = F.conv2d(images, weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)
        if scaled:
            synaptic_input = synaptic_input * factor
        return _rows(synaptic_input.float())

    return call


def _public_transpose(conv: ConvTranspose2d, shape: Shape, dtype: torch.dtype) -> Callable[[Rows, int], Float32]:
    weight = torch.from_numpy(channels_swapped(conv.effective_weight, conv.groups)).to(dtype)
    geometry = conv.stride, conv.padding, conv.output_padding, conv.groups, conv.dilation

    def call(rows: Rows, zero: int) -> Float32:
        images = _images(rows, shape).to(dtype)
        if zero:
            images = images - zero
        return _rows(F.conv_transpose2d(images, weight, None, *geometry).float())

    return call


def _windows_meet_the_map(conv: Conv2d, shape: Shape) -> bool:
    """Every window holds a position of the map: oneDNN leaves the synaptic input of others undefined (seen in torch
    2.13)."""
    for i in (0, 1):
        taps = source_taps(conv, shape.synaptic_input, i)
        if not ((taps >= 0) & (taps < shape.source[1 + i])).any(1).all():
            return False
    return True


def _private(conv: Conv2d, shape: Shape) -> Callable[[UInt8], Float32]:
    """oneDNN's convolution of uint8 by int8; zero padding adds nothing."""
    weight = torch.from_numpy(conv.weight.copy())
    scales = torch.from_numpy(np.exp2(conv.exponent.astype(np.float32)))
    zeros = torch.zeros(conv.channels, dtype=torch.int32)
    geometry: list[Any] = [list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups]
    packed = torch.ops.onednn.qconv_prepack(weight, scales, 1.0, 0, *geometry, [1, *shape.source])
    end: tuple[Any, ...] = (1.0, 0, torch.float32, "none", [], "")

    def call(rows: UInt8) -> Float32:
        images = _images(rows, shape)
        return _rows(torch.ops.onednn.qconv2d_pointwise(images, 1.0, 0, packed, scales, zeros, None, *geometry, *end))

    return call


def _private_matrix(conv: Conv2d, shape: Shape) -> Callable[[UInt8], Float32]:
    """oneDNN's matrix product of uint8 by int8, for linear layers and for convolutions of a few positions."""
    weight = torch.from_numpy(_matrix(conv, shape))
    scales = torch.from_numpy(np.exp2(np.tile(conv.exponent, math.prod(shape.synaptic_input[1:])).astype(np.float32)))
    zeros = torch.zeros(len(scales), dtype=torch.int32)
    packed = torch.ops.onednn.qlinear_prepack(weight, [1, weight.shape[1]])
    end: tuple[Any, ...] = (1.0, 0, torch.float32, "none", [], "")

    def call(rows: UInt8) -> Float32:
        flat = torch.from_numpy(np.ascontiguousarray(rows))
        synaptic_input = torch.ops.onednn.qlinear_pointwise(flat, 1.0, 0, packed, scales, zeros, None, *end)
        return np.asarray(synaptic_input.numpy())

    return call


def _matrix(conv: Conv2d, shape: Shape) -> npt.NDArray[np.int8]:
    """Weight between every neuron and every source neuron, both positions before channels: int8 [neurons, sources]."""
    if math.prod(shape.source[1:]) == 1 and conv.kernel == (1, 1) and conv.groups == 1:
        return conv.weight.reshape(conv.channels, -1).copy()
    plain = replace(conv, exponent=np.zeros_like(conv.exponent), shape=shape.synaptic_input)
    sources = np.eye(math.prod(shape.source), dtype=np.float32)
    synaptic_input = _public(plain, shape, torch.float64)(sources, 0)
    return np.ascontiguousarray(synaptic_input.T, dtype=np.int8)  # oneDNN reads no other layout


@cache
def private_operators_work() -> bool:
    """The int8 operators exist, take the arguments of this version, and give exact sums on this processor."""
    rng = np.random.default_rng(0)
    shape = Shape((32, 5, 5), (16, 3, 3))
    weight = rng.integers(-128, 128, (16, 32, 3, 3)).astype(np.int8)
    conv = Conv2d(name="probe", shape=shape.synaptic_input, weight=weight,
                  exponent=np.zeros(16, dtype=np.int64), stride=(2, 2), padding=(1, 1))  # fmt: skip
    rows = rng.integers(0, 256, (2, 800)).astype(np.uint8)  # large values: some processors saturate their sums
    expected = _public(conv, shape, torch.float64)(rows, 0)
    try:
        found = [_private(conv, shape)(rows), _private_matrix(conv, shape)(rows)]
    except (AttributeError, RuntimeError, TypeError):
        return False
    return all(np.array_equal(each, expected) for each in found)
