"""The integer network as a spiking graph in which every neuron sends its whole count at once."""

from __future__ import annotations

import dataclasses

from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.passes.balance import balanced
from fastsnn_deploy.passes.spike_bounds import with_neurons


def one_pass(graph: SpikingGraph) -> SpikingGraph | None:
    """A graph of the same integer network that an engine computes in one product a synapse.

    The image enters at once, a neuron sends its count in one graded spike, and all inputs of a sum arrive together, so
    that no spike is taken back. What the graph settles to, after as many steps as it is deep, are the integers of
    `integer_values`: settled counts do not depend on schedule, spike bounds or delays.

    Returns:
        The graph; None for one whose whole image enters several times (`Schedule.repeats`).

    Example:
        >>> import numpy as np
        >>> import fastsnn_deploy as fd
        >>> net = fd.Graph((4,), high=3, step=1.0)
        >>> first = net.neurons(net.dense(net.image, np.eye(4, dtype=int)), threshold=1, ceiling=3)
        >>> snn = net.build(net.neurons(net.dense(first, [[2, 1, -1, 1]]), threshold=2, ceiling=3))
        >>> runs = [fd.simulate(each, np.array([[1.0, 1, 3, 3]])) for each in (snn, one_pass(snn))]
        >>> [run.spikes[snn.outputs[0]].ravel().tolist() for run in runs]
        [[0, 0, 1, 1], [0, 0, 2]]
    """
    if graph.schedule.repeats != 1:
        return None
    schedule = dataclasses.replace(graph.schedule, input="once", bias="wave", stop="settled", steps=None, start_delay=0)
    return balanced(with_neurons(dataclasses.replace(graph, schedule=schedule), "graded"))
