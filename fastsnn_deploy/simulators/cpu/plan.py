"""What the CPU engine prepares once for a graph: layouts, weights in the order of its kernels, value ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import (
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
from fastsnn_deploy.simulators.cpu.kernels import scatter
from fastsnn_deploy.simulators.cpu.products import BYTE, Product, Shape, as_convolution, identity, products

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SynapsePlan:
    """product: synaptic input of whole rows. weight, geometry: for `kernels.scatter`."""

    synapse: Synapse
    product: Product
    weight: Float32
    geometry: Int64

    @property
    def source(self) -> str:
        """Name of the node whose spikes it reads."""
        return self.synapse.inputs[0]


@dataclass(frozen=True)
class PoolPlan:
    """windows: int64 [positions, taps], source positions. readers, reader_start: windows of each source position."""

    windows: Int64
    readers: Int64
    reader_start: Int64


class Plan:
    """Everything that depends on the graph only.

    unfused: populations whose neurons do not run in one loop with a synapse. rejected: ways that failed their trial, by
    the name of their synapse; "fused" by the name of a population.
    """

    def __init__(self, graph: SpikingGraph, private: bool = True) -> None:
        self.graph, self.private = graph, private
        self.readers = {
            node.name: [other for other in graph.nodes if node.name in other.inputs] for node in graph.nodes
        }
        self.largest = largest_payloads(graph)
        self.order = {node.name: self._order(node) for node in graph.nodes if node.emits == "spikes"}
        self.unfused: set[str] = set()
        self.rejected: dict[str, list[str]] = {}
        self._ways = {synapse.name: self._agreeing(synapse, private) for synapse in graph.synapses}
        self.synapses = {name: self._next(name) for name in self._ways}
        self.arms = {node.name: self._arms(node) for node in graph.nodes if isinstance(node, (Population, Readout))}
        self.pools = {node.name: _pool(graph, node) for node in graph.nodes if isinstance(node, MaxPool2d)}

    def virtual(self, node: Node) -> bool:
        """A flatten that need not move anything, because only linear layers read it."""
        return isinstance(node, Flatten) and all(isinstance(reader, Linear) for reader in self.readers[node.name])

    def zero(self, name: str) -> int | None:
        """What a silent neuron stores in rows of uint8, or None if its spikes need float32."""
        node, largest = self.graph[name], self.largest[name]
        if isinstance(node, Input):
            return self._input_zero(node)
        return largest if 2 * largest <= BYTE else None

    def _input_zero(self, node: Input) -> int | None:
        parts = self.graph.schedule.input_injection.window
        low, high = int((node.low - node.offset).min()) // parts, -(int((node.offset - node.high).min()) // parts)
        return max(0, -low) if high + max(0, -low) <= BYTE else None

    def levels(self, node: Node) -> Int64 | None:
        """What makes bytes of float32 rows that come straight from the input: int64 [neurons] as they lie in memory."""
        image = self.graph[node.inputs[0]] if isinstance(node, Flatten) else node
        if not isinstance(image, Input) or image.high - image.low > BYTE:
            return None
        added = image.offset - image.low
        positions = node.size // len(added)
        return (
            np.repeat(added, positions)
            if self._order(node) is None and node is not image
            else np.tile(added, positions)
        )

    def bounds(self, node: Node) -> tuple[Int64, Int64]:
        """Least and greatest payload that products are made for: int64 [neurons] as they lie in memory."""
        zero, largest = self.zero(node.name), self.largest[node.name]
        levels = self.levels(node)
        if zero is not None:
            low, high = -min(zero, largest), min(BYTE - zero, largest)
        elif levels is not None:
            return -levels, BYTE - levels
        else:
            low, high = -largest, largest
        return np.full(node.size, low, dtype=np.int64), np.full(node.size, high, dtype=np.int64)

    def _order(self, node: Node) -> Int64 | None:
        """Canonical index of each neuron of a source as it lies in memory; None where they agree."""
        if self.virtual(node):
            return _positions_first(self.graph[node.inputs[0]].shape)
        return _positions_first(node.shape) if len(node.shape) == 3 else None

    def _arms(self, node: Population | Readout) -> list[SynapsePlan]:
        """The synapses of a node; identities from one source with one delay (the two parts of a shortcut) as one."""
        arms: list[SynapsePlan] = []
        identities: dict[tuple[str, int], list[SynapsePlan]] = {}
        for arm in (self.synapses[name] for name in node.inputs):
            if isinstance(arm.synapse, Identity):
                identities.setdefault((arm.source, arm.synapse.delay), []).append(arm)
            else:
                arms.append(arm)
        for same in identities.values():
            weight = np.sum([arm.synapse.effective_weight for arm in same], axis=0)
            taps = np.asarray(sum(arm.weight for arm in same), dtype=np.float32)
            arms.append(replace(same[0], product=identity(weight), weight=taps) if len(same) > 1 else same[0])
        return arms

    def _next(self, name: str) -> SynapsePlan:
        """The fastest way that is left for a synapse."""
        found = next(self._ways[name], None)
        if found is None:
            raise RuntimeError(f"{name}: no way to compute this synapse gives exact sums ({self.rejected})")
        return found

    def slow_down(self, node: Population | Readout) -> None:
        """Replace the way that computes a node, which has failed its trial, by the next slower one.

        Raises RuntimeError if none is left.
        """
        names = [name for name in node.inputs if self.synapses[name].product.name == "winograd"]
        if not names and isinstance(node, Population) and node.name not in self.unfused:
            self.unfused.add(node.name)
            self.rejected.setdefault(node.name, []).append("fused")
            return
        for name in names or node.inputs:
            self.rejected.setdefault(name, []).append(self.synapses[name].product.name)
            self.synapses[name] = self._next(name)
        self.arms[node.name] = self._arms(node)

    def _agreeing(self, synapse: Synapse, private: bool) -> Iterator[SynapsePlan]:
        """Ways to compute a synapse whose products are what following spikes gives, the fastest first."""
        source = self.graph[synapse.inputs[0]]
        shape = Shape(as_map(source.shape), as_map(synapse.shape))
        order = self.order[source.name] if len(source.shape) == 1 else None
        largest = self.largest[source.name]
        taps, geometry = _followed(as_convolution(synapse, shape, order), shape)
        zero = self.zero(source.name)
        levels = self.levels(source) if zero is None else None
        for way in products(synapse, shape, largest, order, private, levels):
            if _agrees(way, taps, geometry, shape, self.bounds(source), zero):
                yield SynapsePlan(synapse, way, taps, geometry)
            else:
                self.rejected.setdefault(synapse.name, []).append(way.name)


TRIED_CHANNELS = 3
"""Source channels that send in the trial of a product: few, so that following their spikes takes no time."""


def _agrees(
    product: Product, taps: Float32, geometry: Int64, shape: Shape, bounds: tuple[Int64, Int64], zero: int | None
) -> bool:
    """Whether the product of a few rows is what following their spikes gives, at every neuron.

    bounds: of the payloads, see `Plan.bounds`.
    """
    # never the same values: what is left unwritten may hold the right answer to the values of an earlier trial
    rng = np.random.default_rng()
    channels, height, width = shape.source
    sending = rng.permutation(channels)[:TRIED_CHANNELS]
    maps = np.zeros((3, height * width, channels), dtype=np.int32)
    low, high = (each.reshape(height * width, channels)[:, sending] for each in bounds)
    values = rng.integers(low, high, (3, height * width, len(sending)))
    maps[:, :, sending] = values + (values >= 0)
    spikes = maps.reshape(3, -1)
    image, neuron = (at.astype(np.int32) for at in np.nonzero(spikes))
    expected = np.zeros((3, int(np.prod(shape.synaptic_input))), dtype=np.float32)
    nowhere = np.zeros(0, dtype=np.int64)
    scatter(image, neuron, spikes[image, neuron], taps, geometry, expected, False, nowhere, 0, nowhere, 0)
    rows = (spikes + (zero or 0)).astype(np.float32 if zero is None else np.uint8)
    synaptic_input, shift = product.call(rows, zero or 0), product.shift(rows.dtype, zero or 0)
    with np.errstate(invalid="ignore", over="ignore"):  # what a wrong product leaves unwritten may be anything
        return np.array_equal(synaptic_input - shift if len(shift) else synaptic_input, expected)


def as_map(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(C, H, W) of a node; a vector is one position of N channels."""
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (int(np.prod(shape)), 1, 1)


def largest_payloads(graph: SpikingGraph) -> Mapping[str, int]:
    """Greatest |payload| that one spike of each source can have."""
    found: dict[str, int] = {}
    for node in graph.nodes:
        if isinstance(node, Input):
            found[node.name] = int(max(np.abs(node.low - node.offset).max(), np.abs(node.high - node.offset).max()))
        elif isinstance(node, Population):
            found[node.name] = node.payload
        elif node.emits == "spikes":
            found[node.name] = max(found[name] for name in node.inputs)
    return found


def _followed(conv: Conv2d | ConvTranspose2d, shape: Shape) -> tuple[Float32, Int64]:
    """Weight and geometry for `kernels.scatter`."""
    weight, spacing, stride, padding = conv.effective_weight, (1, 1), conv.stride, conv.padding
    if isinstance(conv, ConvTranspose2d):  # the flipped kernel over the source's positions, `stride` apart
        weight, spacing, stride = weight[:, :, ::-1, ::-1], conv.stride, (1, 1)
        reach = (conv.dilation[i] * (conv.kernel[i] - 1) for i in (0, 1))
        padding = tuple(each - conv.padding[i] for i, each in enumerate(reach))  # type: ignore[assignment]
    channels, height, width = shape.synaptic_input
    places = shape.source[2], shape.source[0], height, width, channels
    geometry = np.asarray((*places, *spacing, *stride, *padding, *conv.dilation, conv.groups), dtype=np.int64)
    return _taps(weight, conv.groups), geometry


def _taps(weight: Int64, groups: int) -> Float32:
    """[O, I / groups, kh, kw] -> float32 [kh, kw, I, O / groups], the row that each source channel adds."""
    outputs, inputs, height, width = weight.shape
    grouped = weight.reshape(groups, outputs // groups, inputs, height, width)
    return np.ascontiguousarray(
        grouped.transpose(3, 4, 0, 2, 1).reshape(height, width, groups * inputs, outputs // groups), dtype=np.float32
    )


def _positions_first(shape: tuple[int, ...]) -> Int64 | None:
    """Index in C, H, W order of the neurons in H, W, C order."""
    if len(shape) != 3 or shape[0] == 1 or shape[1] * shape[2] == 1:
        return None
    return np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape).transpose(1, 2, 0).reshape(-1)


def _pool(graph: SpikingGraph, node: MaxPool2d) -> PoolPlan:
    """Windows as the pool itself defines them, read off from a map whose values are its positions."""
    height, width = graph[node.inputs[0]].shape[1:]
    windows = []
    for y in range(node.shape[1]):
        for x in range(node.shape[2]):
            rows = _inside(y, node.kernel[0], node.stride[0], node.padding[0], node.dilation[0], height)
            columns = _inside(x, node.kernel[1], node.stride[1], node.padding[1], node.dilation[1], width)
            places = [row * width + column for row in rows for column in columns]
            taps = node.kernel[0] * node.kernel[1]
            windows.append(places + [places[0]] * (taps - len(places)))  # the first again changes no maximum
    table = np.asarray(windows, dtype=np.int64)
    readers = [np.flatnonzero((table == place).any(1)) for place in range(height * width)]
    start = np.concatenate([[0], np.cumsum([len(each) for each in readers])])
    return PoolPlan(table, np.concatenate(readers).astype(np.int64), start.astype(np.int64))


def _inside(at: int, kernel: int, stride: int, padding: int, dilation: int, size: int) -> list[int]:
    taps = (at * stride - padding + k * dilation for k in range(kernel))
    return [tap for tap in taps if 0 <= tap < size]
