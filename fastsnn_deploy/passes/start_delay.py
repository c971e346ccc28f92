"""Layers that wait before they fire, so that they take fewer spikes back."""

from __future__ import annotations

import dataclasses

from fastsnn_deploy.errors import GraphError, InputError, whole_number
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.passes.balance import balanced


def with_start_delay(graph: SpikingGraph, steps: int) -> SpikingGraph:
    """The same network in which every population waits `steps` steps from its first synaptic input before it fires.

    A settled count depends on the sum of all input, so it stays. A neuron that has more of its input in hand fires less
    too early, and takes less back; with 2**bits - 2 steps, when all that unary neurons send has arrived, nothing. Each
    layer, the first one too, costs as many steps more. Arms of a sum are delayed such that they still arrive together.

    Args:
        graph: Any graph without a start delay.
        steps: At least 0.

    Raises:
        InputError: `steps` is no such number or too large, or the graph has a start delay already.

    Example:
        >>> import numpy as np
        >>> import fastsnn_deploy as fd
        >>> net = fd.Graph((4,), high=3, step=1.0)
        >>> first = net.neurons(net.dense(net.image, np.eye(4, dtype=int)), threshold=1, ceiling=3)
        >>> second = net.neurons(net.dense(first, [[2, 1, -1, -1]]), threshold=2, ceiling=3)
        >>> snn, image = net.build(second), np.array([[1.0, 1, 3, 1]])
        >>> waiting = with_start_delay(snn, 2)
        >>> [fd.simulate(each, image).spikes[second.name].ravel().tolist() for each in (snn, waiting)]
        [[0, 0, 1, -1], [0, 0, 0, 0, 0, 0]]
    """
    whole_number("start_delay", steps, 0)
    if graph.schedule.start_delay:
        raise InputError(f"the network has a start delay of {graph.schedule.start_delay} steps already")
    try:
        return balanced(dataclasses.replace(graph, schedule=dataclasses.replace(graph.schedule, start_delay=steps)))
    except GraphError as error:
        raise InputError(f"start_delay={steps}: too long for this network. Take fewer", error.problems) from error
