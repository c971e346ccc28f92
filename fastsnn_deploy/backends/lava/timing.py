"""When each node works in a Lava run of many images, so that no spike of one image reaches another.

Two plans exist. *Pipelined*: images follow each other every `steps` steps, and a node of depth d runs d steps behind
the input, so every message meets the image it belongs to. That is exact if all arms into a node arrive together and
nothing happens before the first synaptic input. *Gapped*, for every other graph: all nodes work in step, and between
two images all are silent for as many steps as the longest delay, until nothing is in flight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastsnn_deploy.graph import MaxPool2d, Node, Population, SpikingGraph, Synapse


@dataclass(frozen=True)
class Timing:
    """Images every `period` steps, `steps` of which each node works; node n starts `offsets[n]` steps after the input.

    length: steps of the whole run.
    """

    steps: int
    period: int
    offsets: Mapping[str, int]
    images: int

    @property
    def length(self) -> int:
        return (self.images - 1) * self.period + self.steps


def plan(graph: SpikingGraph, images: int, steps: int) -> Timing:
    """The pipelined plan where it is exact, else the gapped one. images and steps are at least 1."""
    if pipelines(graph):
        return Timing(steps, steps, {node.name: graph.arrival(node) for node in graph.nodes}, images)
    return Timing(steps, steps + longest_lag(graph), dict.fromkeys(graph.depths, 0), images)


def pipelines(graph: SpikingGraph) -> bool:
    """Whether every arm arrives with its wave and every population rests until its first synaptic input."""
    together = all(
        graph.depths[name] + delay == graph.arrival(node)
        for node in graph.nodes
        for name, delay in zip(node.inputs, node.edge_delays, strict=True)
    )
    at_rest = all((p.initial >= 0).all() and (p.initial < p.threshold).all() for p in graph.populations)
    return together and at_rest and graph.schedule.bias != "initial"


def longest_lag(graph: SpikingGraph) -> int:
    """Steps from an emission until its last effect: delays of concats on the way and of the synapse or max pool."""
    routing: dict[str, int] = {}
    longest = 0
    for node in graph.nodes:
        arrivals = [routing[name] + delay for name, delay in zip(node.inputs, node.edge_delays, strict=True)]
        if isinstance(node, (Synapse, MaxPool2d)):
            longest = max(longest, *arrivals)
        routing[node.name] = 0 if _emits_anew(node) else max(arrivals, default=0)
    return longest


def _emits_anew(node: Node) -> bool:
    return isinstance(node, (Synapse, MaxPool2d, Population)) or not node.inputs
