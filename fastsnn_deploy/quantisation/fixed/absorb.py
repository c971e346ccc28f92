"""ReLUs, max pools and repeated quantisers of a network that is quantised: one activation where integers are made.

Every step leaves all integers as they are, because rounding and clipping are monotone: round(max(a, b)) is
max(round(a), round(b)), and round(min(x, 6)) is min(round(x), round(6)).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx, nn

from fastsnn_deploy.quantisation.fixed.layers import narrowed
from fastsnn_deploy.quantisation.graph_edit import add_module
from fastsnn_deploy.quantisation.layers import QuantActivation
from fastsnn_deploy.quantisation.structure import KEEPS_GRID, RELU, VANISHES, module_at, modules, rescaled

THROUGH = (*VANISHES, nn.MaxPool2d)
"""What an activation may change places with."""


def absorb(quantised: fx.GraphModule) -> None:
    """Put every activation where its values are made, and leave out those that change nothing."""
    while any(_moved(quantised, node, module) for node, module in _activations(quantised)):
        quantised.graph.eliminate_dead_code()
    while any(_on_grid(quantised, node, module) for node, module in modules(quantised)):
        pass
    while any(_left_out(quantised, node, module) for node, module in _activations(quantised)):
        pass
    quantised.graph.eliminate_dead_code()


def _activations(quantised: fx.GraphModule) -> Iterator[tuple[fx.Node, QuantActivation]]:
    for node, module in modules(quantised):
        if isinstance(module, QuantActivation):
            yield node, module


def _moved(quantised: fx.GraphModule, node: fx.Node, activation: QuantActivation) -> bool:
    """Take the ReLU or the max pools that an activation reads before it; True if there were some."""
    between, source = [], node.all_input_nodes[0]
    while isinstance(module_at(quantised, source), THROUGH) and len(source.users) == 1:
        between.append(source)
        source = source.all_input_nodes[0]
    relu = module_at(quantised, source)
    new = activation
    if isinstance(relu, RELU):
        new = _rectified(activation, relu)
        source = source.all_input_nodes[0]
    elif not any(isinstance(module_at(quantised, each), nn.MaxPool2d) for each in between) or _owners(
        quantised, source
    ):
        return False
    with quantised.graph.inserting_after(source):
        first = quantised.graph.call_module(add_module(quantised, node, new), (source,))
    first.meta.update(node.meta)
    if between:
        between[-1].args = (first,)
    node.replace_all_uses_with(between[0] if between else first)
    quantised.graph.erase_node(node)
    return True


def _rectified(activation: QuantActivation, relu: nn.Module) -> QuantActivation:
    """An activation that is the ReLU, with its ceiling, too."""
    high = activation.high
    if isinstance(relu, nn.Hardtanh):
        top = activation(torch.full((1, 1), float(relu.max_val))) / activation.step_in_use()
        high = max(1, min(high, int(top.round())))
    return narrowed(activation, max(activation.low, 0), high)


def _on_grid(quantised: fx.GraphModule, node: fx.Node, relu: nn.Module) -> bool:
    """Make a ReLU of values on a grid an activation with the same step; True if it was one."""
    source = node.all_input_nodes[0]
    before = [module_at(quantised, owner) for owner in _owners(quantised, source) or ()]
    activations = [maker for maker in before if isinstance(maker, QuantActivation)]
    if not isinstance(relu, RELU) or not before or len(activations) < len(before) or rescaled(quantised, source):
        return False
    if len({float(each.step_in_use()) for each in activations}) > 1:
        return False
    widest = max(activations, key=lambda each: each.high)
    node.target = add_module(quantised, node, _rectified(widest, relu))
    return True


def _left_out(quantised: fx.GraphModule, node: fx.Node, activation: QuantActivation) -> bool:
    """Leave out an activation that reads its own grid, or narrow the one before it; True if it is gone."""
    owners = _owners(quantised, node.all_input_nodes[0])
    makers = [module_at(quantised, owner) for owner in owners or ()]
    if not makers or rescaled(quantised, node.all_input_nodes[0]):
        return False
    before = [maker for maker in makers if isinstance(maker, QuantActivation)]
    if len(before) < len(makers) or any(maker.step_in_use() != activation.step_in_use() for maker in before):
        return False
    if not all(activation.low <= maker.low and maker.high <= activation.high for maker in before):
        if len(before) > 1 or not _only_reader(quantised, owners[0], node):  # type: ignore[index]
            return False
        low, high = max(before[0].low, activation.low), min(before[0].high, activation.high)
        owners[0].target = add_module(quantised, owners[0], narrowed(before[0], low, high, activation.bits))  # type: ignore[index]
    node.replace_all_uses_with(node.all_input_nodes[0])
    quantised.graph.erase_node(node)
    return True


def _only_reader(quantised: fx.GraphModule, owner: fx.Node, node: fx.Node) -> bool:
    """True if nothing but `node` reads what `owner` makes, and what lies between changes places with rounding."""
    source = node.all_input_nodes[0]
    while source is not owner:
        if len(source.users) > 1 or not isinstance(module_at(quantised, source), THROUGH):
            return False
        source = source.all_input_nodes[0]
    return len(owner.users) == 1


def _owners(quantised: fx.GraphModule, node: fx.Node) -> list[fx.Node] | None:
    """The calls whose grids a node's values lie on; None if they lie on none."""
    module = module_at(quantised, node)
    if isinstance(module, QuantActivation):
        return [node]
    if not isinstance(module, KEEPS_GRID) and node.target is not torch.cat:
        return None
    found = [_owners(quantised, source) for source in node.all_input_nodes]
    return None if None in found else [owner for owners in found for owner in owners or ()]
