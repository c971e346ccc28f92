"""A spiking graph as a chain of stages, each one map from everything alive before it to everything alive after it.

Alive are the values of sources (input, populations, max pools) that a later stage still needs. While the chain holds
feature maps, all of them lie on one grid: a part (source, offset, stride) is a group of channels whose grid position
(y, x) holds source[:, y * stride + offset, ...], and zero where that is outside the source. So a stage that strides
keeps what a later shortcut will read as centre taps or phases. After the first stage that is not a convolution,
everything is a vector. Nothing here depends on how values are coded; a stage may be run in integers as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import SpikingGraph

Int64 = npt.NDArray[np.int64]
Pair = tuple[int, int]


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


@dataclass(frozen=True, eq=False)
class Chain:
    """graph: whose values the stages carry. stages: at least one; the first reads the input alone."""

    graph: SpikingGraph
    stages: tuple[Stage, ...]

    def rows(self, part: Part, size: Pair | None) -> Int64:
        """Channel of the source's node that each row of a part belongs to, int64 [part.channels]."""
        node = self.graph[part.source]
        each = 1 if size is not None else node.size // node.channels
        return np.arange(part.channels, dtype=np.int64) // each
