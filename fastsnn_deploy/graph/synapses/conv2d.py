"""Two-dimensional convolution (cross-correlation, as PyTorch defines it), grouped and depthwise included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from fastsnn_deploy.graph.arithmetic import IntArray, exact_matmul
from fastsnn_deploy.graph.node import register
from fastsnn_deploy.graph.synapses.base import Bounds, Synapse, mantissa_sums, same_everywhere, window_fan_out
from fastsnn_deploy.graph.synapses.base import Pair as Pair

Scalar = TypeVar("Scalar", np.int64, np.float64)


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Positions of a window along one axis (PyTorch's Conv2d formula); may be <= 0 if the window does not fit."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def output_channels(weight: npt.NDArray[np.generic], groups: int, source: tuple[int, ...]) -> int:
    """O of a weight [O, I / groups, kh, kw] that reads a source (I, H, W). Raises ValueError if they do not fit."""
    if weight.ndim != 4:
        raise ValueError(f"weight must be [O, I/groups, kh, kw], got {weight.shape}")
    outputs, inputs = int(weight.shape[0]), weight.shape[1] * groups
    if len(source) != 3 or source[0] != inputs:
        raise ValueError(f"expects a source of {inputs} channels (C, H, W), got shape {source}")
    if outputs % groups:
        raise ValueError(f"{outputs} output channels do not divide into {groups} groups")
    return outputs


def windows(
    x: npt.NDArray[Scalar], kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, fill: int = 0
) -> npt.NDArray[Scalar]:
    """Every window of x [N, C, H, W] as a view [N, C, OH, OW, kh, kw]; positions outside hold `fill`."""
    (ph, pw), (dh, dw) = padding, dilation
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=fill)
    extent = (dh * (kernel[0] - 1) + 1, dw * (kernel[1] - 1) + 1)
    view: npt.NDArray[Scalar] = sliding_window_view(padded, extent, axis=(2, 3))  # type: ignore[call-overload]
    return view[:, :, :: stride[0], :: stride[1], ::dh, ::dw]


def correlate(
    x: npt.NDArray[Scalar],
    weight: npt.NDArray[Scalar],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    multiply: Callable[..., Any] = exact_matmul,
) -> npt.NDArray[Scalar]:
    """x [N, I, H, W] with kernels [O, I / groups, kh, kw] -> [N, O, OH, OW], the one im2col of this package.

    multiply: the matrix product of the two, exact on integers unless told otherwise.
    """
    outputs, per_group, *kernel = weight.shape
    view = windows(x, (kernel[0], kernel[1]), stride, padding, dilation)
    batch, (height, width) = len(x), view.shape[2:4]
    columns = view.transpose(0, 2, 3, 1, 4, 5).reshape(batch, height * width, groups, per_group * kernel[0] * kernel[1])
    kernels = weight.reshape(groups, outputs // groups, -1)
    # [N, groups, positions, taps] x [groups, taps, O/groups]
    made = multiply(columns.transpose(0, 2, 1, 3), kernels.transpose(0, 2, 1))
    return np.asarray(made.transpose(0, 1, 3, 2).reshape(batch, outputs, height, width))


def _sums(mantissas: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """Sums over the last axis, int64; a product in float32 is exact here and much faster than a sum of int64."""
    length = mantissas.shape[2]
    if length * 128 > 2**24:
        return np.asarray(mantissas.sum(2, dtype=np.int64))
    return np.asarray((mantissas.astype(np.float32) @ np.ones(length, np.float32)).astype(np.int64))


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Conv2d(Synapse):
    """weight: int8 [O, I / groups, kh, kw] in PyTorch's order; source (I, H, W), synaptic input (O, OH, OW)."""

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def kernel(self) -> Pair:
        """Height and width of the kernel."""
        return self.weight.shape[2], self.weight.shape[3]

    def output_shape(self, *sources: tuple[int, ...]) -> tuple[int, ...]:
        (source,) = sources
        outputs = output_channels(self.weight, self.groups, source)
        height, width = (
            output_size(source[1 + i], self.kernel[i], self.stride[i], self.padding[i], self.dilation[i])
            for i in (0, 1)
        )
        if height < 1 or width < 1:
            raise ValueError(f"kernel {self.kernel} with dilation {self.dilation} does not fit into {source[1:]}")
        return outputs, height, width

    def apply(self, spikes: IntArray) -> npt.NDArray[np.int64]:
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        return correlate(spikes.astype(np.int64), self.effective_weight, *geometry)

    def fan_out(self, source: tuple[int, ...]) -> npt.NDArray[np.int64]:
        taps = window_fan_out(source, self.shape, self.kernel, self.stride, self.padding, self.dilation)
        return np.asarray(taps * (self.weight.shape[0] // self.groups))

    def input_bounds(self, low: IntArray, high: IntArray) -> Bounds:
        if same_everywhere(low, high):
            negative, positive = mantissa_sums(self.weight)
            least, most = negative * high[0] + positive * low[0], negative * low[0] + positive * high[0]
            return least << self.exponent, most << self.exponent
        outputs, per_group = self.weight.shape[:2]
        group = np.repeat(np.arange(self.groups), outputs // self.groups)
        channel = group[:, None] * per_group + np.arange(per_group)  # [O, I/groups]
        weight = self.weight.reshape(outputs, per_group, -1)
        shift = self.exponent[:, None].astype(np.int64)
        total, positive = (_sums(part) << shift for part in (weight, np.maximum(weight, 0)))
        negative = total - positive
        least, most = low[channel], high[channel]
        return (positive * least + negative * most).sum(1), (positive * most + negative * least).sum(1)

    def as_primitive(self) -> Synapse:
        return self
