"""Windows that slide over a map with shared weights: convolutions, pools, and one weight a channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastsnn_deploy.analysis.chip import Rows
from fastsnn_deploy.analysis.mapping.grid import Grid, Int64, Shape
from fastsnn_deploy.analysis.mapping.kinds.base import Connection, connects, every_pair, row_words
from fastsnn_deploy.graph import Conv2d, ConvTranspose2d, Identity, MaxPool2d, SumPool2d, Upsample
from fastsnn_deploy.graph.synapses.base import Pair
from fastsnn_deploy.lava_dl import StockConv


@dataclass(frozen=True, kw_only=True)
class Windowed(Connection):
    """kernel, stride, padding, dilation: (rows, columns). groups: as in a convolution. transposed: what is read is
    what a convolution would give, and the layer what it would read."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    transposed: bool = False

    def words(self, low: int, high: int, rows: Rows) -> int:
        """One row for each tap and input channel of every group that the channels belong to."""
        per_group = self.target[0] // self.groups
        taps = self.kernel[0] * self.kernel[1] * (self.source[0] // self.groups)
        first, last = low // per_group, (high - 1) // per_group
        if first == last:
            return taps * row_words(high - low, self.bits, rows)
        ends = row_words((first + 1) * per_group - low, self.bits, rows)
        ends += row_words(high - last * per_group, self.bits, rows)
        return taps * (ends + (last - first - 1) * row_words(per_group, self.bits, rows))

    def tile_words(self, grid: Grid, rows: Rows) -> Int64:
        """With groups it also matters where a tile begins."""
        if self.groups == 1:
            return super().tile_words(grid, rows)
        starts = [part * grid.tile[0] for part in range(grid.parts[0])]
        return np.array([self.words(low, min(low + grid.tile[0], grid.shape[0]), rows) for low in starts])

    def window(self) -> tuple[int, Pair, Pair]:
        return self.source[0] // self.groups, self.kernel, self.stride

    def axis_pairs(self, axis: int) -> tuple[Int64, Int64]:
        if axis == 0:
            return self._channel_pairs()
        small, large = (self.source, self.target) if self.transposed else (self.target, self.source)
        window, tap = np.meshgrid(np.arange(small[axis]), np.arange(self.kernel[axis - 1]), indexing="ij")
        place = window * self.stride[axis - 1] - self.padding[axis - 1] + tap * self.dilation[axis - 1]
        inside = (place >= 0) & (place < large[axis])
        inner, outer = window[inside], place[inside]
        return (inner, outer) if self.transposed else (outer, inner)

    def operations(self, spikes: Int64) -> Int64:
        grouped = spikes.reshape(self.groups, -1, *spikes.shape[1:]).sum(1)
        for axis in (1, 2):
            read, reader = self.axis_pairs(axis)
            reached = np.zeros((self.target[axis], self.source[axis]), dtype=np.int64)
            np.add.at(reached, (reader, read), 1)
            grouped = np.moveaxis(np.tensordot(reached, grouped, axes=(1, axis)), 0, axis)
        return np.asarray(grouped.repeat(self.target[0] // self.groups, axis=0))

    def axis_tiles(self, axis: int, offset: int, before: Grid, after: Grid) -> tuple[Int64, Int64]:
        if axis == 0 and self.groups == 1:
            return every_pair(before.parts[0], after.parts[0])
        return super().axis_tiles(axis, offset, before, after)

    def tile_reads(self, axis: int, after: Grid) -> list[Int64]:
        if axis == 0 and self.groups == 1:
            return [np.arange(self.source[0])] * after.parts[0]
        return super().tile_reads(axis, after)

    def _channel_pairs(self) -> tuple[Int64, Int64]:
        """Every channel of a group reads every channel of that group."""
        read, write = self.source[0] // self.groups, self.target[0] // self.groups
        group, a, b = np.meshgrid(np.arange(self.groups), np.arange(read), np.arange(write), indexing="ij")
        return (group * read + a).reshape(-1), (group * write + b).reshape(-1)


@connects(Conv2d, StockConv)(Windowed)
def _conv(layer: Conv2d | StockConv, source: Shape) -> dict[str, Any]:
    keys = ("stride", "padding", "dilation", "groups")
    return {"kernel": layer.weight.shape[2:]} | {key: getattr(layer, key) for key in keys}


@connects(ConvTranspose2d)(Windowed)
def _transposed(layer: ConvTranspose2d, source: Shape) -> dict[str, Any]:
    keys = ("kernel", "stride", "padding", "dilation", "groups")
    return {"transposed": True} | {key: getattr(layer, key) for key in keys}


@connects(SumPool2d, MaxPool2d)(Windowed)
def _pool(layer: SumPool2d | MaxPool2d, source: Shape) -> dict[str, Any]:
    geometry = {key: getattr(layer, key) for key in ("kernel", "stride", "padding")}
    return geometry | {"groups": source[0], "dilation": getattr(layer, "dilation", (1, 1))}


@connects(Identity)(Windowed)
def _identity(layer: Identity, source: Shape) -> dict[str, Any]:
    return {"kernel": (1, 1), "groups": source[0]}


@connects(Upsample)(Windowed)
def _upsample(layer: Upsample, source: Shape) -> dict[str, Any]:
    return {"kernel": layer.factor, "stride": layer.factor, "groups": source[0], "transposed": True}
