"""SpikingJelly: multi-step IF neurons with soft reset, layer by layer, PyTorch backend."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fastsnn_deploy.graph import Population, Readout, SpikingGraph
from peers.base import contender, import_peer, version_of
from peers.float_network import FloatContender, FloatNetwork, synaptic_input_layers

HOW = "pip install spikingjelly (2.0 needs Python 3.11), or pass --spikingjelly FOLDER"


class Cell(nn.Module):
    """Layers over all steps, then the neuron: [T, B, ...] -> [T, B, ...]."""

    def __init__(self, layers: nn.ModuleList, neuron: nn.Module | None) -> None:
        super().__init__()
        self.layers, self.neuron = layers, neuron

    def forward(self, *sources: Tensor) -> Tensor:
        synaptic_input = self.layers[0](sources[0])
        for layer, source in zip(self.layers[1:], sources[1:], strict=True):
            synaptic_input = synaptic_input + layer(source)
        if self.neuron is None:
            return synaptic_input
        self.neuron.reset()
        self.neuron.v = 0.5
        return self.neuron(synaptic_input)


class Network(FloatNetwork):
    """All steps at once: tensors are [T, B, *shape]."""

    leading = 2

    def __init__(self, graph: SpikingGraph, steps: int, neuron: Any, layer: Any) -> None:
        self.neuron, self.layer = neuron, layer
        super().__init__(graph, steps)

    def make(self, node: Population | Readout) -> nn.Module:
        layers = synaptic_input_layers(self.graph, node, self.steps)
        steps = nn.ModuleList(self.layer.SeqToANNContainer(each) for each in layers)
        if isinstance(node, Readout):
            return Cell(steps, None)
        return Cell(steps, self.neuron.IFNode(v_threshold=1.0, v_reset=None, step_mode="m"))

    def collect(self, node: Population | Readout, value: Tensor) -> None:
        self.keep(node, value)


@contender("spikingjelly")
class SpikingJelly(FloatContender):
    """SpikingJelly."""

    title = "SpikingJelly"
    semantics = "unsigned"

    def make_network(self) -> Network:
        neuron = import_peer("spikingjelly.activation_based.neuron", self.name, self.options, HOW)
        layer = import_peer("spikingjelly.activation_based.layer", self.name, self.options, HOW)
        return Network(self.graph, self.steps, neuron, layer)

    def compute(self, current: Tensor) -> Tensor:
        return self.network(current.unsqueeze(0).repeat(self.steps, *[1] * current.dim())).sum(0)

    def details(self) -> dict[str, object]:
        return {"version": version_of("spikingjelly"), "backend": "torch", "batch": self.options.batch}
