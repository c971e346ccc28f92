"""A network cut where one value is all that passes: layer by layer, a residual or dense block as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.quantisation.layers import QuantActivation, QuantInput
from fastsnn_deploy.quantisation.structure import module_at

BATCH = 128
"""Images that run at a time."""


@dataclass(frozen=True)
class Segment:
    """What lies between two values, by the names of its nodes: a copy of the network has the same."""

    start: str
    nodes: tuple[str, ...]

    @property
    def end(self) -> str:
        """The node whose value leaves the segment."""
        return self.nodes[-1]

    def modules(self, network: fx.GraphModule) -> list[nn.Module]:
        """The modules it calls, in order."""
        nodes = _by_name(network)
        found = (module_at(network, nodes[name]) for name in self.nodes)
        return [module for module in found if module is not None]

    def run(self, network: fx.GraphModule, value: Tensor) -> Tensor:
        """From the value of its start [N, ...] to that of its end, with gradients."""
        nodes = _by_name(network)
        interpreter = fx.Interpreter(network, garbage_collect_values=False)
        interpreter.env = {nodes[self.start]: value}
        for name in self.nodes:
            interpreter.env[nodes[name]] = interpreter.run_node(nodes[name])
        result: Tensor = interpreter.env[nodes[self.end]]
        return result

    def run_all(self, network: fx.GraphModule, values: Tensor) -> Tensor:
        """`run` without gradients, some images at a time."""
        with torch.no_grad():
            return torch.cat([self.run(network, part) for part in torch.split(values, BATCH)])


def segments(network: fx.GraphModule) -> Iterator[Segment]:
    """The segments of a quantised model, from the image to the output; each starts where the one before ends."""
    nodes = [node for node in network.graph.nodes if node.op != "output"]
    place = {node: index for index, node in enumerate(nodes)}
    start, inside, far = nodes[0], [], 0
    for index, node in enumerate(nodes):
        if index:
            inside.append(node.name)
        grid = isinstance(module_at(network, node), (QuantActivation, QuantInput))
        if inside and (index + 1 == len(nodes) or (far <= index and grid)):
            yield Segment(start.name, tuple(inside))
            start, inside = node, []
        far = max([far, *(place.get(user, 0) for user in node.users)])


def _by_name(network: fx.GraphModule) -> dict[str, fx.Node]:
    return {node.name: node for node in network.graph.nodes}
