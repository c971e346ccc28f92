"""sinabs: integrate-and-fire layers that emit at most one spike a step, time folded into the batch."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fastsnn_deploy.graph import Population, Readout, SpikingGraph
from peers.base import contender, import_peer, version_of
from peers.float_network import FloatContender, FloatNetwork, synaptic_input_layers

HOW = "pip install sinabs, or pass --sinabs FOLDER"


class Cell(nn.Module):
    """Layers and the neurons they feed: [B * T, ...] -> [B * T, ...]."""

    def __init__(self, layers: nn.ModuleList, neuron: nn.Module | None, steps: int) -> None:
        super().__init__()
        self.layers, self.neuron, self.steps = layers, neuron, steps

    def forward(self, *sources: Tensor) -> Tensor:
        synaptic_input = self.layers[0](sources[0])
        for layer, source in zip(self.layers[1:], sources[1:], strict=True):
            synaptic_input = synaptic_input + layer(source)
        if self.neuron is None:
            return synaptic_input
        self.neuron.init_state_with_shape((len(synaptic_input) // self.steps, *synaptic_input.shape[1:]))
        self.neuron.v_mem.fill_(0.5)
        return self.neuron(synaptic_input)


class Network(FloatNetwork):
    """All steps at once: tensors are [B * T, *shape]."""

    def __init__(self, graph: SpikingGraph, steps: int, layers: Any, activation: Any) -> None:
        self.sinabs_layers, self.activation = layers, activation
        super().__init__(graph, steps)

    def make(self, node: Population | Readout) -> nn.Module:
        layers = synaptic_input_layers(self.graph, node, self.steps)
        if isinstance(node, Readout):
            return Cell(layers, None, self.steps)
        neuron = self.sinabs_layers.IAFSqueeze(num_timesteps=self.steps, spike_fn=self.activation.SingleSpike)
        return Cell(layers, neuron, self.steps)

    def collect(self, node: Population | Readout, value: Tensor) -> None:
        self.keep(node, value.unflatten(0, (-1, self.steps)).transpose(0, 1))


@contender("sinabs")
class Sinabs(FloatContender):
    """sinabs."""

    title = "sinabs"
    semantics = "unsigned"

    def make_network(self) -> Network:
        layers = import_peer("sinabs.layers", self.name, self.options, HOW)
        activation = import_peer("sinabs.activation", self.name, self.options, HOW)
        return Network(self.graph, self.steps, layers, activation)

    def compute(self, current: Tensor) -> Tensor:
        return self.network(current.repeat_interleave(self.steps, 0)).unflatten(0, (-1, self.steps)).sum(1)

    def details(self) -> dict[str, object]:
        return {"version": version_of("sinabs"), "batch": self.options.batch}
