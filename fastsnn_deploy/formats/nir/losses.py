"""What of a spiking graph NIR cannot say, property by property."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastsnn_deploy.formats.nir.graph_export import bias_home, has_primitive
from fastsnn_deploy.formats.nir.report import Loss
from fastsnn_deploy.graph import Concat, Conv2d, Input, MaxPool2d, Node, Population, Readout, SpikingGraph, Synapse


def losses_of(graph: SpikingGraph) -> tuple[Loss, ...]:
    """Every loss, of the network as a whole first, then node by node."""
    found = list(_of_network(graph))
    for node in graph.nodes:
        for field, lost, consequence, changes in _of_node(graph, node):
            found.append(Loss(node.name, node.module, field, lost, consequence, changes))
    return tuple(found)


CUT = "finds the graph cut here: it must compute this operation from the Outputs '_reads' to the Input '_makes'"

Entry = tuple[str, str, str, bool]
"""field, lost, consequence, can_change_results."""


def _of_network(graph: SpikingGraph) -> Iterator[Loss]:
    schedule = graph.schedule
    whole = (
        ("integers", "integer arithmetic", "may compute in floating point, with rounding in sums beyond 2**24", True),
        (
            "schedule",
            f"window {schedule.window}, input '{schedule.input}', bias '{schedule.bias}'"
            + (f", start delay {schedule.start_delay}" if schedule.start_delay else ""),
            "has no rule for when input and bias are injected, nor for how long a run lasts",
            True,
        ),
        ("step", "a synapse takes one step", "may pass a spike through the whole network in one step", False),
    )
    for entry in whole:
        yield Loss("", "", *entry)


def _of_node(graph: SpikingGraph, node: Node) -> Iterator[Entry]:
    if not has_primitive(node):
        kind = type(node).__name__
        yield "operation", kind, CUT, True
    if isinstance(node, Input):
        lost = f"step {node.step}, levels {node.low}..{node.high}, offset, scale {node.scale}"
        yield "encoding", lost, "must be fed the integers that our input emits, not images", True
    elif isinstance(node, Population):
        yield from _of_population(node)
    elif isinstance(node, Readout):
        uniform = bool((node.scale == node.scale[0]).all())
        yield "scale", "real value of a unit", "gives integers instead of logits", not uniform
    if isinstance(node, (Population, Readout)) and node.bias.any():
        yield _of_bias(graph, node)
    if isinstance(node, (Synapse, MaxPool2d)) and node.delay > 1:
        yield (
            "delay",
            f"{node.delay} steps",
            "delivers synaptic input without this delay; NIR's Delay is in seconds",
            False,
        )
    if isinstance(node, Concat) and any(node.delays):
        yield (
            "delay",
            f"{node.delays} steps",
            "delivers synaptic input without this delay; NIR's Delay is in seconds",
            False,
        )
    if isinstance(node, Conv2d) and _odd_difference(node):
        how = "must read the file with nir.read(path, type_check=False): the check of nir 1.0.8 errs for this kernel"
        yield "kernel_check", f"kernel {node.kernel}", how, False


def _odd_difference(node: Conv2d) -> bool:
    return (node.kernel[0] - node.kernel[1]) % 2 == 1


def _of_population(node: Population) -> Iterator[Entry]:
    yield "soft_reset", "threshold is subtracted", "sets the potential to 0 after a spike and forgets the rest", True
    yield "ceiling", f"count at most {node.ceiling}", "lets neurons fire without limit", True
    yield (
        "signed_spikes",
        f"negative spikes down to a count of {node.floor}",
        "never takes back a spike that came too early",
        True,
    )
    yield "spike_bounds", f"{node.min_spike} to {node.max_spike} ({node.neurons})", *_of_spikes(node)
    if node.initial.any():
        lost = f"{node.initial.min()}..{node.initial.max()}"
        yield "initial", lost, "starts at 0, which rounds down instead of half up", True
    yield "scale", f"one count is {node.scale}", "gives counts instead of activations", False


def _of_spikes(node: Population) -> tuple[str, bool]:
    if node.payload == 1:
        return "sends at most one spike in a step, as this neuron does", False
    return "sends single spikes instead of spikes with a payload", True


def _of_bias(graph: SpikingGraph, node: Population | Readout) -> Entry:
    lost = f"{node.bias.min()}..{node.bias.max()} in total"
    if bias_home(graph, node) is None:
        return "bias", lost, "finds no bias: no primitive into this neuron has one", True
    window = graph.schedule.window
    steps = "in every step" if window == 1 else f"in every step, divided by the window of {window} steps"
    exact = not np.any(node.bias % window)
    rounding = "" if exact or window & (window - 1) == 0 else ", rounded to float32"
    return "bias", lost, f"adds it {steps}{rounding}, for as long as it runs", True
