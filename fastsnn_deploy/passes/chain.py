"""A spiking graph as a chain of stages, each one map from everything alive before it to everything alive after it.

Alive are the values of sources (input, populations, max pools) that a later stage still needs. While the chain holds
feature maps, all of them lie on one grid: a part (source, offset, stride) is a group of channels whose grid position
(y, x) holds source[:, y * stride + offset, ...], and zero where that is outside the source. So a stage that strides
keeps what a later shortcut will read as centre taps or phases. After the first stage that is not a convolution,
everything is a vector. Nothing here depends on how values are coded; a stage may be run in integers as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import Node, SpikingGraph

Int64 = npt.NDArray[np.int64]
Pair = tuple[int, int]
Scalar = TypeVar("Scalar", np.float64, np.int64)


@dataclass(frozen=True)
class Part:
    """Channels of one source in a boundary.

    channels: of the source on a grid; all its elements, in C, H, W order, in a vector. offset, stride: (rows,
    columns), of the grid within the source; (0, 0) and (1, 1) in a vector.
    """

    source: str
    channels: int
    offset: Pair = (0, 0)
    stride: Pair = (1, 1)


@dataclass(frozen=True)
class Boundary:
    """What is alive between two stages. size: (H, W) of the grid, or None for a vector."""

    parts: tuple[Part, ...]
    size: Pair | None

    @property
    def positions(self) -> int:
        """Grid positions of a channel; 1 in a vector."""
        return 1 if self.size is None else self.size[0] * self.size[1]

    @property
    def channels(self) -> int:
        """Channels of all parts."""
        return sum(part.channels for part in self.parts)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an array that holds all parts, one after the other."""
        return (self.channels, *(self.size or ()))

    @property
    def rows(self) -> dict[Part, slice]:
        """Where each part lies in such an array."""
        ends = np.cumsum([part.channels for part in self.parts]).tolist()
        return {part: slice(end - part.channels, end) for part, end in zip(self.parts, ends, strict=True)}


@dataclass(frozen=True, eq=False)
class Weighted:
    """Synaptic input from one part of the boundary before.

    With a tap (rows, columns), the grid position read relative to output position * stride: weight int64
    [target channels, part channels]. Without one, from every position: int64 [target channels, part channels,
    positions].
    """

    part: Part
    weight: Int64
    tap: Pair | None = None


@dataclass(frozen=True, eq=False)
class Copied:
    """Values of one part of the boundary before, unchanged; where a target is copied to several times, the maximum.

    target, channel: int64 [n], rows of the target and channels of the part. position: int64 [n] on the grid before,
    when there is no tap.
    """

    part: Part
    target: Int64
    channel: Int64
    tap: Pair | None = None
    position: Int64 | None = None


@dataclass(frozen=True, eq=False)
class Target:
    """One part of the boundary after a stage and where its values come from.

    computed: the part is a population, readout or max pool of this stage; else a relay.
    """

    part: Part
    computed: bool
    links: tuple[Weighted | Copied, ...]


@dataclass(frozen=True, eq=False)
class Stage:
    """One step of the chain. stride: of a convolution; None for a dense stage. targets: the parts of `after`."""

    before: Boundary
    after: Boundary
    targets: tuple[Target, ...]
    stride: Pair | None

    @property
    def computed(self) -> tuple[Part, ...]:
        """The parts that are made here, without relays."""
        return tuple(target.part for target in self.targets if target.computed)

    @cached_property
    def window(self) -> Window:
        """The smallest common kernel of all taps whose output has the stage's size; all positions if it is dense."""
        if self.stride is None:
            return Window((self.before.positions, 1), (0, 0))
        taps = [link.tap for target in self.targets for link in target.links if link.tap is not None]
        rows, columns = (self._axis(i, self.stride[i], [tap[i] for tap in taps] or [0]) for i in (0, 1))
        return Window((rows[0], columns[0]), (rows[1], columns[1]))

    def _axis(self, axis: int, stride: int, taps: list[int]) -> Pair:
        assert self.before.size is not None
        assert self.after.size is not None
        grid, outputs = self.before.size[axis], self.after.size[axis]
        padding = max(0, -min(taps), max(taps) + 1 + (outputs - 1) * stride - grid)
        kernel = max(max(taps) + padding + 1, grid + 2 * padding - outputs * stride + 1)
        return kernel, padding


@dataclass(frozen=True)
class Window:
    """Rows and columns of a kernel and of its padding; its first element is the tap -padding."""

    kernel: Pair
    padding: Pair


@dataclass(frozen=True, eq=False)
class Unit:
    """A node that a stage computes. parts: together all of its neurons, each with its rows in the stage's array."""

    node: Node
    parts: tuple[tuple[slice, Part], ...]

    def read(self, layer: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """The node's values [N, *node shape] out of those of its stage, [N, *shape of the boundary after]."""
        if layer.ndim == 2:
            return layer[:, self.parts[0][0]].reshape(len(layer), *self.node.shape)
        values = np.empty((len(layer), *self.node.shape), dtype=layer.dtype)
        for rows, part in self.parts:
            (y, x), (down, right) = part.offset, part.stride
            values[:, :, y::down, x::right] = layer[:, rows]
        return values


@dataclass(frozen=True, eq=False)
class Chain:
    """graph: whose values the stages carry. stages: at least one; the first reads the input alone."""

    graph: SpikingGraph
    stages: tuple[Stage, ...]

    def units(self, stage: Stage) -> tuple[Unit, ...]:
        """The nodes that a stage computes, and where their values lie in its array."""
        found: dict[str, list[tuple[slice, Part]]] = {}
        for part in stage.computed:
            found.setdefault(part.source, []).append((stage.after.rows[part], part))
        return tuple(Unit(self.graph[name], tuple(parts)) for name, parts in found.items())

    def rows(self, part: Part, size: Pair | None) -> Int64:
        """Channel of the source's node that each row of a part belongs to, int64 [part.channels]."""
        node = self.graph[part.source]
        each = 1 if size is not None else node.size // node.channels
        return np.arange(part.channels, dtype=np.int64) // each
