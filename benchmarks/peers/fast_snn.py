"""The official Fast-SNN code: its `Spiking` wrappers around convolution and batch norm, signed spikes.

Weights are set to the integers of the graph, batch norm divides by the threshold, so that the wrapper's one threshold
a layer is 1. Shortcuts without a convolution scale each channel, where the published networks add spikes directly.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from fastsnn_deploy.graph import Population, Readout, SpikingGraph, Synapse
from peers.base import NotAvailableError, Options, contender
from peers.float_network import FloatContender, FloatNetwork, factor_of, layer

HOW = "git clone https://github.com/yangfan-hu/Fast-SNN and pass --fast-snn FOLDER"
MODELS = Path("image classification") / "CIFAR10_res"


def load_code(folder: Path | None) -> ModuleType:
    """Its module `models.resnet`, which holds all wrappers. Raises NotAvailableError."""
    if folder is None:
        raise NotAvailableError(f"not installed: {HOW}")
    if not (folder / MODELS / "models" / "resnet.py").exists():
        raise NotAvailableError(f"{folder} does not hold '{MODELS}': {HOW}")
    sys.path.insert(0, str(folder / MODELS))
    try:
        return importlib.import_module("models.resnet")
    finally:
        sys.path.pop(0)


def batch_norm(node: Population | Readout, steps: int) -> nn.Module:
    """A batch norm in evaluation mode that divides by the threshold and adds the bias of one step."""
    kind = nn.BatchNorm2d if len(node.shape) == 3 else nn.BatchNorm1d
    norm = kind(node.channels, eps=0.0)
    factor = factor_of(node)
    norm.weight.data = torch.from_numpy(factor).float()
    norm.bias.data = torch.from_numpy(np.broadcast_to(node.bias, node.channels) * factor / steps).float()
    return norm


class First(nn.Module):
    """The wrapper of the first layer; it changes the shape of its argument in place, so it gets a view."""

    def __init__(self, wrapper: nn.Module) -> None:
        super().__init__()
        wrapper.is_first = True
        self.wrapper = wrapper

    def forward(self, x: Tensor) -> Tensor:
        return self.wrapper(x.view_as(x))


class Network(FloatNetwork):
    """All steps at once: tensors are [B, T, *shape], the input [B, *shape], the output [B, *shape]."""

    leading = 2

    def __init__(self, graph: SpikingGraph, steps: int, code: ModuleType) -> None:
        self.code = code
        super().__init__(graph, steps)

    def make(self, node: Population | Readout) -> nn.Module:
        synapses = [self.graph[name] for name in node.inputs]
        assert all(isinstance(synapse, Synapse) for synapse in synapses)
        ones = np.ones(node.channels)
        norm = batch_norm(node, self.steps)
        main = layer(synapses[0], ones)
        if isinstance(node, Readout):
            bias = np.broadcast_to(node.bias, node.channels) / self.steps
            return self.code.last_Spiking(layer(synapses[0], ones, bias), self.steps)
        if len(synapses) == 1:
            wrapper = self.code.Spiking(nn.Sequential(main, norm, self.code.IF()), self.steps)
            return First(wrapper) if synapses[0].inputs[0] == self.graph.input.name else wrapper
        if len(synapses) > 2:
            raise NotAvailableError(f"'{node.name}' adds {len(synapses)} arms, the official code two")
        shortcut = layer(synapses[1], factor_of(node))
        return self.code.Spiking_Twoways(main, norm, self.code.IF(), shortcut, self.steps)

    def collect(self, node: Population | Readout, value: Tensor) -> None:
        self.keep(node, value.unsqueeze(0) if isinstance(node, Readout) else value.transpose(0, 1))


@contender("fast-snn")
class FastSnn(FloatContender):
    """The code that the authors of Fast-SNN published."""

    title = "Fast-SNN (official)"
    semantics = "signed, dead zone"

    def __init__(self, graph: SpikingGraph, steps: int, options: Options) -> None:
        self.code = load_code(options.fast_snn)
        super().__init__(graph, steps, options)

    def make_network(self) -> Network:
        return Network(self.graph, self.steps, self.code)

    def details(self) -> dict[str, object]:
        return {"wrappers": "image classification/CIFAR10_res", "batch": self.options.batch}
