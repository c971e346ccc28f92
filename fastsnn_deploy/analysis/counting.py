"""What delivers spikes in a spiking graph. Border-exact: a synapse that would read padding does not exist."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import (
    Concat,
    Flatten,
    MaxPool2d,
    Node,
    SpikingGraph,
    Synapse,
)
from fastsnn_deploy.graph.synapses import zero_exponent

Int64 = npt.NDArray[np.int64]

Connection = Synapse | MaxPool2d
"""What delivers spikes: a synapse, or a max pool, which reads its sources without one."""


def layer_nodes(graph: SpikingGraph) -> tuple[Node, ...]:
    """The nodes that are layers of a report, in order: neither synapses nor routing."""
    return tuple(node for node in graph.nodes if node.layer)


def connections_of(graph: SpikingGraph, node: Node) -> tuple[Connection, ...]:
    """What delivers spikes to a layer: its synapses, or itself for a max pool."""
    if isinstance(node, MaxPool2d):
        return (node,)
    return tuple(synapse for name in node.inputs if isinstance(synapse := graph[name], Synapse))


def fan_out(graph: SpikingGraph, connection: Connection) -> Int64:
    """Connections that leave each element of the spikes it reads: int64 of their shape.

    For a max pool, the windows that hold the element.
    """
    return connection.fan_out(graph[connection.inputs[0]].shape)


def has_multipliers(connection: Connection) -> bool:
    """It has a weight for each connection; one weight a channel folds into the threshold, and a pool has none."""
    return isinstance(connection, Synapse) and connection.multiplies


MOST_OUTPUTS = 127
"""Outputs whose binary weights are summed at a time: a weight has 8 bits."""


def effective_operations(graph: SpikingGraph, connection: Connection, number: Int64) -> int:
    """Operations with non-zero weights: binary weights applied to the number of spikes, by linearity.

    number: int64, spikes of each element of the spikes that the connection reads, flat or of their shape.
    """
    if not (isinstance(connection, Synapse) and has_multipliers(connection)):
        return 0
    groups = getattr(connection, "groups", 1)
    binary = (connection.weight != 0).reshape(groups, -1, *connection.weight.shape[1:])
    spikes, total = number.reshape(1, *graph[connection.inputs[0]].shape), 0
    for start in range(0, binary.shape[1], MOST_OUTPUTS):
        # only the sum over outputs is wanted: one output a group has it
        weight = binary[:, start : start + MOST_OUTPUTS].sum(1)
        summed = dataclasses.replace(connection, weight=weight, exponent=zero_exponent(groups))
        total += int(summed.apply(spikes).sum())
    return total


def taps(graph: SpikingGraph, name: str, delay: int = 0) -> tuple[tuple[str, int], ...]:
    """Sources behind routing nodes, each with its whole delay in steps.

    Flatten keeps C order and concat joins first axes, so the flattened sources in this order are the flattened
    spikes of node `name`.
    """
    node = graph[name]
    if isinstance(node, (Flatten, Concat)):
        arms = zip(node.inputs, node.edge_delays, strict=True)
        return tuple(tap for arm, lag in arms for tap in taps(graph, arm, delay + lag))
    return ((name, delay),)
