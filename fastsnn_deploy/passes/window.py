"""Networks that stop after their window, as Fast-SNN, QFFS and QCFS publish them."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np

from fastsnn_deploy.errors import whole_number
from fastsnn_deploy.graph import Node, Population, Readout, Schedule, SpikingGraph


def for_window(graph: SpikingGraph, steps: int | None = None) -> SpikingGraph:
    """The same network with the published schedule: constant input and bias, then each layer silent after its window.

    Args:
        graph: Any graph.
        steps: T; default the graph's window. With another number, image and bias enter at the same rate for as long,
            so that counts stand for averages over T steps, as in QCFS (arXiv 2303.04347): a neuron may fire once a
            step, and what a count is worth shrinks or grows by window / T.

    Raises:
        InputError: fewer than one step.
        GraphError: potentials would leave their 24 bits in so many steps (`lower` with `gain` leaves room for them).
    """
    window = graph.schedule.window
    count = window if steps is None else whole_number("steps", steps, 1)
    schedule = Schedule(window, "spread", "spread", "window", None if count == window else count)
    gain = schedule.gain
    if gain == 1:
        return dataclasses.replace(graph, schedule=schedule)
    nodes = tuple(_scaled(node, gain) for node in graph.nodes)
    return dataclasses.replace(graph, nodes=nodes, schedule=schedule)


def _scaled(node: Node, gain: Fraction) -> Node:
    """Counts reach `gain` times as far, and one of them is worth as much less."""
    if isinstance(node, Population):
        floor, ceiling = (_away_from_zero(bound, gain) for bound in (node.floor, node.ceiling))
        wide = node.payload > 1
        low = min(node.min_spike, floor - ceiling) if wide else node.min_spike
        high = max(node.max_spike, ceiling - floor) if wide else node.max_spike
        limits: dict[str, Any] = {"floor": floor, "ceiling": ceiling, "min_spike": low, "max_spike": high}
        return dataclasses.replace(node, **limits, scale=float(node.scale / gain))
    if isinstance(node, Readout):
        return dataclasses.replace(node, scale=np.asarray(node.scale / float(gain)))
    return node


def _away_from_zero(bound: int, gain: Fraction) -> int:
    return int(np.sign(bound)) * -(-abs(bound) * gain.numerator // gain.denominator)
