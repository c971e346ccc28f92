"""One network in all its forms on the same images: float, quantised, integers, spikes step by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from fastsnn_deploy.analysis.curve import facts
from fastsnn_deploy.analysis.evaluate import evaluation_of
from fastsnn_deploy.analysis.evaluation import Evaluation, nothing
from fastsnn_deploy.analysis.kinds import kind_of
from fastsnn_deploy.analysis.structure import Network
from fastsnn_deploy.errors import InputError, whole_number
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.reading import json_of
from fastsnn_deploy.simulators import open_engine
from fastsnn_deploy.simulators.integer import IntegerNetwork
from fastsnn_deploy.tables import Column, Result, Table, one_line, percent, words
from fastsnn_deploy.tasks.base import Task
from fastsnn_deploy.tasks.scenes import Scenes, Truth
from fastsnn_deploy.tasks.trainer import FIGURES, stored

EARLY = (0.25, 0.5, 0.75, 1.0, 1.5)
"""When the spiking network is looked at before it has settled: shares of its window, after the first answer."""

AT_ONCE = 16
"""Images that are simulated at a time: every step of a map is kept."""

Figures = Mapping[str, float | None]


@dataclass(frozen=True, eq=False)
class TaskEvaluation(Result):
    """Figures of each form of a network, fractions from 0 to 1, None where there was nothing to find.

    forms: "float", "quantised" and "integer network" where they are known, then the SNN after numbers of steps and at
    the end. known: forms whose figures were measured when the network was trained, not now. work: settle steps, spikes
    and operations. outputs: integers at the output that were compared with the integer network's, None for a network
    that has none; different: how many of them are not equal.
    """

    task: Task
    data: str
    forms: Mapping[str, Figures]
    known: tuple[str, ...]
    work: Evaluation
    outputs: int | None
    different: int

    def __repr__(self) -> str:
        found = ", ".join(f"{name} {percent(form[self.task.metric])}" for name, form in self.forms.items())
        return one_line(f"TaskEvaluation({self.work.images:,} images, {self.task.metric}: {found})")

    @property
    def last(self) -> Figures:
        """Figures of the spiking network at the end."""
        return list(self.forms.values())[-1]

    def report(self) -> tuple[Table | str, ...]:
        """The figure of merit by form, then class by class, then the work."""
        metric, last = self.task.metric, list(self.forms)[-1]
        single = [key for key in self.last if key.startswith(f"{self.task.of_class} ")]
        general = [key for key in self.last if key not in single]
        rows = [(self._name(name), *(form.get(key) for key in general)) for name, form in self.forms.items()]
        columns = (words("network"), *(Column(key, percent) for key in general))
        found: list[Table | str] = [
            Table(f"{metric} on {self.work.images:,} images ({self.data})", columns, tuple(rows))
        ]
        if single:
            shown = [name for name in self.forms if not name.startswith("SNN") or name == last]
            heads = (words("class"), *(Column(name, percent) for name in shown))
            each = [(key.partition(" ")[2], *(self.forms[name].get(key) for name in shown)) for key in single]
            found.append(Table(f"{self.task.of_class} of each class", heads, tuple(each)))
        found.append(Table.facts("Spiking network", facts(self.work)))
        if self.outputs is not None and self.work.exact:
            found.append(
                f"settled outputs against the integer network: {self.different:,} of {self.outputs:,} integers differ"
            )
        return tuple(found)

    def _name(self, form: str) -> str:
        return f"{form} (as measured when trained)" if form in self.known else form

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        work = self.work.to_dict()
        return {
            "task": self.task.name, "metric": self.task.metric, "data": self.data, "images": self.work.images,
            "figures": {name: dict(form) for name, form in self.forms.items()},
            "measured_when_trained": list(self.known),
            "outputs_compared": self.outputs, "outputs_different": self.different if self.outputs is not None else None,
            **{key: work[key] for key in ("steps", "settle_steps", "spikes", "synaptic_operations", "per_image")},
        }  # fmt: skip


def evaluate_task(
    network: Network,
    task: Task,
    scenes: Scenes,
    *,
    quantised: nn.Module | None = None,
    floating: nn.Module | None = None,
    engine: str = "cpu",
    threads: int | None = None,
    batch: int | None = None,
    steps: int | None = None,
    at: Sequence[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TaskEvaluation:
    """Measure what a network answers, in every form that is at hand, on the same images.

    Args:
        network: a spiking graph or a stock network.
        task: what it answers.
        scenes: images of its size, with the truth.
        quantised: the quantised model in floating point, for raw images.
        floating: the float network, likewise.
        engine: as `open_engine` takes it.
        threads: likewise.
        batch: images at a time, never changes a result.
        steps: run each image for exactly so many steps; default: until it has settled.
        at: numbers of steps after which the answer is measured, too; default: some on the way.
        progress: called with (images done, in all).

    Raises:
        InputError: the network has several outputs, or the images do not fit.
    """
    outputs = kind_of(network).outputs(network)
    if len(outputs) != 1:
        raise InputError(f"the network has {len(outputs)} outputs, {task.name} needs one")
    spiking = network if isinstance(network, SpikingGraph) else None
    runner = open_engine(network, engine, threads)
    integers = None if spiking is None else IntegerNetwork(spiking, engine, threads)
    early = _early(spiking, steps) if at is None else tuple(sorted({whole_number("at", each, 1) for each in at}))
    early = tuple(each for each in early if steps is None or each < steps)
    names = [name for name, model in (("float", floating), ("quantised", quantised)) if model is not None]
    names += ["integer network"] if spiking is not None else []
    end = "SNN, settled" if steps is None else f"SNN after {steps} steps"
    meters = {name: task.meter() for name in (*names, *(f"SNN after {each} steps" for each in early), end)}
    images, total, different, compared = scenes.images(), nothing(network, (), steps), 0, 0
    size = batch or min(runner.batch_size, AT_ONCE)
    read = kind_of(network).logits
    for start in range(0, len(scenes.levels), size):
        index = torch.arange(start, min(start + size, len(scenes.levels)))
        truth, emitted = scenes.answers(index), kind_of(network).encode(network, images.for_input(network.input, index))
        run = runner.run(emitted, steps)
        (series,) = run.outputs.values()

        def add(name: str, values: Any, truth: Truth = truth) -> None:
            meters[name].add(torch.from_numpy(np.asarray(read(network, values), dtype=np.float32)), truth)

        for each in early:
            add(f"SNN after {each} steps", series[min(each, len(series)) - 1])
        add(end, series[-1])
        if integers is not None:
            values = integers.answers(emitted)
            add("integer network", values)
            compared += values.size
            different += int(np.count_nonzero(values != series[-1]))
        with torch.no_grad():
            for name, model in (("float", floating), ("quantised", quantised)):
                if model is not None:
                    meters[name].add(model.eval()(images.raw(index)).float(), truth)
        total += evaluation_of(network, run, None, (), steps)
        if progress is not None:
            progress(start + len(index), len(scenes.levels))
    forms: dict[str, Figures] = {name: stored(meter.figures()) for name, meter in meters.items()}
    counted = compared if spiking is not None else None
    return TaskEvaluation(task, scenes.name, forms, (), total, counted, different)


def figures_of(task: Task, model: nn.Module, scenes: Scenes) -> Figures:
    """How good the answers of a network for raw images are."""
    meter, images = task.meter(), scenes.images()
    model.eval()
    with torch.no_grad():
        for index in torch.split(torch.arange(len(scenes.levels)), AT_ONCE):
            meter.add(model(images.raw(index)).float(), scenes.answers(index))
    return stored(meter.figures())


def with_known(found: TaskEvaluation, metadata: Mapping[str, Any]) -> TaskEvaluation:
    """The same, with the figures that a network brings along for forms that are not at hand.

    Only for the whole of the test images that they were measured on.
    """
    held = metadata.get(FIGURES)
    figures = json_of(held, "the network", "record of its figures") if isinstance(held, str) else held or {}
    known = {name: figures[name] for name in ("float", "quantised") if name in figures and name not in found.forms}
    order = {**known, **found.forms}
    forms = {name: order[name] for name in ("float", "quantised", *order) if name in order}
    return TaskEvaluation(found.task, found.data, forms, tuple(known), found.work, found.outputs, found.different)


def _early(graph: SpikingGraph | None, steps: int | None) -> tuple[int, ...]:
    """Numbers of steps on the way of a spiking graph; none for other networks."""
    if graph is None:
        return ()
    window = graph.schedule.window
    return tuple(sorted({graph.depth + math.ceil(window * share) for share in EARLY}))
