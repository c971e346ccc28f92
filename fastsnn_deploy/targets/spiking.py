"""Targets `signed-if` and `graded`: the spiking graph itself, with neurons that send -1, 0, 1 or a whole count."""

from __future__ import annotations

from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.summary import totals
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.targets.base import Converted, Int64, target


@target("signed-if", scheduled=True)
def signed_if(graph: SpikingGraph, calibration: Int64 | None) -> Converted:
    """Integrate-and-fire neurons with the spike bounds of the network, -1 to 1 unless it asks for others."""
    return _converted(graph)


@target("graded", scheduled=True)
def graded(graph: SpikingGraph, calibration: Int64 | None) -> Converted:
    """Signed integrate-and-fire neurons, a spike carries a whole count."""
    return _converted(with_neurons(graph, "graded"))


def _converted(graph: SpikingGraph) -> Converted:
    return Converted(graph, graph, totals(graph))
