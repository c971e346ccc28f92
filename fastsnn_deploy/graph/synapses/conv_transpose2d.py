"""Two-dimensional transposed convolution, as PyTorch defines it: every spike adds its kernel to the map it feeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph.arithmetic import Int64, IntArray, exact_matmul
from fastsnn_deploy.graph.node import register
from fastsnn_deploy.graph.synapses.base import Bounds, Pair, Synapse
from fastsnn_deploy.graph.synapses.conv2d import output_channels

Array = TypeVar("Array", bound=Any)


def channels_swapped(weight: Array, groups: int) -> Array:
    """[A, B / groups, kh, kw] as [B, A / groups, kh, kw]: between our order of a transposed convolution's weight and
    PyTorch's, in either direction.

    Args:
        weight: NumPy array or torch tensor, of which channels a of A belong to group a // (A / groups).
        groups: into how many both kinds of channels divide.

    Returns:
        The same numbers in the other order, of the same type.
    """
    first, second, *kernel = weight.shape
    grouped = weight.reshape(groups, first // groups, second, *kernel).swapaxes(1, 2)
    return grouped.reshape(groups * second, first // groups, *kernel)  # type: ignore[no-any-return]


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class ConvTranspose2d(Synapse):
    """A spike at y adds weight[:, :, k] to positions y * stride - padding + k * dilation that lie on the map.

    weight: int8 [O, I / groups, kh, kw], output channels first as in every synapse; PyTorch stores [I, O / groups, kh,
    kw] (see `channels_swapped`). Source (I, H, W), synaptic input (O, OH, OW) with OH = (H - 1) * stride - 2 * padding
    + dilation * (kh - 1) + output_padding + 1.
    """

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    output_padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def kernel(self) -> Pair:
        """Height and width of the kernel."""
        return self.weight.shape[2], self.weight.shape[3]

    def output_shape(self, *sources: tuple[int, ...]) -> tuple[int, ...]:
        (source,) = sources
        outputs = output_channels(self.weight, self.groups, source)
        for i in (0, 1):
            if not 0 <= self.output_padding[i] < max(self.stride[i], self.dilation[i]):
                raise ValueError(f"output_padding {self.output_padding} must be less than stride or dilation")
        height, width = ((source[1 + i] - 1) * self.stride[i] + self._beyond(i) + 1 for i in (0, 1))
        if height < 1 or width < 1:
            raise ValueError(f"padding {self.padding} leaves nothing of a source of {source[1:]}")
        return outputs, height, width

    def _beyond(self, axis: int) -> int:
        """Positions by which the map is larger than what strides alone give."""
        reach = self.dilation[axis] * (self.kernel[axis] - 1)
        return reach - 2 * self.padding[axis] + self.output_padding[axis]

    def apply(self, spikes: IntArray) -> Int64:
        batch, _, height, width = spikes.shape
        outputs, per_group, kh, kw = self.weight.shape
        columns = spikes.reshape(batch, self.groups, per_group, height * width).transpose(0, 1, 3, 2)
        kernels = self.effective_weight.reshape(self.groups, outputs // self.groups, per_group, kh * kw)
        # [N, groups, positions, I/groups] x [groups, I/groups, O/groups * taps]
        added = exact_matmul(columns, kernels.transpose(0, 2, 1, 3).reshape(self.groups, per_group, -1))
        added = added.reshape(batch, self.groups, height, width, -1, kh, kw).transpose(0, 1, 4, 5, 6, 2, 3)
        added = added.reshape(batch, outputs, kh, kw, height, width)
        (sy, sx), (dy, dx), (py, px) = self.stride, self.dilation, self.padding
        whole = np.zeros((batch, outputs, self.shape[1] + 2 * py, self.shape[2] + 2 * px), dtype=np.int64)
        for y in range(kh):
            for x in range(kw):
                rows = slice(y * dy, y * dy + (height - 1) * sy + 1, sy)
                whole[:, :, rows, x * dx : x * dx + (width - 1) * sx + 1 : sx] += added[:, :, y, x]
        return whole[:, :, py : py + self.shape[1], px : px + self.shape[2]]

    def _places(self, axis: int, size: int) -> tuple[Int64, npt.NDArray[np.bool_]]:
        """Where each of `size` source positions adds each tap, along one axis, and whether that is on the map:
        int64 and bool [size, taps]."""
        taps = np.arange(self.kernel[axis]) * self.dilation[axis]
        place = np.arange(size)[:, None] * self.stride[axis] - self.padding[axis] + taps
        return place, (place >= 0) & (place < self.shape[1 + axis])

    def fan_out(self, source: tuple[int, ...]) -> Int64:
        rows, columns = (self._places(i, source[1 + i])[1].sum(1) for i in (0, 1))
        taps = np.broadcast_to(np.outer(rows, columns), source).astype(np.int64)
        return np.asarray(taps * (self.channels // self.groups))

    def padded_fan_in(self, source: tuple[int, ...]) -> int:
        return int(np.prod(source, dtype=np.int64)) * int(np.prod(self.kernel)) * (self.channels // self.groups)

    def input_bounds(self, low: IntArray, high: IntArray) -> Bounds:
        """Bounds that are reached: with a stride, and at borders, a position gets a part of the taps only."""
        outputs, per_group = self.weight.shape[:2]
        group = np.repeat(np.arange(self.groups), outputs // self.groups)
        channel = group[:, None] * per_group + np.arange(per_group)  # [O, I/groups]
        rows, columns = self._met(0), self._met(1)
        positive, negative = (
            np.einsum("oikl,ak,bl->oiab", part(self.effective_weight, 0), rows, columns, optimize=True)
            for part in (np.maximum, np.minimum)
        )
        least, most = low[channel][..., None, None], high[channel][..., None, None]
        lowest = (positive * least + negative * most).sum(1).min((1, 2))
        return lowest, (positive * most + negative * least).sum(1).max((1, 2))

    def _met(self, axis: int) -> Int64:
        """The sets of taps that meet at one position along an axis, none a part of another: 0 or 1 [sets, taps]."""
        size = (self.shape[1 + axis] - 1 - self._beyond(axis)) // self.stride[axis] + 1
        place, inside = self._places(axis, size)
        met = np.zeros((self.shape[1 + axis], self.kernel[axis]), dtype=np.int64)
        met[place[inside], np.nonzero(inside)[1]] = 1
        sets = np.unique(met, axis=0)
        parts = (sets[:, None] <= sets).all(2).sum(1)  # in how many sets each lies, itself included
        return np.asarray(sets[parts == 1])

    def as_primitive(self) -> Synapse:
        return self
