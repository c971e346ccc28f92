"""The rules of a spiking graph: one function, one sentence, all broken rules reported together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from fastsnn_deploy.errors import Problem
from fastsnn_deploy.graph.node import NODE_TYPES, Node
from fastsnn_deploy.graph.nodes import Concat, Input, Population, Readout
from fastsnn_deploy.graph.ranges import STATE_BITS, STATE_MAX
from fastsnn_deploy.graph.schedule import MOST_STEPS, MOST_WINDOW

if TYPE_CHECKING:
    from fastsnn_deploy.graph.spiking_graph import SpikingGraph

MOST_NEURONS = 2**26
"""Of one node; VGG-16 on 224 x 224 pixels has 3.2 million in its largest layer."""

Rule = Callable[["SpikingGraph"], Iterator[Problem]]


def problems_of(graph: SpikingGraph) -> list[Problem]:
    """Every broken rule. Later groups of rules run only if the earlier ones hold, since they rely on them."""
    for group in RULES:
        problems = [problem for rule in group for problem in rule(graph)]
        if problems:
            return problems
    return []


def one_input(graph: SpikingGraph) -> Iterator[Problem]:
    """The graph has exactly one input."""
    inputs = [node.name for node in graph.nodes if isinstance(node, Input)]
    if len(inputs) != 1:
        yield Problem("graph", f"has {len(inputs)} inputs {inputs}, needs exactly one")


def known_types(graph: SpikingGraph) -> Iterator[Problem]:
    """Every node is of a registered type."""
    for node in graph.nodes:
        if NODE_TYPES.get(type(node).__name__) is not type(node):
            yield Problem(_at(node), f"type {type(node).__name__} is not registered")


def outputs_exist(graph: SpikingGraph) -> Iterator[Problem]:
    """There is at least one output, and each is a readout or a population."""
    if not graph.outputs:
        yield Problem("graph", "has no output")
    for name in graph.outputs:
        if not isinstance(graph.by_name.get(name), (Readout, Population)):
            yield Problem("graph", f"output '{name}' is not a readout or a population")


def signals_match(graph: SpikingGraph) -> Iterator[Problem]:
    """Synapses, max pools, flatten and concat read spikes; populations and readouts read synaptic input."""
    for node in graph.nodes:
        if isinstance(node, Input):
            if node.inputs:
                yield Problem(_at(node), "is an input but reads other nodes")
            continue
        if not node.inputs:
            yield Problem(_at(node), "reads nothing")
        if node.arity == 1 and len(node.inputs) > 1:
            yield Problem(_at(node), f"reads {len(node.inputs)} nodes, takes one")
        for name in node.inputs:
            if graph[name].emits != node.reads:
                yield Problem(_at(node), f"reads {node.reads}, but '{name}' emits {graph[name].emits}")


def one_target(graph: SpikingGraph) -> Iterator[Problem]:
    """Each synapse feeds exactly one population or readout."""
    readers: dict[str, int] = {synapse.name: 0 for synapse in graph.synapses}
    for node in graph.nodes:
        for name in node.inputs:
            if name in readers:
                readers[name] += 1
    for name, count in readers.items():
        if count != 1:
            yield Problem(f"synapse '{name}'", f"feeds {count} populations, must feed one")


def shapes_match(graph: SpikingGraph) -> Iterator[Problem]:
    """Shapes are 1 or 3 positive sizes and follow from the inputs."""
    for node in graph.nodes:
        positive = all(size >= 1 for size in node.shape)
        if len(node.shape) not in (1, 3) or not positive or math.prod(node.shape) > MOST_NEURONS:
            what = f"shape {node.shape} is not (N,) or (C, H, W) with 1 to {MOST_NEURONS:,} elements"
            yield Problem(_at(node), what)
            continue
        try:
            _check_window(node)
            expected = node.output_shape(*(graph[name].shape for name in node.inputs))
        except (ValueError, IndexError) as error:
            yield Problem(_at(node), str(error))
            continue
        if expected != node.shape:
            yield Problem(_at(node), f"has shape {node.shape}, but its inputs make {expected}")


def _check_window(node: Node) -> None:
    for key, least in (
        ("kernel", 1),
        ("stride", 1),
        ("padding", 0),
        ("dilation", 1),
        ("factor", 1),
        ("groups", 1),
    ):
        value = getattr(node, key, None)
        pair = value if isinstance(value, tuple) else (value,)
        if value is not None and any(type(v) is not int or v < least for v in pair):
            raise ValueError(f"{key} is {value}, must hold integers of at least {least}")


def channel_arrays(graph: SpikingGraph) -> Iterator[Problem]:
    """Every per-channel array has one entry for each channel."""
    for node in graph.nodes:
        for field in node.array_dtypes:
            value = getattr(node, field)
            if field != "weight" and value.shape != (node.channels,):
                yield Problem(_at(node), f"{field} has shape {value.shape}, needs ({node.channels},)")


INTEGERS = (
    "threshold", "bias", "initial", "offset", "ceiling", "floor", "min_spike", "max_spike", "low", "high", "delay",
    "delays",
)  # fmt: skip


def integers_fit(graph: SpikingGraph) -> Iterator[Problem]:
    """Every integer of a node fits 32 signed bits, so that no later check can overflow."""
    for node in graph.nodes:
        for key in INTEGERS:
            value = np.asarray(getattr(node, key, 0))
            if value.dtype.kind not in "iu" or (value.size and np.abs(value.astype(np.float64)).max() >= 2**31):
                yield Problem(_at(node), f"{key} must hold integers of 32 signed bits")
    chosen = graph.schedule
    for key, number in (("window", chosen.window), ("steps", chosen.duration), ("start_delay", chosen.start_delay)):
        if type(number) is not int or abs(number) >= 2**31:
            yield Problem("schedule", f"{key} {number} must be an integer of 32 signed bits")


def delays_fit(graph: SpikingGraph) -> Iterator[Problem]:
    """Delays of synapses and max pools are at least 1, extra ones of a concat at least 0."""
    for node in graph.nodes:
        delays, least = (node.delays, 0) if isinstance(node, Concat) else ((getattr(node, "delay", 1),), 1)
        if any(type(delay) is not int or delay < least for delay in delays):
            yield Problem(_at(node), f"delay {delays} must hold integers of at least {least}")


def nodes_fit(graph: SpikingGraph) -> Iterator[Problem]:
    """Every node is satisfied with itself and what it reads."""
    for node in graph.nodes:
        for what in node.problems([graph[name] for name in node.inputs]):
            yield Problem(_at(node), what)


PUBLISHED = ("window", "spread", "spread"), ("window", "constant", "spread")
"""stop, input and bias of the schedules as published."""


def schedule_known(graph: SpikingGraph) -> Iterator[Problem]:
    """The schedule has a window of at least 1 and known modes."""
    schedule = graph.schedule
    for name, steps in (("window", schedule.window), ("steps", schedule.steps)):
        if steps is not None and not 1 <= steps <= MOST_WINDOW:
            yield Problem("schedule", f"{name} {steps} must be from 1 to {MOST_WINDOW:,}")
    if schedule.input not in ("once", "spread", "constant") or schedule.bias not in ("wave", "spread", "initial"):
        yield Problem("schedule", f"unknown mode input='{schedule.input}', bias='{schedule.bias}'")
    if schedule.stop not in ("settled", "window"):
        yield Problem("schedule", f"unknown mode stop='{schedule.stop}'")
    if schedule.start_delay < 0:
        yield Problem("schedule", f"start_delay {schedule.start_delay} must be at least 0")
    elif schedule.start_delay and (last := max(graph.depths.values())) > MOST_STEPS:
        what = f"start_delay {schedule.start_delay} lets the last layer start in step {last:,}, beyond {MOST_STEPS:,}"
        yield Problem("schedule", what)
    if schedule.duration != schedule.window and (schedule.stop, schedule.input, schedule.bias) not in PUBLISHED:
        what = f"{schedule.steps} steps, other than the window, need stop='window', a spread bias and no input at once"
        yield Problem("schedule", what)


def state_fits(graph: SpikingGraph) -> Iterator[Problem]:
    """No synaptic input and no potential can leave 24 signed bits, whatever the image."""
    bounds = graph.ranges
    for node in graph.nodes:
        for key in (node.name, node.name + ".potential"):
            if key in bounds and bounds[key].magnitude > STATE_MAX:
                value = "potential" if key.endswith(".potential") else node.emits
                yield Problem(
                    _at(node),
                    f"{value} may reach {bounds[key].magnitude}, beyond {STATE_BITS} signed bits ({STATE_MAX})",
                    "Use fewer weight or activation bits, or a smaller exponent, in this layer",
                )


RULES: tuple[tuple[Rule, ...], ...] = (
    (one_input, known_types, outputs_exist),
    (signals_match,),
    (one_target, shapes_match, channel_arrays, integers_fit),
    (delays_fit, nodes_fit, schedule_known),
    (state_fits,),
)


def _at(node: Node) -> str:
    origin = f" (module {node.module})" if node.module else ""
    return f"{type(node).__name__} '{node.name}'{origin}"
