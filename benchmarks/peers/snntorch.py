"""snnTorch: `snn.Leaky` without a leak, the time loop around the whole network as in its tutorials."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fastsnn_deploy.graph import Population, Readout, SpikingGraph
from peers.base import contender, import_peer, version_of
from peers.float_network import FloatContender, FloatNetwork, synaptic_input_layers

HOW = "pip install snntorch"


class Cell(nn.Module):
    """Layers and the neuron they feed; the potential is kept between steps. Readouts have no neuron."""

    def __init__(self, layers: nn.ModuleList, neuron: nn.Module | None) -> None:
        super().__init__()
        self.layers, self.neuron = layers, neuron
        self.potential: Tensor | None = None

    def forward(self, *sources: Tensor) -> Tensor:
        synaptic_input = self.layers[0](sources[0])
        for layer, source in zip(self.layers[1:], sources[1:], strict=True):
            synaptic_input = synaptic_input + layer(source)
        if self.neuron is None:
            return synaptic_input
        potential = torch.full_like(synaptic_input, 0.5) if self.potential is None else self.potential
        spikes, self.potential = self.neuron(synaptic_input, potential)
        return spikes


class Network(FloatNetwork):
    """One step at a time: tensors are [B, *shape]."""

    def __init__(self, graph: SpikingGraph, steps: int, snn: Any) -> None:
        self.snn = snn
        super().__init__(graph, steps)

    def make(self, node: Population | Readout) -> nn.Module:
        layers = synaptic_input_layers(self.graph, node, self.steps)
        if isinstance(node, Readout):
            return Cell(layers, None)
        return Cell(layers, self.snn.Leaky(beta=1.0, threshold=1.0, reset_mechanism="subtract"))

    def reset(self) -> None:
        """Forget all potentials."""
        for module in self.modules():
            if isinstance(module, Cell):
                module.potential = None


@contender("snntorch")
class SnnTorch(FloatContender):
    """snnTorch."""

    title = "snnTorch"
    semantics = "unsigned, strict"

    def make_network(self) -> Network:
        snn = import_peer("snntorch", self.name, self.options, HOW)
        return Network(self.graph, self.steps, snn)

    def compute(self, current: Tensor) -> Tensor:
        assert isinstance(self.network, Network)
        self.network.reset()
        total = self.network(current)
        for _ in range(self.steps - 1):
            total = total + self.network(current)
        return total

    def details(self) -> dict[str, object]:
        return {"version": version_of("snntorch"), "batch": self.options.batch}
