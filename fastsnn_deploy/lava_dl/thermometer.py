"""The thermometer code: which neurons carry which channel, level and replica of a part, and how to read them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.lava_dl.limits import WEIGHT_SHIFT
from fastsnn_deploy.reading import reason_of

Int64 = npt.NDArray[np.int64]

METADATA_KEY = "thermometer"
"""Key of a network's metadata under which the placements lie as JSON."""

ONE = -1
"""Row of the neurons that fire inside the map and nowhere else: signed counts need to know where zero padding is."""


@dataclass(frozen=True, eq=False)
class Code:
    """Neurons (channels of a grid, or elements of a vector) of one part, in order.

    levels, replicas: int64 [rows], neurons per row for its levels, and copies of each. ones: copies of the neuron
    that marks the map. Order: row, level from 1, replica; then the ones. levels 0: a graded value in one neuron.
    """

    levels: Int64
    replicas: Int64
    ones: int = 0

    @property
    def graded(self) -> bool:
        """Whether rows are values, not levels."""
        return not self.levels.any()

    @cached_property
    def first(self) -> Int64:
        """Index of each row's first neuron, int64 [rows]."""
        return np.asarray(np.cumsum(self._per_row) - self._per_row)

    @cached_property
    def _per_row(self) -> Int64:
        return np.asarray(np.maximum(self.levels, 1) * self.replicas)

    @cached_property
    def row(self) -> Int64:
        """Row of every neuron, ONE for the ones."""
        rows = np.repeat(np.arange(len(self.levels)), self._per_row)
        return np.concatenate([rows, np.full(self.ones, ONE)])

    @cached_property
    def level(self) -> Int64:
        """Level of every neuron, 1 .. levels; 0 for graded values and for the ones."""
        if self.graded:
            return np.zeros(self.size, dtype=np.int64)
        return np.concatenate([self._within // np.repeat(self.replicas, self._per_row) + 1, np.zeros(self.ones, int)])

    @cached_property
    def replica(self) -> Int64:
        """Number of the copy that every neuron is, from 0."""
        return np.concatenate([self._within % np.repeat(self.replicas, self._per_row), np.arange(self.ones)])

    @cached_property
    def _within(self) -> Int64:
        return np.asarray(np.arange(int(self._per_row.sum())) - np.repeat(self.first, self._per_row))

    @property
    def size(self) -> int:
        """Number of neurons."""
        return int(self._per_row.sum()) + self.ones

    @property
    def copies(self) -> Int64:
        """Replicas of the row that every neuron belongs to, int64 [size]."""
        return np.concatenate([np.repeat(self.replicas, self._per_row), np.full(self.ones, max(self.ones, 1))])


@dataclass(frozen=True)
class Placement:
    """Where the values of a node (or a phase of it) can be read.

    layer: layers with weights up to and including this one, from 1, which is the latency in steps. start: first
    neuron: channel of a grid, element of a vector. shape: of the node. offset, stride: of the grid within the node;
    on a vector the rows are the node's elements. floor: least count of each row. levels, replicas: of each row, as
    in `Code`; empty for a readout, whose potential is the value.
    """

    node: str
    layer: int
    start: int
    shape: tuple[int, ...]
    grid: bool
    offset: tuple[int, int]
    stride: tuple[int, int]
    floor: tuple[int, ...]
    levels: tuple[int, ...]
    replicas: tuple[int, ...]

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self)

    def read(self, layer: Int64, values: Int64) -> None:
        """Put what the neurons say into `values`, int64 [N, *shape].

        layer: int64 [N, *layer shape], spikes of the layer, or potentials in units of a weight for a readout.
        """
        if self.levels:
            code = Code(np.array(self.levels), np.array(self.replicas))
            rows = self._counts(layer[:, self.start : self.start + code.size], code)
        else:
            rows = layer[:, self.start : self.start + len(self.floor)]
        if self.grid:
            values[:, :, self.offset[0] :: self.stride[0], self.offset[1] :: self.stride[1]] = rows
        else:
            values[:] = rows.reshape(values.shape)

    def _counts(self, spikes: Int64, code: Code) -> Int64:
        kept = code.replica == 0
        floor = np.array(self.floor, dtype=np.int64).reshape((1, -1) + (1,) * (spikes.ndim - 2))
        rows = np.add.reduceat(spikes[:, kept].astype(np.int64), np.cumsum(code.levels) - code.levels, axis=1)
        return np.asarray(rows + floor)


def placements_of(metadata: Mapping[str, str]) -> tuple[Placement, ...]:
    """Placements stored in a network's metadata, as after reading a file; empty if there are none."""
    try:
        return _PLACEMENTS.validate_json(metadata.get(METADATA_KEY, "[]"), strict=True)
    except ValidationError as error:
        raise InputError(
            f"metadata '{METADATA_KEY}' are damaged ({reason_of(error)}). Export the network again"
        ) from error


_PLACEMENTS = TypeAdapter(tuple[Placement, ...])


def answer_of(placements: tuple[Placement, ...]) -> tuple[Placement, ...]:
    """The placements of the answer: all pieces of the first unit in the last layer."""
    last = [each for each in placements if each.layer == placements[-1].layer]
    return tuple(each for each in last if each.node == last[0].node)


def read_answer(
    placements: tuple[Placement, ...], spikes: npt.NDArray[np.integer], potentials: npt.NDArray[np.integer]
) -> Int64:
    """Counts, or for a readout potentials in units of a weight: int64 [T, N, *unit shape] of the series [T, N, ...]."""
    given = spikes.astype(np.int64) if placements[0].levels else potentials.astype(np.int64) >> WEIGHT_SHIFT
    steps, batch = given.shape[:2]
    values = np.zeros((steps * batch, *placements[0].shape), dtype=np.int64)
    for placement in placements:
        placement.read(given.reshape(steps * batch, *given.shape[2:]), values)
    return values.reshape(steps, batch, *placements[0].shape)
