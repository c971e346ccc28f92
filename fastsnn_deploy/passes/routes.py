"""What units (populations, readouts, max pools) of a graph read, with flatten, concat and pools resolved."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import GraphError, Problem
from fastsnn_deploy.graph import (
    Concat,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    Identity,
    Input,
    Linear,
    MaxPool2d,
    Node,
    Population,
    Readout,
    SpikingGraph,
    Synapse,
)

Int64 = npt.NDArray[np.int64]
Pair = tuple[int, int]

MAX_FALLBACK = 2**20
"""Most entries of an explicit matrix that stands for a convolution or pool (a map of 1,024 elements to another)."""


class Routes:
    """Routing of one graph, reduced to the units that its outputs depend on."""

    def __init__(self, graph: SpikingGraph) -> None:
        self.graph = graph

    def pieces(self, name: str) -> tuple[str, ...]:
        """Sources whose values, side by side on the first axis, are the spikes of a node. Flatten keeps them."""
        node = self.graph[name]
        if isinstance(node, (Flatten, Concat)):
            return tuple(piece for each in node.inputs for piece in self.pieces(each))
        return (name,)

    def readers(self, unit: Node) -> tuple[Synapse | MaxPool2d, ...]:
        """The nodes that turn spikes into the unit's value: its synapses, or the pool itself."""
        if isinstance(unit, MaxPool2d):
            return (unit,)
        return tuple(node for node in map(self.graph.__getitem__, unit.inputs) if isinstance(node, Synapse))

    def sources(self, unit: Node) -> tuple[str, ...]:
        """Every source that a unit reads, without repetition."""
        found = [piece for reader in self.readers(unit) for piece in self.pieces(reader.inputs[0])]
        return tuple(dict.fromkeys(found))

    @cached_property
    def units(self) -> tuple[Node, ...]:
        """Units that the outputs depend on, in graph order."""
        live = set(self.graph.outputs)
        for node in reversed(self.graph.nodes):
            if node.name in live and isinstance(node, (Population, Readout, MaxPool2d)):
                live.update(self.sources(node))
        return tuple(node for node in self.graph.nodes if node.name in live and not isinstance(node, Input))

    @cached_property
    def heights(self) -> dict[str, int]:
        """Units on the longest way from each unit to an output, itself included."""
        heights = {unit.name: 1 for unit in self.units}
        for unit in reversed(self.units):
            for source in self.sources(unit):
                if source in heights:
                    heights[source] = max(heights[source], heights[unit.name] + 1)
        return heights

    def blocks(self, reader: Synapse | MaxPool2d) -> list[tuple[str, slice]]:
        """Sources of a reader, with the channels of its input that each provides (elements, for vectors)."""
        blocks, start = [], 0
        flat = len(self.graph[reader.inputs[0]].shape) == 1
        for piece in self.pieces(reader.inputs[0]):
            node = self.graph[piece]
            count = node.size if flat else node.channels
            blocks.append((piece, slice(start, start + count)))
            start += count
        return blocks


Reader = Synapse | MaxPool2d
Tap = tuple[Pair, Int64 | None]


def reading_stride(reader: Reader, axis: int) -> Fraction:
    """Source positions that a step of one output position moves by; less than one for upsampling."""
    form = reader if isinstance(reader, MaxPool2d) else reader.as_primitive()
    return STRIDES[type(form)](form, axis) if type(form) in STRIDES else Fraction(1)


STRIDES: dict[type[Node], Callable[[Any, int], Fraction]] = {
    MaxPool2d: lambda pool, axis: Fraction(pool.stride[axis]),
    Conv2d: lambda conv, axis: Fraction(conv.stride[axis]),
    ConvTranspose2d: lambda conv, axis: Fraction(1, conv.stride[axis]),
}
"""What each form that reads feature maps moves by."""


def taps(reader: Reader, phase: Pair, blocks: slice) -> list[Tap]:
    """Source offsets that output positions `q * stride + phase` read relative to q, with their weights.

    Weights are int64 [outputs, channels in `blocks`], None for a pool. The offset already holds the phase.
    """
    form = reader if isinstance(reader, MaxPool2d) else reader.as_primitive()
    if type(form) not in TAPS:
        problem = Problem(f"{type(reader).__name__} '{reader.name}'", "is not a convolution of feature maps")
        raise GraphError("the graph cannot become a chain", [problem])
    return TAPS[type(form)](form, phase, blocks)


def _pool_taps(pool: MaxPool2d, phase: Pair, blocks: slice) -> list[Tap]:
    return [(_offset(pool, phase, (i, j)), None) for i in range(pool.kernel[0]) for j in range(pool.kernel[1])]


def _conv_taps(conv: Conv2d, phase: Pair, blocks: slice) -> list[Tap]:
    weight = _ungrouped(conv)[:, blocks]
    rows, columns = conv.kernel
    return [(_offset(conv, phase, (i, j)), weight[:, :, i, j]) for i in range(rows) for j in range(columns)]


def _conv_transpose_taps(conv: ConvTranspose2d, phase: Pair, blocks: slice) -> list[Tap]:
    """Only the taps whose spikes come from a position of the source."""
    weight = _ungrouped(conv)[:, blocks]

    def along(axis: int) -> list[tuple[int, int]]:
        places = ((k, phase[axis] + conv.padding[axis] - k * conv.dilation[axis]) for k in range(conv.kernel[axis]))
        return [(k, place // conv.stride[axis]) for k, place in places if place % conv.stride[axis] == 0]

    return [((y, x), weight[:, :, i, j]) for i, y in along(0) for j, x in along(1)]


TAPS: dict[type[Node], Callable[[Any, Pair, slice], list[Tap]]] = {
    MaxPool2d: _pool_taps, Conv2d: _conv_taps, ConvTranspose2d: _conv_transpose_taps
}  # fmt: skip
"""`taps` of each form that reads feature maps."""


def _offset(window: Conv2d | MaxPool2d, phase: Pair, tap: Pair) -> Pair:
    rows, columns = (phase[i] * window.stride[i] + tap[i] * window.dilation[i] - window.padding[i] for i in (0, 1))
    return rows, columns


def _ungrouped(conv: Conv2d | ConvTranspose2d) -> Int64:
    """Kernels over all input channels: int64 [O, I, kh, kw]."""
    outputs, per_group, *kernel = conv.weight.shape
    full = np.zeros((conv.groups, outputs // conv.groups, conv.groups, per_group, *kernel), dtype=np.int64)
    group = np.arange(conv.groups)
    full[group, :, group] = conv.effective_weight.reshape(conv.groups, -1, per_group, *kernel)
    return full.reshape(outputs, conv.groups * per_group, *kernel)


def matrix(reader: Synapse, source: tuple[int, ...]) -> Int64:
    """A synapse as an explicit matrix, int64 [elements of the synaptic input, elements of the source].

    Raises GraphError where a synapse that is not dense by itself would need more than MAX_FALLBACK entries.
    """
    if isinstance(reader, Linear):
        return reader.effective_weight
    inside = int(np.prod(source, dtype=np.int64))
    if isinstance(reader, Identity) and len(source) == 1:
        return np.diag(reader.effective_weight)
    _require_small(reader, inside)
    columns = reader.apply(np.eye(inside, dtype=np.int64).reshape(inside, *source))
    return columns.reshape(inside, -1).T


def pool_pairs(pool: MaxPool2d, source: tuple[int, ...]) -> tuple[Int64, Int64]:
    """Elements (of the pool, of its source) that are connected: two int64 [n]."""
    _require_small(pool, int(np.prod(source, dtype=np.int64)))
    rows = _axis_pairs(pool, 0, source[1])
    columns = _axis_pairs(pool, 1, source[2])
    channel = np.arange(pool.channels)[:, None, None]
    made = (channel * pool.shape[1] + rows[0][:, None]) * pool.shape[2] + columns[0]
    read = (channel * source[1] + rows[1][:, None]) * source[2] + columns[1]
    return made.reshape(-1), read.reshape(-1)


def _axis_pairs(pool: MaxPool2d, axis: int, size: int) -> tuple[Int64, Int64]:
    made = np.repeat(np.arange(pool.shape[1 + axis]), pool.kernel[axis])
    tap = np.tile(np.arange(pool.kernel[axis]), pool.shape[1 + axis])
    read = made * pool.stride[axis] + tap * pool.dilation[axis] - pool.padding[axis]
    inside = (read >= 0) & (read < size)
    return made[inside], read[inside]


def _require_small(node: Synapse | MaxPool2d, inside: int) -> None:
    if inside * node.size <= MAX_FALLBACK:
        return
    what = (
        f"cannot be one convolution with what else is alive beside it, and as a matrix it has {inside} x {node.size} "
        f"entries, more than {MAX_FALLBACK}"
    )
    fix = "Let branches that meet have strides that multiply to the same, and sizes that their strides divide"
    raise GraphError("the graph cannot become a chain", [Problem(f"{type(node).__name__} '{node.name}'", what, fix)])


def is_map(unit: Node) -> bool:
    """Whether a unit makes a feature map (C, H, W)."""
    return len(unit.shape) == 3
