"""The kinds of network that can be evaluated and profiled, in one table: spiking graphs and stock networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.ann import AnnCounts, ann_counts, stock_ann_counts
from fastsnn_deploy.analysis.structure import Network
from fastsnn_deploy.errors import wrong_type
from fastsnn_deploy.graph import Encoded, SpikingGraph
from fastsnn_deploy.graph.integer_network import logits
from fastsnn_deploy.graph.run import Run
from fastsnn_deploy.lava_dl import StockNetwork
from fastsnn_deploy.lava_dl import run as run_stock
from fastsnn_deploy.simulators.reference import simulate

Int64 = npt.NDArray[np.int64]
Values = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Kind:
    """What analysis asks of a kind of network.

    encode: raw images or Encoded ->
    what enters, int64 [N, *shape]. outputs: shape of each output by name. logits:
    values of the first output, [N, *shape], as real numbers. simulate: every step of a run of fixed length.
    conventional: counts of the same network without spikes, None where the network does not say which that is.
    """

    encode: Callable[[Any, Any], Encoded]
    outputs: Callable[[Any], Mapping[str, tuple[int, ...]]]
    logits: Callable[[Any, Values], npt.NDArray[np.float64]]
    simulate: Callable[[Any, Int64, int], Run]
    conventional: Callable[[Any, Int64], AnnCounts | None]


def kind_of(network: Network) -> Kind:
    """The entry of the table for a network. Raises InputError for anything else."""
    if type(network) not in KINDS:
        raise wrong_type("the network", network, "a SpikingGraph or a StockNetwork")
    return KINDS[type(network)]


def images_and_labels(network: Network, images: Any) -> tuple[Any, Any]:
    """(what the network's `encode` takes, labels or None) of images, or of a data set's images."""
    if hasattr(images, "for_input"):
        return images.for_input(network.input), images.labels.numpy()
    return images, None


def _stock_run(network: StockNetwork, emitted: Int64, steps: int) -> Run:
    length = network.steps_for(steps)
    result = run_stock(network, np.broadcast_to(emitted, (length, *emitted.shape)), length)
    spikes = {name: x for name, x in zip(network.names, result.spikes, strict=True) if x is not None}
    return Run(length, spikes, {}, {}, np.full(len(emitted), length))


KINDS: dict[type, Kind] = {
    SpikingGraph: Kind(
        encode=SpikingGraph.encode,
        outputs=lambda graph: {name: graph[name].shape for name in graph.outputs},
        logits=lambda graph, values: logits(graph, {graph.outputs[0]: values}),
        simulate=simulate,
        conventional=ann_counts,
    ),
    StockNetwork: Kind(
        encode=StockNetwork.encode,
        outputs=lambda network: {network.names[-1]: network.output_shape},
        logits=StockNetwork.logits,
        simulate=_stock_run,
        conventional=stock_ann_counts,
    ),
}
