"""The whole way from a checkpoint to a spiking graph in one call."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Literal

from fastsnn_deploy import __version__
from fastsnn_deploy.conversion.conventional import ann_metadata
from fastsnn_deploy.conversion.lower import lower
from fastsnn_deploy.conversion.names import named, names_of
from fastsnn_deploy.conversion.quant_graph import Activation
from fastsnn_deploy.conversion.trace import trace
from fastsnn_deploy.errors import InputError, LoweringError, known_name, whole_number, wrong_type
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.preprocessing import KEY, Preprocessing
from fastsnn_deploy.graph.ranges import STATE_MAX
from fastsnn_deploy.quantisation.checkpoint import Checkpoint


def convert(
    checkpoint: Checkpoint,
    *,
    neurons: str = "unary",
    input_schedule: Literal["once", "spread"] = "once",
    bias_schedule: Literal["wave", "spread", "initial"] = "wave",
    allow_loss: bool = False,
    steps: int | None = None,
    current: bool = False,
) -> SpikingGraph:
    """The spiking graph of a checkpoint; see `converted`."""
    return converted(
        checkpoint, neurons=neurons, input_schedule=input_schedule, bias_schedule=bias_schedule, allow_loss=allow_loss,
        steps=steps, current=current,
    )[0]  # fmt: skip


def converted(
    checkpoint: Checkpoint,
    *,
    neurons: str = "unary",
    input_schedule: Literal["once", "spread"] = "once",
    bias_schedule: Literal["wave", "spread", "initial"] = "wave",
    allow_loss: bool = False,
    steps: int | None = None,
    current: bool = False,
) -> tuple[SpikingGraph, dict[str, str]]:
    """Trace and lower a checkpoint's quantised model; options as in `lower`. Raises LoweringError or InputError.

    steps: of a schedule that stops after them (`passes.window`), for which potentials leave room. current: likewise
    for an image that enters as a constant current.
    The graph's metadata names the data set, the recipe, the task and the figures of test images, where the checkpoint
    knows them, and says under `ann` what the network computes without spikes. Also returned: what the population of
    each activation's call is named.
    """
    if steps is not None:
        steps = whole_number("steps", steps, 1)
    known_name("input", input_schedule, ("once", "spread"))
    known_name("bias", bias_schedule, ("wave", "spread", "initial"))
    if not isinstance(allow_loss, bool):
        raise wrong_type("allow_loss", allow_loss, "True or False")
    graph = trace(checkpoint.model.eval(), checkpoint.input_shape)
    graph.metadata["generator"] = f"fastsnn-deploy {__version__}"
    graph.metadata["ann"] = ann_metadata(graph)
    for key in ("data", "quantised_accuracy"):
        if key in checkpoint.metadata:
            graph.metadata[key] = str(checkpoint.metadata[key])
    for key in ("task", "figures"):
        if key in checkpoint.metadata:
            graph.metadata[key] = json.dumps(checkpoint.metadata[key])
    if (known := Preprocessing.of(checkpoint.metadata)) is not None:
        answers = math.prod(next(node for node in graph.nodes if node.name == graph.output).shape)
        graph.metadata[KEY] = replace(known, classes=known.classes if len(known.classes) == answers else ()).text()
    if isinstance(recipe := checkpoint.metadata.get("recipe"), dict):
        graph.metadata["recipe"] = str(recipe.get("name"))
    made = partial(
        lower, graph, neurons=neurons, input_schedule=input_schedule, bias_schedule=bias_schedule, allow_loss=allow_loss
    )
    lowered = made()
    window = lowered.schedule.window
    if current or (steps is not None and steps > window):
        lowered = _with_room(made, steps or window, window, current)
    names = names_of(lowered)
    calls = {node.name for node in graph.nodes if isinstance(node, Activation)}
    return named(lowered), {each.name: names[each.name] for each in lowered.populations if each.name in calls}


def _with_room(made: Callable[..., SpikingGraph], steps: int, window: int, current: bool) -> SpikingGraph:
    """A network whose potentials hold what a constant current, or more steps than the window, bring.

    Raises InputError if they cannot.
    """
    too_many = f"steps={steps}: potentials do not hold what so many steps bring; a window of {window} fits. Take fewer"
    if current:
        too_many = f"potentials do not hold a whole image in each of {steps} steps. Use input='spread' (--input spread)"
    if steps > STATE_MAX:
        raise InputError(too_many)
    try:
        return made(gain=Fraction(steps, window), current=window if current else 1)
    except LoweringError as error:
        raise InputError(too_many, error.problems) from error
