"""What a traced network looks like: its modules, its first and last layers, and where its grids come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

from fastsnn_deploy.quantisation.filters import Filter
from fastsnn_deploy.quantisation.layers import QuantActivation, QuantInput, QuantLinear
from fastsnn_deploy.quantisation.moves import PadChannels, PadSpace, Scale, SelectChannels, Subsample

RELU = (nn.ReLU, nn.Hardtanh)
"""ReLU, and ReLU6 and other clips from 0."""
WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
"""Layers with weights."""
AVERAGE = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
BETWEEN = (*AVERAGE, Filter)
"""Layers whose results lie between two counts."""
VANISHES = (nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d)
"""Modules that compute nothing in deployment."""
MOVES = (nn.MaxPool2d, nn.Upsample, Subsample, PadChannels, SelectChannels, PadSpace)
"""Modules that select or copy spikes: what they read must be on a grid."""
KEEPS_GRID = (*VANISHES, *MOVES, Scale)

SPIKING_OUTPUT = "spiking_output"
"""Name of the activation that makes the last layer's result spikes."""


def modules(quantised: fx.GraphModule) -> Iterator[tuple[fx.Node, nn.Module]]:
    """Every call of a module, in order; a module that is called twice comes twice."""
    for node in list(quantised.graph.nodes):
        if node.op == "call_module":
            yield node, quantised.get_submodule(str(node.target))


def module_at(quantised: fx.GraphModule, node: Any) -> nn.Module | None:
    """The module that a node calls, None if it calls none."""
    return quantised.get_submodule(str(node.target)) if isinstance(node, fx.Node) and node.op == "call_module" else None


def image_readers(quantised: fx.GraphModule) -> list[fx.Node]:
    """What computes with the image, looking through what only moves pixels."""
    found, waiting = [], [node for node in quantised.graph.nodes if node.op == "placeholder"]
    while waiting:
        for user in waiting.pop().users:
            if isinstance(module_at(quantised, user), (*KEEPS_GRID, *AVERAGE, QuantInput)):
                waiting.append(user)
            else:
                found.append(user)
    return found


def averages_image(quantised: fx.GraphModule, node: fx.Node) -> bool:
    """True if a node holds averages of the image that nothing has rounded again."""
    module = module_at(quantised, node)
    if isinstance(module, (*KEEPS_GRID, *AVERAGE)):
        return averages_image(quantised, node.all_input_nodes[0])
    return isinstance(module, QuantInput) or node.op == "placeholder"


def first_layers(quantised: fx.GraphModule) -> set[fx.Node]:
    """Layers with weights that read the image."""
    return {node for node in image_readers(quantised) if isinstance(module_at(quantised, node), WEIGHTED)}


def last_layers(quantised: fx.GraphModule) -> set[fx.Node]:
    """Layers with weights whose result reaches the output without an activation between, but for a spiking output."""
    found: set[fx.Node] = set()
    waiting = list(next(node for node in quantised.graph.nodes if node.op == "output").all_input_nodes)
    while waiting:
        node = waiting.pop()
        module = module_at(quantised, node)
        if isinstance(module, WEIGHTED):
            found.add(node)
        elif not isinstance(module, (*RELU, QuantActivation)) or node.target == SPIKING_OUTPUT:
            waiting += node.all_input_nodes
    return found


def behind(quantised: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The node whose values `node` hands on unchanged."""
    while isinstance(module_at(quantised, node), VANISHES):
        node = node.all_input_nodes[0]
    return node


def grid_owners(quantised: fx.GraphModule, node: fx.Node) -> list[nn.Module]:
    """The QuantActivation or QuantInput modules whose grids `node`'s values lie on."""
    module = module_at(quantised, node)
    if isinstance(module, (QuantActivation, QuantInput)):
        return [module]
    if isinstance(module, KEEPS_GRID) or node.target is torch.cat:
        return [owner for source in node.all_input_nodes for owner in grid_owners(quantised, source)]
    return []


def folds_into_linear(quantised: fx.GraphModule, source: fx.Node, reader: nn.Module | None) -> bool:
    """True for average pool -> flatten -> linear, with dropout anywhere between."""
    return isinstance(reader, QuantLinear) and isinstance(module_at(quantised, behind(quantised, source)), AVERAGE)


def rescaled(quantised: fx.GraphModule, node: fx.Node) -> bool:
    """True if a factor lies between the node and the activations that it reads."""
    module = module_at(quantised, node)
    if isinstance(module, Scale):
        return True
    passes = isinstance(module, KEEPS_GRID) or node.target is torch.cat
    return passes and any(rescaled(quantised, source) for source in node.all_input_nodes)
