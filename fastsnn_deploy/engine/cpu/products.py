"""Charge of many rows of spikes at once: exact integer convolutions and matrix products.

The fast way is oneDNN's int8 convolution, reached through an operator of PyTorch that is not public; it sums in
int32 and gives float32, exact below 2**24. Wherever it is missing or does not fit, PyTorch's public convolution on
float32 or float64 takes its place, with the same integers. Which one is decided for each synapse from the range
analysis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from fastsnn_deploy.graph import Conv2d, Synapse, Upsample
from fastsnn_deploy.graph.arithmetic import EXACT_FLOAT64

EXACT_FLOAT32 = 2**24
"""Every integer up to this magnitude is a float32."""

EXACT_INT32 = 2**31

Float32 = npt.NDArray[np.float32]
Product = Callable[[npt.NDArray[np.generic], int], Float32]
"""(rows uint8 or float32 [n, source neurons], zero) -> charge float32 [n, neurons], positions before channels."""


@dataclass(frozen=True)
class Shape:
    """Of one synapse: source (C, H, W) and charge (C, H, W); vectors are (N, 1, 1)."""

    source: tuple[int, int, int]
    charge: tuple[int, int, int]


def make_product(synapse: Synapse, shape: Shape, largest: int, order: npt.NDArray[np.int64] | None,
                 private: bool) -> Product:  # fmt: skip
    """How to compute the charge of a synapse.

    largest: greatest |payload| of one message. order: canonical index of each source neuron, None if they agree.
    private: whether operators that are not public may be used.
    """
    if isinstance(synapse, Upsample):
        return _upsample(synapse, shape)
    conv = as_convolution(synapse, shape, order)
    reach = int(np.abs(conv.weight.astype(np.int64)).reshape(conv.channels, -1).sum(1).max(initial=0))
    sums = reach * largest
    exact = torch.float32 if sums < EXACT_FLOAT32 else torch.float64
    assert sums < EXACT_FLOAT64, f"{synapse.name}: sums of {sums} are not exact in float64"
    plain = _public(conv, shape, exact)
    fits = exact is torch.float32 and reach * 255 < EXACT_INT32 and _windows_meet_the_map(conv, shape)
    if not (private and fits and private_operator_works()):
        return plain
    fast = _private(conv, shape)

    def product(rows: npt.NDArray[np.generic], zero: int) -> Float32:
        return fast(rows, zero) if rows.dtype == np.uint8 else plain(rows, zero)

    return product


def as_convolution(synapse: Synapse, shape: Shape, order: npt.NDArray[np.int64] | None) -> Conv2d:
    """The synapse as a convolution from `shape.source` to `shape.charge`; a linear layer as one of a single pixel."""
    form = synapse.as_primitive()
    if isinstance(form, Conv2d):
        return form
    weight = form.weight if order is None else form.weight[:, order]
    return Conv2d(
        name=form.name, inputs=form.inputs, shape=shape.charge, weight=weight[:, :, None, None], exponent=form.exponent
    )


def _upsample(synapse: Upsample, shape: Shape) -> Product:
    channels, height, width = shape.source
    weight = synapse.effective_weight.astype(np.float32)

    def product(rows: npt.NDArray[np.generic], zero: int) -> Float32:
        maps = (rows.astype(np.float32) - np.float32(zero)).reshape(-1, height, width, channels) * weight
        return maps.repeat(synapse.factor[0], axis=1).repeat(synapse.factor[1], axis=2).reshape(len(rows), -1)

    return product


def _images(rows: npt.NDArray[np.generic], shape: Shape) -> Tensor:
    """Rows as a tensor [n, C, H, W] in channels-last layout, without a copy."""
    channels, height, width = shape.source
    return torch.from_numpy(rows.reshape(-1, height, width, channels)).permute(0, 3, 1, 2)


def _rows(charge: Tensor) -> Float32:
    """[n, C, H, W] in channels-last layout -> float32 [n, neurons], without a copy."""
    flat = charge.permute(0, 2, 3, 1).contiguous()
    return flat.reshape(len(flat), -1).numpy()  # type: ignore[no-any-return]


def _public(conv: Conv2d, shape: Shape, dtype: torch.dtype) -> Product:
    weight = torch.from_numpy(conv.weight.astype(np.float64)).to(dtype)
    weight = weight.contiguous(memory_format=torch.channels_last)
    factor = torch.from_numpy(np.exp2(conv.exponent.astype(np.float64))).to(dtype).reshape(-1, 1, 1)
    scaled = bool((conv.exponent != 0).any())

    def product(rows: npt.NDArray[np.generic], zero: int) -> Float32:
        images = _images(rows, shape).to(dtype)
        if zero:
            images = images - zero
        charge = F.conv2d(images, weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)
        if scaled:
            charge = charge * factor
        return _rows(charge.float())

    return product


def _windows_meet_the_map(conv: Conv2d, shape: Shape) -> bool:
    """Every window holds a position of the map. oneDNN leaves the charge of the others undefined (seen in torch 2.13)."""
    for i in (0, 1):
        at = np.arange(shape.charge[1 + i])[:, None] * conv.stride[i] - conv.padding[i]
        taps = at + np.arange(conv.kernel[i]) * conv.dilation[i]
        if not ((taps >= 0) & (taps < shape.source[1 + i])).any(1).all():
            return False
    return True


def _private(conv: Conv2d, shape: Shape) -> Product:
    weight = torch.from_numpy(conv.weight.copy())
    scales = torch.from_numpy(np.exp2(conv.exponent.astype(np.float32)))
    zeros = torch.zeros(conv.channels, dtype=torch.int32)
    geometry: list[Any] = [list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups]
    packed: dict[int, Tensor] = {}

    def product(rows: npt.NDArray[np.generic], zero: int) -> Float32:
        images = _images(rows, shape)
        if zero not in packed:
            packed[zero] = torch.ops.onednn.qconv_prepack(weight, scales, 1.0, zero, *geometry, list(images.shape))
        return _rows(
            torch.ops.onednn.qconv2d_pointwise(
                images, 1.0, zero, packed[zero], scales, zeros, None, *geometry, 1.0, 0, torch.float32, "none", [], ""
            )
        )

    return product


@cache
def private_operator_works() -> bool:
    """The int8 operator exists, takes the arguments of this version, and gives exact sums on this processor."""
    rng = np.random.default_rng(0)
    shape = Shape((32, 5, 5), (16, 3, 3))
    conv = Conv2d(name="probe", shape=shape.charge, weight=rng.integers(-128, 128, (16, 32, 3, 3)).astype(np.int8),
                  exponent=np.zeros(16, dtype=np.int64), stride=(2, 2), padding=(1, 1))  # fmt: skip
    rows = rng.integers(0, 256, (2, 800)).astype(np.uint8)  # large values: some processors saturate their sums
    try:
        found = _private(conv, shape)(rows, 7)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return bool(np.array_equal(found, _public(conv, shape, torch.float64)(rows, 7)))
