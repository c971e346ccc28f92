"""The kinds of network that can be evaluated and profiled, in one table: spiking graphs and stock networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.ann import GraphCounter, StockCounter
from fastsnn_deploy.analysis.structure import Network
from fastsnn_deploy.errors import wrong_type
from fastsnn_deploy.graph import Encoded, SpikingGraph
from fastsnn_deploy.graph.integer_network import logits
from fastsnn_deploy.lava_dl import StockNetwork

Values = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Kind:
    """What analysis asks of a kind of network.

    encode: raw images or Encoded ->
    what enters, int64 [N, *shape]. outputs: shape of each output by name. logits:
    values of the first output, [N, *shape], as real numbers. conventional: what counts the same network without spikes.
    """

    encode: Callable[[Any, Any], Encoded]
    outputs: Callable[[Any], Mapping[str, tuple[int, ...]]]
    logits: Callable[[Any, Values], npt.NDArray[np.float64]]
    conventional: Callable[[Any], GraphCounter | StockCounter]


def kind_of(network: Network) -> Kind:
    """The entry of the table for a network. Raises InputError for anything else."""
    if type(network) not in KINDS:
        raise wrong_type("the network", network, "a SpikingGraph or a StockNetwork")
    return KINDS[type(network)]


KINDS: dict[type, Kind] = {
    SpikingGraph: Kind(
        encode=SpikingGraph.encode,
        outputs=lambda graph: {name: graph[name].shape for name in graph.outputs},
        logits=lambda graph, values: logits(graph, {graph.outputs[0]: values}),
        conventional=GraphCounter,
    ),
    StockNetwork: Kind(
        encode=StockNetwork.encode,
        outputs=lambda network: {network.names[-1]: network.output_shape},
        logits=StockNetwork.logits,
        conventional=StockCounter,
    ),
}
