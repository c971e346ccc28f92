"""Names of nodes after the user's own modules: `layer2.1.conv2`, not `relu_14_relu`.

A layer of neurons is called after the trained layer that drives it, and that layer's synapse after its weight, as in
PyTorch's state: `layer2.1.conv2` reads `layer2.1.conv2.weight`. Other synapses are called after the neurons they feed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from fastsnn_deploy.conversion.partial_sums import SUFFIX
from fastsnn_deploy.graph import Concat, Flatten, Input, MaxPool2d, Node, SpikingGraph, Synapse

PLAIN = {Concat: "concat", Flatten: "flatten", MaxPool2d: "max_pool"}
"""What nodes are called that no module of their own stands for."""


def named(graph: SpikingGraph) -> SpikingGraph:
    """The same graph with nodes called after modules; names stay unique.

    Args:
        graph: what `lower` made, whose nodes know their `module`.

    Returns:
        A graph with equal nodes in the same order, but for names.
    """
    names = names_of(graph)
    nodes = (
        dataclasses.replace(node, name=names[node.name], inputs=tuple(names[name] for name in node.inputs))
        for node in graph.nodes
    )
    outputs = tuple(names[name] for name in graph.outputs)
    return SpikingGraph(tuple(nodes), outputs, graph.schedule, graph.metadata)


def names_of(graph: SpikingGraph) -> Mapping[str, str]:
    """The new name of each node by its present one."""
    names: dict[str, str] = {}
    taken: set[str] = set()

    def give(node: Node, wanted: str) -> None:
        name, i = wanted, 2
        while name in taken:
            name, i = f"{wanted}.{i}", i + 1
        taken.add(name)
        names[node.name] = name

    for node in graph.nodes:
        if not isinstance(node, Synapse):
            give(node, _own_name(graph, node))
    for node in graph.nodes:
        if isinstance(node, Synapse):
            reader = next(other for other in graph.nodes if node.name in other.inputs)
            give(node, _synapse_name(node, names[reader.name]) + (".fine" if node.name.endswith(".fine") else ""))
    return names


def _own_name(graph: SpikingGraph, node: Node) -> str:
    if isinstance(node, Input):
        return "input"
    trained = [graph[name] for name in node.inputs if _weighted(graph[name])]
    if trained and SUFFIX in node.name:
        return f"{trained[0].module}{SUFFIX}"
    parts = [graph[synapse.inputs[0]] for name in node.inputs if (synapse := graph[name]).inputs]
    trained += [part for part in parts if SUFFIX in part.name and part.module]
    if trained and not node.name.endswith(".relay"):
        return trained[0].module
    plain = PLAIN.get(type(node), "neurons")
    if type(node) in PLAIN and node.module and not isinstance(node, MaxPool2d):
        return f"{node.module}.{plain}"
    return node.module or plain


def _weighted(node: Node) -> bool:
    """It holds the weights of a module."""
    return isinstance(node, Synapse) and node.multiplies and bool(node.module)


def _synapse_name(synapse: Synapse, reader: str) -> str:
    """A shortcut that some block's forward makes has the block's path, which its reader lies in: it has no weight."""
    own = _weighted(synapse) and not reader.startswith(f"{synapse.module}.")
    return f"{synapse.module}.weight" if own else f"{reader}.shortcut"
