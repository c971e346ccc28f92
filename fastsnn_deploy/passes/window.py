"""Networks that stop after their window, as Fast-SNN, QFFS and QCFS publish them."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import Node, Population, Readout, Schedule, SpikingGraph, Synapse
from fastsnn_deploy.graph.arithmetic import round_half_up


def for_window(graph: SpikingGraph, steps: int | None = None) -> SpikingGraph:
    """The same network with the published schedule: constant input and bias, then each layer silent after its window.

    Args:
        graph: Any graph.
        steps: T; default the graph's window. With another number, image and bias enter at the same rate for as long,
            so that counts stand for averages over T steps, as in QCFS (arXiv 2303.04347): a neuron may fire once a
            step, and what a count is worth shrinks or grows by window / T.

    Raises:
        InputError: fewer than one step.
        GraphError: potentials would leave their 24 bits in so many steps.
    """
    window = graph.schedule.window
    count = window if steps is None else steps
    if count < 1:
        raise InputError(f"steps {count} must be at least 1")
    schedule = Schedule(window, "spread", "spread", "window", None if count == window else count)
    gain = schedule.gain
    if gain == 1:
        return dataclasses.replace(graph, schedule=schedule)
    coarser = _coarser(graph, gain)
    nodes = tuple(_scaled(node, gain, coarser.get(node.name, 0)) for node in graph.nodes)
    return dataclasses.replace(graph, nodes=nodes, schedule=schedule)


def _coarser(graph: SpikingGraph, gain: Fraction) -> dict[str, int]:
    """Bits by which a neuron's unit becomes coarser, for it and its synapses: sums grow by `gain`, potentials do not.

    Weights stay what they are, since only as much of their exponents goes as there is.
    """
    wanted = max(0, (-(-gain.numerator // gain.denominator) - 1).bit_length())
    found: dict[str, int] = {}
    for node in graph.nodes:
        if isinstance(node, (Population, Readout)):
            synapses = [graph[name] for name in node.inputs]
            spare = min(int(s.exponent.min()) for s in synapses if isinstance(s, Synapse))
            found.update(dict.fromkeys((node.name, *node.inputs), min(wanted, spare)))
    return found


def _scaled(node: Node, gain: Fraction, bits: int) -> Node:
    """Counts reach `gain` times as far, and one of them is worth as much less."""
    unit = 2.0**bits
    if isinstance(node, Synapse):
        return dataclasses.replace(node, exponent=node.exponent - bits)
    if isinstance(node, Population):
        threshold = np.maximum(round_half_up(node.threshold / unit), 1)
        node = dataclasses.replace(
            node,
            threshold=threshold,
            bias=round_half_up(node.bias / unit),
            initial=threshold // 2 if bits else node.initial,
            input_scale=node.input_scale * unit,
        )
        floor, ceiling = (_away_from_zero(bound, gain) for bound in (node.floor, node.ceiling))
        wide = node.payload > 1
        low = min(node.min_spike, floor - ceiling) if wide else node.min_spike
        high = max(node.max_spike, ceiling - floor) if wide else node.max_spike
        limits: dict[str, Any] = {"floor": floor, "ceiling": ceiling, "min_spike": low, "max_spike": high}
        return dataclasses.replace(node, **limits, scale=float(node.scale / gain))
    if isinstance(node, Readout):
        return dataclasses.replace(
            node, bias=round_half_up(node.bias / unit), scale=np.asarray(node.scale * unit / float(gain))
        )
    return node


def _away_from_zero(bound: int, gain: Fraction) -> int:
    return int(np.sign(bound)) * -(-abs(bound) * gain.numerator // gain.denominator)
