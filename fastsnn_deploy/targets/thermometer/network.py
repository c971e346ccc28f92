"""A spiking graph as a stock network of memoryless LIF neurons in a thermometer code: exact, one frame per step.

A count between floor and ceiling becomes (ceiling - floor) neurons, the k-th firing iff the count is at least
floor + k. With full decay of current and voltage a LIF neuron fires iff synaptic input + bias > threshold (strict),
so with the cutoff of its level as bias = threshold + 1 - cutoff it fires iff synaptic input >= cutoff.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import GraphError, Problem
from fastsnn_deploy.graph import Readout, SpikingGraph
from fastsnn_deploy.lava_dl import (
    Lif,
    StockConv,
    StockDense,
    StockFlatten,
    StockInput,
    StockLayer,
    StockNetwork,
    StockRun,
)
from fastsnn_deploy.lava_dl.hardware_check import require_stock
from fastsnn_deploy.lava_dl.limits import BIAS_MIN, MAX_INPUT_LEVELS, THRESHOLD_MAX
from fastsnn_deploy.lava_dl.thermometer import METADATA_KEY, Code, Placement
from fastsnn_deploy.passes.chain import Boundary, Chain, Copied, Part, Stage
from fastsnn_deploy.passes.levels import count_range
from fastsnn_deploy.passes.linearise import chain
from fastsnn_deploy.passes.stock_range import to_stock_range
from fastsnn_deploy.targets.thermometer.assemble import Assembly, Layer, Weights

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ThermometerNetwork:
    """A stock network and what its neurons mean.

    network: to be written or run. graph: the integer network that it equals, after `to_stock_range`. placements:
    where every unit's value is read. A frame that enters in step t is in layer k (of those with weights, from 1)
    in step t + k; a new frame may enter in every step.
    """

    network: StockNetwork
    graph: SpikingGraph
    placements: tuple[Placement, ...]
    latency: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        latency = {placement.node: placement.layer for placement in self.placements}
        object.__setattr__(self, "latency", latency)

    @property
    def depth(self) -> int:
        """Steps from a frame to the last layer."""
        return max(self.latency.values())

    @property
    def neurons(self) -> int:
        """Number of LIF neurons."""
        return sum(int(np.prod(layer.shape)) for layer in self.network.layers[1:] if not _routes(layer))

    @property
    def weights(self) -> tuple[int, int]:
        """Stored weights: how many, and how many that are not zero."""
        arrays = [layer.weight for layer in self.network.layers if isinstance(layer, (StockConv, StockDense))]
        return sum(a.size for a in arrays), sum(int(np.count_nonzero(a)) for a in arrays)

    def counts(self, layers: Mapping[int, Int64]) -> dict[str, Int64]:
        """Value of every unit whose layer is given: counts of populations and pools, potentials of readouts.

        layers: by number of the layer with weights (from 1), int [N, *layer shape] of step frame + number: its
        spikes, or for a readout its potential v in units of a weight (v >> 6). Returns int64 [N, *node shape].
        """
        values: dict[str, Int64] = {}
        for placement in self.placements:
            if placement.layer not in layers:
                continue
            given = np.asarray(layers[placement.layer])
            if placement.node not in values:
                values[placement.node] = np.zeros((len(given), *placement.shape), dtype=np.int64)
            placement.read(given, values[placement.node])
        return values

    def read(self, run: StockRun, frame: int = 0) -> dict[str, Int64]:
        """Values of every unit for the frame that entered in step `frame` of a simulated run (`lava_dl.run`)."""
        layers: dict[int, Int64] = {}
        with_weights = [i for i, layer in enumerate(self.network.layers) if isinstance(layer, (StockConv, StockDense))]
        for number, index in enumerate(with_weights, start=1):
            readout = any(p.layer == number and not p.levels for p in self.placements)
            series = run.potentials[index] if readout else run.spikes[index]
            if series is not None and frame + number < len(series):
                layers[number] = (series[frame + number] >> 6 if readout else series[frame + number]).astype(np.int64)
        return self.counts(layers)

    def plain(self) -> list[dict[str, Any]]:
        """The placements as JSON values."""
        return [placement.plain() for placement in self.placements]


def _routes(layer: StockLayer) -> bool:
    return isinstance(layer, (StockFlatten, StockInput))


def to_thermometer(graph: SpikingGraph, *, replicas: int = 8) -> ThermometerNetwork:
    """Convert a graph. Its answers equal those of the integer network `result.graph`, for every image and step.

    replicas: see `to_stock_range`; more copies of neurons carry heavier weights and so round less. Raises
    GraphError, listing every reason, where stock neurons cannot compute the graph.
    """
    graph = to_stock_range(graph, replicas=replicas)
    links = chain(graph, relay_input=False)
    _require_codable(links)
    layers, placements = _Builder(links).build()
    metadata = {METADATA_KEY: json.dumps([placement.plain() for placement in placements])}
    network = StockNetwork(tuple(layers), _message_bits(graph), metadata)
    require_stock(network, *count_range(graph, graph.input.name))
    return ThermometerNetwork(network, graph, tuple(placements))


def _require_codable(links: Chain) -> None:
    """An image that a later stage reads must become a thermometer code itself; its levels must be few."""
    image = links.graph.input
    levels = image.high - image.low
    if any(part.source == image.name for part in links.stages[0].after.parts) and levels > MAX_INPUT_LEVELS:
        what = (
            f"is read by a max pool or by more than the first layer, so each pixel would need {levels} neurons, more "
            f"than {MAX_INPUT_LEVELS}"
        )
        fix = "Put a convolution with an activation first, or use fewer input levels"
        raise GraphError("the image cannot be carried", [Problem(f"Input '{image.name}'", what, fix)])


def _message_bits(graph: SpikingGraph) -> int:
    """Payload bits of the input, sign included; 0 if it is binary."""
    low, high = count_range(graph, graph.input.name)
    if low.min() >= 0 and high.max() <= 1:
        return 0
    return int(max(high.max(), -low.min() - 1, 0)).bit_length() + int(low.min() < 0)


class _Builder:
    """Stock layers of a chain, one after another."""

    def __init__(self, links: Chain) -> None:
        self.chain = links
        self.graph = links.graph
        self.stages = links.stages
        self.weights = [Weights(links, stage) for stage in links.stages]
        boundaries = [stage.before for stage in links.stages] + [links.stages[-1].after]
        self.codes = [self._codes(i, boundary) for i, boundary in enumerate(boundaries)]
        self.silent = self._silent()

    def build(self) -> tuple[list[StockLayer], list[Placement]]:
        """Layers from the input on, and placements of all units."""
        image = self.graph.input
        layers: list[StockLayer] = [StockInput(shape=image.shape, name=image.name)]
        placements: list[Placement] = []
        for index, stage in enumerate(self.stages):
            silent = (self.silent[index], self.silent[index + 1])
            layer = Assembly(
                self.chain, stage, self.weights[index], self.codes[index], self.codes[index + 1], silent
            ).layer()
            if stage.stride is None and len(layers[-1].shape) == 3:
                layers.append(StockFlatten(shape=(int(np.prod(layers[-1].shape)),)))
            layers.append(self._stock(index, stage, layer))
            placements += self._placements(index, stage)
        return layers, placements

    def _codes(self, index: int, boundary: Boundary) -> dict[Part, Code]:
        """Code of every part of the boundary before stage `index`. The image itself stays graded."""
        codes: dict[Part, Code] = {}
        for part in boundary.parts:
            channel = self.chain.rows(part, boundary.size)
            if index == 0 or isinstance(self.graph[part.source], Readout):
                codes[part] = Code(np.zeros(part.channels, dtype=np.int64), np.ones(part.channels, dtype=np.int64))
                continue
            low, high = count_range(self.graph, part.source)
            users = self.weights[index] if index < len(self.stages) else None
            replicas = users.replicas(part) if users else np.ones(part.channels, dtype=np.int64)
            ones = 0
            if boundary.size is not None and low.min() < 0:
                ones = users.ones(part, low) if users and self.stages[index].stride is not None else 1
            codes[part] = Code((high - low)[channel], replicas, ones)
        return codes

    def _reads_out(self, stage: Stage) -> bool:
        return any(isinstance(self.graph[target.part.source], Readout) for target in stage.targets)

    def _silent(self) -> list[bool]:
        """Boundaries that need a neuron that never fires, to give a dense layer a positive weight without effect.

        Stock lava-dl cannot load a dense layer of zeros, and shifts some without positive weights by a bit too many.
        """
        silent = [False] * (len(self.stages) + 1)
        for index, stage in enumerate(self.stages):
            linked = any((weight > 0).any() for sums in self.weights[index].sums for weight in sums.values())
            copied = any(isinstance(link, Copied) for target in stage.targets for link in target.links)
            if stage.stride is None and not linked and not copied and (index or not self._reads_out(stage)):
                silent[index or 1] = True
        return silent

    def _stock(self, index: int, stage: Stage, layer: Layer) -> StockLayer:
        readout = self._reads_out(stage)
        weight = layer.weight
        low, high = self._synaptic_input(index, weight)
        if readout:
            cutoff, bias, threshold = layer.cutoff, layer.cutoff, THRESHOLD_MAX
        else:
            cutoff = np.clip(layer.cutoff, low, high + 1)
            if stage.stride is None and weight.max() <= 0 and index == 0:
                weight[-1, 0], cutoff[-1] = 1, max(int(self._input_range()[1].max()), 0) + 1
            threshold = _threshold(cutoff)
            bias = threshold + 1 - cutoff
        if stage.stride is None and index and weight.max() <= 0:
            weight[0, -1] = 1  # from the neuron that never fires
        name = "+".join(dict.fromkeys(target.part.source for target in stage.targets if target.computed)) or "relay"
        neuron = Lif(threshold)
        if stage.stride is None:
            return StockDense(shape=(len(weight),), name=name, weight=weight, bias=bias, neuron=neuron)
        assert stage.after.size is not None
        shape = (len(weight), *stage.after.size)
        return StockConv(
            shape=shape, name=name, weight=weight, bias=bias, neuron=neuron, stride=stage.stride, padding=layer.padding
        )

    def _input_range(self) -> tuple[Int64, Int64]:
        return count_range(self.graph, self.graph.input.name)

    def _synaptic_input(self, index: int, weight: Int64) -> tuple[Int64, Int64]:
        """Least and greatest synaptic input of each neuron, int64 [O]."""
        axes = tuple(range(1, weight.ndim))
        if index:
            return np.minimum(weight, 0).sum(axes), np.maximum(weight, 0).sum(axes)
        low, high = (np.repeat(bound, weight.shape[1] // len(bound)) for bound in self._input_range())
        shape = (1, -1) + (1,) * (weight.ndim - 2)
        ends = weight * np.minimum(low, 0).reshape(shape), weight * np.maximum(high, 0).reshape(shape)
        return np.minimum(*ends).sum(axes), np.maximum(*ends).sum(axes)

    def _placements(self, index: int, stage: Stage) -> list[Placement]:
        placements, start = [], 0
        grid = stage.after.size is not None
        for target in stage.targets:
            part, code = target.part, self.codes[index + 1][target.part]
            node = self.graph[part.source]
            readout = isinstance(node, Readout)
            if target.computed:
                low = np.zeros(node.channels, dtype=np.int64) if readout else count_range(self.graph, part.source)[0]
                placements.append(
                    Placement(
                        node=part.source,
                        layer=index + 1,
                        start=start,
                        shape=node.shape,
                        grid=grid,
                        offset=part.offset,
                        stride=part.stride,
                        floor=tuple(low[self.chain.rows(part, stage.after.size)].tolist()),
                        levels=() if readout else tuple(code.levels.tolist()),
                        replicas=() if readout else tuple(code.replicas.tolist()),
                    )
                )
            start += code.size
        return placements


def _threshold(cutoff: Int64) -> int:
    """The least threshold with which every bias threshold + 1 - cutoff is at least the chip's least bias."""
    return max(0, int(cutoff.max()) - 1 + BIAS_MIN)
