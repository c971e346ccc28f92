"""Synaptic operations that counts alone make: what a network costs whose neurons never take a spike back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.count import Ledger
from fastsnn_deploy.analysis.structure import Network, layers_of
from fastsnn_deploy.graph import Input, MaxPool2d, SpikingGraph

Int64 = npt.NDArray[np.int64]


def fan_outs(network: Network) -> dict[str, Int64]:
    """Fan-out of every neuron that sends, all its readers together: int64 [neurons] by layer, as `count` takes it."""
    rows = Ledger(layers_of(network)).rows
    return {name: np.sum(list(fans.values()), axis=0, dtype=np.int64) for name, fans in rows.items() if fans}


def of_image(graph: SpikingGraph) -> set[str]:
    """The input and the max pools that read nothing else: what they send is a pixel in one spike."""
    found: set[str] = set()
    for node in graph.nodes:
        passes = not node.spiking or isinstance(node, MaxPool2d)
        if isinstance(node, Input) or (passes and found >= set(node.inputs)):
            found.add(node.name)
    return {name for name in found if graph[name].spiking}


def integer_operations(graph: SpikingGraph, values: Mapping[str, Int64]) -> Int64:
    """Synaptic operations of each image if every neuron sends its count in unary spikes and takes none back.

    A neuron costs |count| times its fan-out; a pixel costs its fan-out unless it is 0, for it comes in one spike.
    Settled unary neurons cost 2 * fan-out more for each spike that they take back: spikes = |count| + 2 * taken back.

    Args:
        graph: A graph whose image enters once.
        values: Of `integer_values`, int64 [N, *shape] by name.

    Returns:
        int64 [N].
    """
    pixels, total = of_image(graph), np.zeros(len(values[graph.input.name]), dtype=np.int64)
    for name, fan in fan_outs(graph).items():
        counts = np.abs(values[name]).reshape(len(total), -1)
        total += (np.minimum(counts, 1) if name in pixels else counts) @ fan
    return total
