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

from fastsnn_deploy.graph import Conv2d, ConvTranspose2d, Identity, Linear, Synapse, Upsample
from fastsnn_deploy.graph.arithmetic import EXACT_FLOAT64
from fastsnn_deploy.simulators.cpu.assembly import available
from fastsnn_deploy.simulators.cpu.convolution import Convolution, source_taps, takes
from fastsnn_deploy.simulators.cpu.kernels import scale_rows
from fastsnn_deploy.simulators.cpu.winograd import Winograd, gains
from fastsnn_deploy.simulators.cpu.workers import torch_products

BYTE = np.iinfo(np.uint8).max

EXACT_FLOAT32 = 2**24
"""Every integer up to this magnitude is a float32."""

FLOAT32, FLOAT64 = "float32", "float64"
"""What PyTorch's public convolutions compute in, and so these products are called."""

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


def products(
    synapse: Synapse, shape: Shape, largest: int, order: npt.NDArray[np.int64] | None, private: bool,
    levels: npt.NDArray[np.int64] | None = None,
) -> Iterator[Product]:  # fmt: skip
    """Ways to compute the synaptic input of a synapse, the fastest first; all should agree.

    largest: greatest |payload| of one spike. order: canonical index of each source neuron, None if they agree.
    private: whether operators that are not public may be used. levels: what makes bytes of float32 rows, int64 [source
    neurons], where something does.
    """
    form = synapse if type(synapse) in WAYS else as_convolution(synapse, shape, order)
    if isinstance(form, Conv2d):
        yield from _of_conv(form, shape, largest, private, levels)
    else:
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


def _exact_kinds(reach: int) -> tuple[str, ...]:
    return (FLOAT32, FLOAT64) if reach < EXACT_FLOAT32 else (FLOAT64,)


def _of_conv_transpose(conv: ConvTranspose2d, shape: Shape, largest: int, private: bool) -> Iterator[Product]:
    for kind in _exact_kinds(_reach(conv, largest)):
        yield _unshifted(kind, _late("public_transpose", conv, shape, kind))


def _of_conv(
    conv: Conv2d, shape: Shape, largest: int, private: bool, levels: npt.NDArray[np.int64] | None = None
) -> Iterator[Product]:
    reach = _reach(conv, largest)
    if levels is not None and _reach(conv, BYTE) >= EXACT_FLOAT32:
        levels = None
    if _one_column_of_one_channel(conv, shape):
        yield _unshifted(FLOAT64, _late("public", conv, shape, FLOAT64))
        return
    plain = {kind: _late("public", conv, shape, kind) for kind in _exact_kinds(reach)}
    first = next(iter(plain.values()))
    fits = 2 * reach < EXACT_FLOAT32
    if private and fits and takes(conv) and available():
        ours = [Convolution(conv, shape.source, shape.synaptic_input)]
        if gains(conv, shape.source, shape.synaptic_input, largest):
            ours.insert(0, Winograd(conv, shape.source, shape.synaptic_input, largest))
        for each in ours:
            name = type(each).__name__.lower()
            yield replace(_shifted(name, each.synaptic_input, first, levels), convolution=each)
    if private and fits and _windows_meet_the_map(conv, shape) and torch_products().private_operators_work():
        fast = _late("private_matrix" if _is_matrix(conv, shape) else "private", conv, shape)
        yield _shifted("onednn", fast, first, levels)
    yield from (_unshifted(name, call) for name, call in plain.items())


def _late(name: str, *arguments: Any) -> Callable[..., Float32]:
    """A product of `torch_products` that is made when it is first called."""
    made = cache(lambda: getattr(torch_products(), name)(*arguments))
    return lambda *rows: made()(*rows)


def _one_column_of_one_channel(conv: Conv2d, shape: Shape) -> bool:
    """Groups of one source channel and synaptic input one position wide: with a stride beyond one along it, and from
    some number of rows on, oneDNN leaves synaptic input as it was in memory, in float32 and in int8 (seen in torch
    2.13). PyTorch computes float64 without it.
    """
    return conv.weight.shape[1] == 1 and shape.synaptic_input[2] == 1


def _unshifted(name: str, call: Callable[[Rows, int], Float32]) -> Product:
    return Product(name, call, lambda dtype, zero: NO_SHIFT)


def _shifted(
    name: str, fast: Callable[[UInt8], Float32], plain: Callable[[Rows, int], Float32],
    levels: npt.NDArray[np.int64] | None,
) -> Product:  # fmt: skip
    """`fast` for rows of uint8, which takes zero for a number, and for those that `levels` makes such; else `plain`."""
    shifts: dict[int, Float32] = {}
    added = None if levels is None else levels.astype(np.float32)

    @cache
    def added_shift() -> Float32:
        return np.array(fast(np.asarray(added).astype(np.uint8)[None])[0])

    def shift(dtype: npt.DTypeLike, zero: int) -> Float32:
        if dtype != np.uint8:
            return NO_SHIFT if added is None else added_shift()
        return shifts.get(zero, NO_SHIFT)

    def call(rows: Rows, zero: int) -> Float32:
        if rows.dtype != np.uint8:
            return plain(rows, zero) if added is None else fast((rows.astype(np.float32) + added).astype(np.uint8))
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


def _windows_meet_the_map(conv: Conv2d, shape: Shape) -> bool:
    """Every window holds a position of the map: oneDNN leaves the synaptic input of others undefined (seen in torch
    2.13)."""
    for i in (0, 1):
        taps = source_taps(conv, shape.synaptic_input, i)
        if not ((taps >= 0) & (taps < shape.source[1 + i])).any(1).all():
            return False
    return True
