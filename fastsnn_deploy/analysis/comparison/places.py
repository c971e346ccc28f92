"""Where a quantised model is compared with the float network: at each activation, and at the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx

from fastsnn_deploy.quantisation.layers import QUANT_WEIGHTED, QuantActivation, QuantInput
from fastsnn_deploy.quantisation.structure import behind, module_at, modules


@dataclass(frozen=True)
class Place:
    """One layer of the comparison.

    node: name of the call whose values are compared. layer: what the spiking graph calls it. module: path in the
    user's network. activation: path of the QuantActivation, "" for an answer that is none. weights: paths of the
    layers with weights between the grids before it and this one.
    """

    node: str
    layer: str
    module: str
    activation: str
    weights: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """Every module of it that rounds."""
        return tuple(filter(None, (self.activation, *self.weights)))


def places(model: fx.GraphModule, names: Mapping[str, str], answer: str) -> tuple[Place, ...]:
    """The places of a quantised model, from the image to the answer.

    Args:
        model: canonical.
        names: what a population is called, by the name of its activation's call.
        answer: what the answer is called.
    """
    ends = [node for node, module in modules(model) if isinstance(module, QuantActivation)]
    last = answer_of(model)
    if behind(model, last) not in ends:
        ends.append(last)
    return tuple(_place(model, node, names.get(node.name, answer if node is last else "")) for node in ends)


def answer_of(model: fx.GraphModule) -> fx.Node:
    """The node whose value the model returns."""
    answer: fx.Node = next(node for node in model.graph.nodes if node.op == "output").all_input_nodes[0]
    return answer


def _place(model: fx.GraphModule, node: fx.Node, name: str) -> Place:
    is_activation = isinstance(module_at(model, node), QuantActivation)
    weights, waiting, seen = [], list(node.all_input_nodes) if is_activation else [node], set()
    while waiting:
        source = waiting.pop()
        module = module_at(model, source)
        if source in seen or isinstance(module, (QuantActivation, QuantInput)):
            continue
        seen.add(source)
        if isinstance(module, QUANT_WEIGHTED):
            weights.append(str(source.target))
        waiting += source.all_input_nodes
    module_path = node.meta.get("module", "")
    activation = str(node.target) if is_activation else ""
    return Place(node.name, name or module_path or node.name, module_path, activation, tuple(dict.fromkeys(weights)))
