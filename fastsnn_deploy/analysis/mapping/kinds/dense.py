"""Fully connected layers: every neuron stores a weight for every neuron that it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastsnn_deploy.analysis.chip import Rows
from fastsnn_deploy.analysis.mapping.grid import Grid, Int64, Shape
from fastsnn_deploy.analysis.mapping.kinds.base import Connection, Part, connects, every_pair, row_words
from fastsnn_deploy.graph import Linear
from fastsnn_deploy.lava_dl import StockDense


@dataclass(frozen=True, kw_only=True)
class Dense(Connection):
    """Weights of 0 take as much room as others."""

    shared = False

    def words(self, low: int, high: int, rows: Rows) -> int:
        """One row for each neuron that is read."""
        return self.source[0] * row_words(high - low, self.bits, rows, rows.synapse_bits.value)

    def window(self) -> tuple[int, tuple[int, int], tuple[int, int]]:
        """A kernel as large as the map that was flattened."""
        channels, height, width = self.flattened
        return channels, (height, width), (1, 1)

    def axis_pairs(self, axis: int) -> tuple[Int64, Int64]:
        return every_pair(self.source[axis], self.target[axis])

    def operations(self, spikes: Int64) -> Int64:
        return np.full(self.target, spikes.sum())

    def pairs(self, part: Part, before: Grid, after: Grid) -> tuple[Int64, Int64]:
        """Every core with every core."""
        return every_pair(before.cores, after.cores)

    def tile_reads(self, axis: int, after: Grid) -> list[Int64]:
        return [np.arange(self.source[axis])] * after.parts[axis]


@connects(Linear, StockDense)(Dense)
def _dense(layer: Linear | StockDense, source: Shape) -> dict[str, Any]:
    return {}
