"""How often potentials change, as NeuroBench counts it: needs every step of every neuron, so of a few images alone."""

from __future__ import annotations

import numpy as np

from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.spike_trains import Emitted
from fastsnn_deploy.simulators import Engine, StockEngine

MOST_IMAGES = 4

MOST_VALUES = 2**23, 2**26
"""Neurons x steps x images whose series are held at a time: of several images, and of a single one."""


def membrane_updates(
    engine: Engine | StockEngine, emitted: Emitted, steps: int, fixed: bool
) -> tuple[float | None, int]:
    """Updates of all populations for one image, mean of the first images, and how many those were; None and 0 where
    memory does not hold one, and for stock networks.

    In the first step in which anything reaches a layer all its neurons count, in later ones those whose potential is
    another than before. steps: of the longest image. fixed: run exactly so many.
    """
    graph = engine.graph
    if not isinstance(graph, SpikingGraph):
        return None, 0
    size = sum(population.size for population in graph.populations) * max(steps, 1)
    if size > MOST_VALUES[1]:
        return None, 0
    images = min(MOST_IMAGES, len(emitted), max(1, MOST_VALUES[0] // max(size, 1)))
    names = [population.name for population in graph.populations]
    run = engine.run(emitted[:images], steps if fixed else None, names)
    updates, first = 0, _first_arrivals(graph)
    for population in graph.populations:
        series = run.recorded[population.name].potentials
        assert series is not None
        changed = np.diff(series, axis=0)[first[population.name] :] != 0
        updates += images * population.size + int(np.count_nonzero(changed))
    return updates / images, images


def _first_arrivals(graph: SpikingGraph) -> dict[str, int]:
    """Step in which the first of a node's first spikes can arrive; `SpikingGraph.arrival` says it of the last."""
    found: dict[str, int] = {}
    for node in graph.nodes:
        sent = (graph.depths[name] if graph.wait(graph[name]) else found[name] for name in node.inputs)
        arrivals = [step + delay for step, delay in zip(sent, node.edge_delays, strict=True)]
        found[node.name] = min(arrivals, default=0)
    return found
