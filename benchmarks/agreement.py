"""What each contender should compute, in exact integers, and how far it is from that.

Peers run without delays: a layer sees all T steps of the layer before it starts. Input and bias flow in T equal
parts. Multiplying everything by 2 T makes every quantity a whole number, half thresholds included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from peers.base import Contender, Int64, Values

from fastsnn_deploy.graph import Flatten, Input, MaxPool2d, Node, Population, Readout, SpikingGraph, Synapse
from fastsnn_deploy.graph.arithmetic import per_channel
from fastsnn_deploy.graph.integer_network import integer_values

Rule = Callable[[Int64, Int64, Int64], tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]
"""(potential, threshold, count) -> who sends +1, who then sends -1. All potentials are in units of 1 / (2 T)."""

DEAD_ZONE = 1e-3
"""Fast-SNN's negative threshold, in thresholds."""


def unsigned(potential: Int64, threshold: Int64, count: Int64) -> tuple[np.ndarray, np.ndarray]:
    """+1 at or above threshold. SpikingJelly, sinabs."""
    return potential >= threshold, np.zeros(potential.shape, dtype=bool)


def strict(potential: Int64, threshold: Int64, count: Int64) -> tuple[np.ndarray, np.ndarray]:
    """+1 above threshold. snnTorch."""
    return potential > threshold, np.zeros(potential.shape, dtype=bool)


def signed(potential: Int64, threshold: Int64, count: Int64) -> tuple[np.ndarray, np.ndarray]:
    """+1 at or above threshold; after that -1 below the dead zone while the net count is positive. Fast-SNN."""
    up = potential >= threshold
    down = (potential - threshold * up <= -DEAD_ZONE * threshold) & (count + up > 0)
    return up, down


RULES: dict[str, Rule] = {"unsigned": unsigned, "unsigned, strict": strict, "signed, dead zone": signed}
"""What a spike means, by the name that contenders give as their semantics."""


def expected(
    graph: SpikingGraph, emitted: Int64, steps: int, semantics: str, given: Values | None = None
) -> dict[str, npt.NDArray[np.float64]]:
    """Net counts of populations and potentials of readouts after T steps: float64 [B, *shape], exact.

    given: spikes [T, B, *shape] that the next layers see in place of those computed here.
    """
    if semantics == "integer network":
        values = integer_values(graph, emitted)
        return {n.name: values[n.name].astype(np.float64) for n in graph.nodes if isinstance(n, (Population, Readout))}
    trains: dict[str, Int64] = {}
    found: dict[str, npt.NDArray[np.float64]] = {}
    for node in graph.nodes:
        if isinstance(node, Population):
            trains[node.name] = _fire(graph, node, trains, emitted, steps, RULES[semantics])
            found[node.name] = trains[node.name].sum(0).astype(np.float64)
            if given is not None:
                trains[node.name] = np.rint(given[node.name]).astype(np.int64)
        elif isinstance(node, Readout):
            found[node.name] = _synaptic_input(graph, node, trains, emitted, steps).sum(0) / (2 * steps)
        elif isinstance(node, (Flatten, MaxPool2d)):
            trains[node.name] = _move(node, trains[node.inputs[0]])
        elif not isinstance(node, (Input, Synapse)):
            raise TypeError(f"{type(node).__name__} '{node.name}' is not in this benchmark")
    return found


def _move(node: Node, train: Int64) -> Int64:
    steps, images = train.shape[:2]
    if isinstance(node, MaxPool2d):
        return node.apply(train.reshape(steps * images, *train.shape[2:])).reshape(steps, images, *node.shape)
    return train.reshape(steps, images, *node.shape)


def _synaptic_input(graph: SpikingGraph, node: Node, trains: Mapping[str, Int64], emitted: Int64, steps: int) -> Int64:
    """Synaptic input of every step with its part of the bias: int64 [T, B, *shape], times 2 T."""
    assert isinstance(node, (Population, Readout))
    total = np.zeros((steps, len(emitted), *node.shape), dtype=np.int64)
    total += 2 * per_channel(node.bias, len(node.shape))
    for name in node.inputs:
        synapse = graph[name]
        assert isinstance(synapse, Synapse)
        if synapse.inputs[0] == graph.input.name:
            total += 2 * synapse.apply(emitted)
            continue
        for step, spikes in enumerate(trains[synapse.inputs[0]]):
            total[step] += 2 * steps * synapse.apply(spikes)
    return total


def _fire(
    graph: SpikingGraph, node: Population, trains: Mapping[str, Int64], emitted: Int64, steps: int, rule: Rule
) -> Int64:
    synaptic_input = _synaptic_input(graph, node, trains, emitted, steps)
    threshold = per_channel(node.threshold, len(node.shape)) * 2 * steps
    potential = np.broadcast_to(threshold // 2, synaptic_input.shape[1:]).copy()
    count = np.zeros(synaptic_input.shape[1:], dtype=np.int64)
    train = np.zeros(synaptic_input.shape, dtype=np.int64)
    for step in range(steps):
        potential += synaptic_input[step]
        up, down = rule(potential, threshold, count)
        train[step] = up.astype(np.int64) - down
        potential -= threshold * train[step]
        count += train[step]
    return train


def compare(contender: Contender, emitted: Int64) -> dict[str, object] | None:
    """How many counts differ from the contender's own semantics, and from the integer network.

    Differences from its own semantics are float rounding at a threshold; once one neuron differs, later ones may.
    "local" leaves out what follows: there every layer of the exact model reads the spikes that the contender sent.
    """
    if contender.semantics is None or (values := contender.values(emitted)) is None:
        return None
    graph, steps, semantics = contender.graph, contender.steps, contender.semantics
    result: dict[str, object] = {"semantics": semantics, "images": len(emitted)}
    result["own"] = _differences(graph, values, expected(graph, emitted, steps, semantics))
    if (trains := contender.trains(emitted)) is not None:
        result["local"] = _differences(graph, values, expected(graph, emitted, steps, semantics, trains))
    result["integer_network"] = _differences(graph, values, expected(graph, emitted, steps, "integer network"))
    return result


def _differences(graph: SpikingGraph, values: Values, reference: Values) -> dict[str, object]:
    populations = [node.name for node in graph.populations]
    unequal = {name: int(np.count_nonzero(np.rint(values[name]) != reference[name])) for name in populations}
    first = next((name for name in populations if unequal[name]), None)
    output = graph.outputs[0]
    error = np.abs(np.asarray(values[output], dtype=np.float64) - reference[output])
    flat = (np.asarray(array[output]).reshape(len(error), -1) for array in (values, reference))
    answers = [each.argmax(1) for each in flat]
    return {
        "counts": sum(reference[name].size for name in populations),
        "counts_differ": sum(unequal.values()),
        "first_layer_that_differs": first,
        "counts_differ_in_first": unequal[first] if first else 0,
        "over": int(sum(np.count_nonzero(np.rint(values[n]) > reference[n]) for n in populations)),
        "largest_output_error": float(error.max(initial=0.0)),
        "largest_output": float(np.abs(reference[output]).max(initial=0.0)),
        "same_class": int(np.count_nonzero(answers[0] == answers[1])),
    }


def verdict(result: Mapping[str, object] | None) -> str:
    """One line about a comparison."""
    if result is None:
        return "not compared"
    own: Any = result["own"]
    local: Any = result.get("local", own)
    right: Any = result["integer_network"]
    differ, total = own["counts_differ"], own["counts"]
    text = f"computes '{result['semantics']}': "
    if differ:
        text += (
            f"{differ:,} of {total:,} counts differ; given the same inputs {local['counts_differ']:,} (float rounding)"
        )
    else:
        text += f"equal in all {total:,} counts"
    if result["semantics"] != "integer network":
        share = right["counts_differ"] / max(total, 1)
        text += f"; {share:.2%} of counts are not those of the quantised network ({right['over']:,} too high)"
    return text
