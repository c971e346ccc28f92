"""How large one spike of each node can be: it decides in which integers it is stored and multiplied."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from fastsnn_deploy.graph import Concat, Flatten, Input, MaxPool2d, Node, Population, SpikingGraph
from fastsnn_deploy.simulators.engine import Int64


def payloads(graph: SpikingGraph) -> Mapping[str, Int64]:
    """Greatest |spike| of each channel of every spike source, int64 [C], by node name."""
    found: dict[str, Int64] = {}
    for node in graph.nodes:
        if node.emits == "spikes":
            found[node.name] = _payload(node, [found[name] for name in node.inputs if name in found])
    return found


def _payload(node: Node, sources: list[Int64]) -> Int64:
    if isinstance(node, Input):
        whole = node.range([], Fraction(1))  # parts of a spread input are no larger
        return np.maximum(-whole.low, whole.high)
    if isinstance(node, Population):
        return np.full(node.channels, node.payload, dtype=np.int64)
    if isinstance(node, MaxPool2d):
        return sources[0]  # a maximum changes by no more than what it is taken of
    if isinstance(node, Flatten):
        return sources[0].repeat(node.channels // len(sources[0]))
    if isinstance(node, Concat):
        return np.concatenate(sources)
    raise TypeError(f"{type(node).__name__} is not a spike source of a known type")
