"""Delays such that all arms of a sum arrive together."""

from __future__ import annotations

import dataclasses

from fastsnn_deploy.graph import Concat, Node, Population, Readout, SpikingGraph, Synapse


def balanced(graph: SpikingGraph) -> SpikingGraph:
    """The same graph with delays chosen so that all arms into a population, readout or concat arrive together.

    A delay is lengthened, never shortened. Balanced arms avoid negative spikes that early partial sums cause.
    """
    depths: dict[str, int] = {}
    nodes: dict[str, Node] = dict(graph.by_name)
    for node in graph.nodes:
        inputs = [nodes[name] for name in node.inputs]
        if isinstance(node, Concat):
            target = max(depths[name] for name in node.inputs)
            nodes[node.name] = dataclasses.replace(node, delays=tuple(target - depths[name] for name in node.inputs))
            depths[node.name] = target
            continue
        arrivals = [depths[name] + delay for name, delay in zip(node.inputs, node.edge_delays, strict=True)]
        wave = max(arrivals, default=0)
        depths[node.name] = wave + graph.wait(node)
        if isinstance(node, (Population, Readout)):
            for synapse, arrival in zip(inputs, arrivals, strict=True):
                if isinstance(synapse, Synapse) and arrival < wave:
                    lag = wave - arrival
                    nodes[synapse.name] = dataclasses.replace(synapse, delay=synapse.delay + lag)
                    depths[synapse.name] += lag
    return dataclasses.replace(graph, nodes=tuple(nodes[node.name] for node in graph.nodes))
