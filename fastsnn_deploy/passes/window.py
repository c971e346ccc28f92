"""Networks that stop after their window, as Fast-SNN, QFFS and QCFS publish them."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import GraphError, InputError, Problem, known_name, whole_number
from fastsnn_deploy.graph import Input, Node, Population, Readout, SpikingGraph, Synapse
from fastsnn_deploy.graph.arithmetic import Int64

INPUTS = ("spread", "constant")
"""How an image can enter with the published schedule."""


def for_window(
    graph: SpikingGraph, steps: int | None = None, input: Literal["spread", "constant"] = "spread"
) -> SpikingGraph:
    """The same network with the published schedule: constant input and bias, then each layer silent after its window.

    Args:
        graph: Any graph whose arms arrive together (`passes.balance`), as `convert` makes them.
        steps: T; default the graph's window. With another number, image and bias enter at the same rate for as long,
            so that counts stand for averages over T steps, as in QCFS (arXiv 2303.04347): a neuron may fire once a
            step, and what a count is worth shrinks or grows by window / T.
        input: "spread": integers enter, one part of the image a step. "constant": the official codes' constant current,
            of which a window-th of each pixel is no integer: the whole image enters in every step, and the neurons
            that read it have window times their threshold, bias and start. Every spike is then the official rule's;
            what a settled network would count stays.

    Raises:
        InputError: fewer than one step, or a network whose image is a constant current already.
        GraphError: potentials would leave their 24 bits in so many steps or with such a current (`lower` with `gain`
            and `current` leaves room for them), or neurons read the image beside spikes with a constant current.
    """
    known_name("input", input, INPUTS)
    if graph.schedule.input == "constant":
        raise InputError("the network has its schedule already: its image enters as a constant current")
    window = graph.schedule.window
    count = window if steps is None else whole_number("steps", steps, 1)
    changed: dict[str, Any] = {"input": input, "steps": None if count == window else count}
    schedule = dataclasses.replace(graph.schedule, bias="spread", stop="window", **changed)
    nodes = _for_current(graph) if input == "constant" else graph.nodes
    if schedule.gain != 1:
        nodes = tuple(_scaled(node, schedule.gain) for node in nodes)
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


def readers_of_image(graph: SpikingGraph) -> frozenset[str]:
    """Populations and readouts that read the image, and nothing else. Raises GraphError where one reads both."""
    image: set[str] = set()
    readers: set[str] = set()
    problems = []
    for node in graph.nodes:
        reads = {name in image for name in node.inputs} or {isinstance(node, Input)}
        if len(reads) == 2:
            fix = "Use input='spread', or put a layer between"
            problems.append(Problem(f"{type(node).__name__} '{node.name}'", "reads the image beside spikes", fix))
        elif True in reads:
            (readers if isinstance(node, (Population, Readout)) else image).add(node.name)
    if problems:
        raise GraphError("the image cannot enter as a constant current", problems)
    return frozenset(readers)


def _for_current(graph: SpikingGraph) -> tuple[Node, ...]:
    """Nodes for an image that enters whole in every step.

    Readers of the image have everything but their weights times the window. For the other neurons a window-th of
    the bias is spread exactly, because only whole units reach a threshold; but half of an odd threshold, from which
    they start, adds to its fraction: their channels get all numbers times two.
    """
    window, readers = graph.schedule.window, readers_of_image(graph)
    changed: dict[str, Node] = {}
    for node in graph.nodes:
        if isinstance(node, Readout) and node.name in readers:
            changed[node.name] = dataclasses.replace(node, bias=node.bias * window, scale=node.scale / window)
        elif isinstance(node, Population):
            half = node.initial == node.threshold // 2
            odd = half & (node.threshold % 2 == 1) & (node.bias % window != 0)
            times = np.full(node.channels, window) if node.name in readers else 1 + odd.astype(np.int64)
            changed[node.name] = _multiplied(node, times, half)
            for synapse in map(graph.__getitem__, node.inputs if odd.any() and node.name not in readers else ()):
                assert isinstance(synapse, Synapse)  # a rule of the graph
                changed[synapse.name] = dataclasses.replace(synapse, exponent=synapse.exponent + odd)
    return tuple(changed.get(node.name, node) for node in graph.nodes)


def _multiplied(node: Population, times: Int64, half: npt.NDArray[np.bool_]) -> Population:
    """Everything in units of a `times`-th; half: channels that start from half their threshold, and shall exactly."""
    return dataclasses.replace(
        node, threshold=node.threshold * times, bias=node.bias * times, input_scale=node.input_scale / times,
        initial=np.where(half, node.threshold * times // 2, node.initial * times),
    )  # fmt: skip
