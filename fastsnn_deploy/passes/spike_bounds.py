"""Other spike bounds for all neurons of a graph."""

from __future__ import annotations

import dataclasses

import numpy as np

from fastsnn_deploy.graph import Population, SpikingGraph, Synapse
from fastsnn_deploy.graph.neurons import relay_bounds


def with_neurons(graph: SpikingGraph, neurons: str) -> SpikingGraph:
    """The same graph with the spike bounds of a preset in every population; relays as `relay_bounds` has it.

    Args:
        graph: any graph.
        neurons: "unary", "graded", "unsigned", or "burst4" and the like (`spike_bounds`).

    Raises:
        InputError: for an unknown preset.
    """

    def changed(node: Population) -> Population:
        low, high = relay_bounds(neurons, node.floor, node.ceiling, is_relay(graph, node))
        return dataclasses.replace(node, min_spike=low, max_spike=high)

    nodes = (changed(node) if isinstance(node, Population) else node for node in graph.nodes)
    return dataclasses.replace(graph, nodes=tuple(nodes))


def is_relay(graph: SpikingGraph, node: Population) -> bool:
    """Whether neurons only pass on, sum or divide counts: no trained weight drives them."""
    synapses = [graph[name] for name in node.inputs]
    return all(isinstance(s, Synapse) and not np.any((s.weight != 0) & (s.weight != 1)) for s in synapses)
