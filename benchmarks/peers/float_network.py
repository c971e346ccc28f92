"""A spiking graph as float PyTorch layers without delays, for peers that run one layer after another.

Synaptic input is divided by its population's threshold, so every neuron has threshold 1. Input and bias are constant
currents: in each of T steps an Tth part of the total flows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from fastsnn_deploy.graph import (
    Conv2d,
    Flatten,
    Identity,
    Input,
    Linear,
    MaxPool2d,
    Node,
    Population,
    Readout,
    SpikingGraph,
    SumPool2d,
    Synapse,
)
from peers.base import Contender, Int64, NotAvailableError, Options, Values


class Scale(nn.Module):
    """x * weight + bias, one value of each for every channel: [N, C, ...] -> [N, C, ...]."""

    def __init__(self, weight: Tensor, bias: Tensor, dimensions: int) -> None:
        super().__init__()
        shape = (-1,) + (1,) * (dimensions - 1)
        self.weight, self.bias = weight.reshape(shape), bias.reshape(shape)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + self.bias


def layer(synapse: Synapse, factor: np.ndarray, bias: np.ndarray | None = None) -> nn.Module:
    """A synapse as a float layer [N, *source] -> [N, *synaptic input]; its synaptic input times `factor` [C], plus
    `bias` [C]."""
    shape = (-1,) + (1,) * (synapse.weight.ndim - 1)
    weight = torch.from_numpy(synapse.effective_weight * factor.reshape(shape)).float()
    offset = None if bias is None else torch.from_numpy(np.asarray(bias, dtype=np.float64)).float()
    if isinstance(synapse, (Conv2d, Linear)):
        module = _weighted(synapse, offset is not None)
        module.weight.data = weight
        if offset is not None:
            module.bias.data = offset
        return module
    offset = torch.zeros(len(weight)) if offset is None else offset
    if isinstance(synapse, Identity):
        return Scale(weight, offset, len(synapse.shape))
    if isinstance(synapse, SumPool2d):
        taps = synapse.kernel[0] * synapse.kernel[1]
        pool = nn.AvgPool2d(synapse.kernel, synapse.stride, synapse.padding)
        return nn.Sequential(pool, Scale(weight * taps, offset, len(synapse.shape)))
    raise NotAvailableError(f"{type(synapse).__name__} '{synapse.name}' has no layer in this benchmark")


def _weighted(synapse: Conv2d | Linear, bias: bool) -> nn.Conv2d | nn.Linear:
    outputs, inputs = synapse.weight.shape[:2]
    if isinstance(synapse, Linear):
        return nn.Linear(inputs, outputs, bias, device="meta").to_empty(device="cpu")
    empty = nn.Conv2d(
        inputs * synapse.groups, outputs, synapse.kernel, synapse.stride, synapse.padding, synapse.dilation,
        synapse.groups, bias, device="meta",
    )  # fmt: skip
    return empty.to_empty(device="cpu")


def factor_of(node: Population | Readout) -> np.ndarray:
    """What synaptic input is multiplied with: 1 / threshold [C]; 1 for readouts."""
    return 1 / node.threshold if isinstance(node, Population) else np.ones(node.channels)


def synaptic_input_layers(graph: SpikingGraph, node: Population | Readout, steps: int) -> nn.ModuleList:
    """The layers into a population or readout; the first one adds the bias of one step."""
    factor = factor_of(node)
    bias = np.broadcast_to(node.bias, node.channels) * factor / steps
    synapses = [graph[name] for name in node.inputs]
    return nn.ModuleList(
        layer(synapse, factor, bias if index == 0 else None)
        for index, synapse in enumerate(synapses)
        if isinstance(synapse, Synapse)
    )


class FloatNetwork(nn.Module, ABC):
    """Goes through the graph with spikes of all T steps, or of one, at a time. Peers say how a population fires.

    leading: how many axes of a tensor come before those of a node's shape.
    """

    leading = 1

    def __init__(self, graph: SpikingGraph, steps: int) -> None:
        super().__init__()
        self.graph, self.steps = graph, steps
        self.layers = nn.ModuleDict()
        for node in graph.nodes:
            if isinstance(node, (Population, Readout)):
                self.layers[node.name.replace(".", "/")] = self.make(node)
        self.collected: dict[str, list[Tensor]] | None = None

    @abstractmethod
    def make(self, node: Population | Readout) -> nn.Module:
        """The module of a population or readout with its synapses; it is called with what the synapses read."""

    def forward(self, x: Tensor) -> Tensor:
        """From the input of the network to the output of the last node."""
        values: dict[str, Tensor] = {}
        for node in self.graph.nodes:
            if isinstance(node, Synapse):
                continue
            values[node.name] = self._value(node, values, x)
            if self.collected is not None and isinstance(node, (Population, Readout)):
                self.collect(node, values[node.name])
        return values[self.graph.outputs[0]]

    def _value(self, node: Node, values: dict[str, Tensor], x: Tensor) -> Tensor:
        if isinstance(node, Input):
            return x
        if isinstance(node, (Population, Readout)):
            sources = [values[self.graph[name].inputs[0]] for name in node.inputs]
            return self.layers[node.name.replace(".", "/")](*sources)
        if isinstance(node, Flatten):
            return values[node.inputs[0]].flatten(self.leading)
        if isinstance(node, MaxPool2d):
            return self._max_pool(node, values[node.inputs[0]])
        raise NotAvailableError(f"{type(node).__name__} '{node.name}' has no layer in this benchmark")

    def _max_pool(self, node: MaxPool2d, spikes: Tensor) -> Tensor:
        """The maximum of the spikes of each step."""
        maps = spikes.flatten(0, self.leading - 1)
        pooled = nn.functional.max_pool2d(maps, node.kernel, node.stride, node.padding, node.dilation, node.ceil_mode)
        return pooled.reshape(*spikes.shape[: self.leading], *pooled.shape[1:])

    def collect(self, node: Population | Readout, value: Tensor) -> None:
        """Keep what a node sends; peers whose tensors hold all steps bring it into the form [T, B, *shape]."""
        self.keep(node, value.unsqueeze(0))

    def keep(self, node: Population | Readout, train: Tensor) -> None:
        """Keep some steps of a node, [steps, B, *shape]."""
        assert self.collected is not None
        self.collected.setdefault(node.name, []).append(train)


class FloatContender(Contender):
    """A peer that runs a `FloatNetwork` on float tensors in batches."""

    def __init__(self, graph: SpikingGraph, steps: int, options: Options) -> None:
        super().__init__(graph, steps, options)
        if len(graph.outputs) != 1:
            raise NotAvailableError("networks with several outputs are not in this benchmark")
        torch.set_num_threads(options.threads)
        self.network = self.make_network().eval()

    @abstractmethod
    def make_network(self) -> FloatNetwork:
        """The peer's network."""

    def compute(self, current: Tensor) -> Tensor:
        """All T steps of a batch; current: float32 [B, *shape], what flows in each step."""
        return self.network(current)

    def run(self, emitted: Int64) -> object:
        torch.set_num_threads(self.options.threads)
        with torch.no_grad():
            return [self.compute(batch) for batch in self._batches(emitted)]

    def trains(self, emitted: Int64) -> Values:
        parts: list[dict[str, Tensor]] = []
        with torch.no_grad():
            for batch in self._batches(emitted):
                self.network.collected = {}
                self.compute(batch)
                parts.append({name: torch.cat(steps) for name, steps in self.network.collected.items()})
        self.network.collected = None
        return {name: torch.cat([part[name] for part in parts], 1).numpy() for name in parts[0]}

    def _batches(self, emitted: Int64) -> Sequence[Tensor]:
        return [part / self.steps for part in torch.from_numpy(emitted).float().split(self.options.batch)]
