"""`compare_targets`: one network as every target, on the same images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from fastsnn_deploy.analysis.choosing.choices import Choice, choices_named, default_choices
from fastsnn_deploy.analysis.choosing.result import Row, TargetComparison
from fastsnn_deploy.analysis.comparison.file import differences
from fastsnn_deploy.analysis.evaluate import evaluate, known_labels
from fastsnn_deploy.analysis.hardware import Hardware, load_hardware
from fastsnn_deploy.analysis.profile import profile
from fastsnn_deploy.analysis.result import Profile
from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.errors import InputError, MismatchError, require_progress, whole_number, wrong_type
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.images import images_and_labels, sliceable
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.quantisation.checkpoint import Checkpoint
from fastsnn_deploy.quantisation.given import as_checkpoint
from fastsnn_deploy.simulators.integer import integer_logits
from fastsnn_deploy.targets.base import Converted

SPIKING_IMAGES = 20
"""Images that are run step by step unless the user says how many."""

Int64 = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]


def compare_targets(
    model: nn.Module | Checkpoint | SpikingGraph | str | Path,
    images: Any,
    labels: Any = None,
    *,
    hardware: Hardware | str | Sequence[Hardware | str] = "loihi2",
    targets: Sequence[str] | None = None,
    spiking_images: int | None = None,
    input_shape: Sequence[int] | None = None,
    allow_loss: bool = False,
    progress: Progress | None = None,
) -> TargetComparison:
    """Every target for one network, measured on the same images: accuracy, energy, latency, cores, operations, spikes.

    Where a network settles exactly, its accuracy is that of its integers on all images; where it does not, that of its
    spikes: a network that stops at its window on all images, one of neurons without our count ceiling, such as
    `sigma-delta`, on those that are run step by step.

    Args:
        model: A quantised model, a Checkpoint or its path; or the settling network that `convert` makes of it.
        images: Raw, as `evaluate` takes them, or what `load_data` gives.
        labels: int [N]; None: answers are compared with those of the integer network.
        hardware: Profiles with energies, their names or paths, one or several.
        targets: Names: any target, "window" (the published schedule), "burst2" and the like, "start-delay-2" and the
            like. None: every target, and of the others those that make a difference at these bits.
        spiking_images: Of the images, how many are run step by step for counts, times and energies, the first ones;
            targets that are not exact choose their units from them, too. None: 20, or all.
        input_shape: As in `convert`.
        allow_loss: As in `convert`.
        progress: Called with (images done, in all).

    Returns:
        A row for each target and chip, those that are refused among them with the reason, and which are on the Pareto
        front of their chip.

    Raises:
        InputError: images, labels or an option do not fit, or a profile has no energies.
        LoweringError: the model has no spiking form.

    Example:
        >>> import fastsnn_deploy as fd
        >>> found = fd.compare_targets("model.pt", fd.load_data("digits"), targets=["signed-if", "graded"])
        >>> [row.target for row in found.front]
        ['graded']
    """
    require_progress(progress)
    if not isinstance(allow_loss, bool):
        raise wrong_type("allow_loss", allow_loss, "True or False")
    chips = _chips(hardware)
    chosen = None if targets is None else choices_named(targets)
    graph = _graph(model, input_shape, allow_loss)
    images, own = images_and_labels(graph, images)
    images = sliceable(images, len(graph.input.shape))
    if len(images) < 1:
        raise InputError("there is no image; a comparison needs at least one")
    few = SPIKING_IMAGES if spiking_images is None else whole_number("spiking_images", spiking_images, 1)
    few = min(few, len(images))
    known = known_labels(graph, own if labels is None else labels, len(images))
    choices = default_choices(graph) if chosen is None else chosen
    work = _Work(graph, images, known, chips, few, len(choices), progress or (lambda done, total: None))
    rows = tuple(row for choice in choices for row in work.rows(choice))
    name = next((graph.metadata[key] for key in ("name", "recipe", "data") if key in graph.metadata), "network")
    return TargetComparison(name, rows, few, known is not None)


def _chips(hardware: Any) -> tuple[Hardware, ...]:
    """Profiles that have energies, each once. Raises InputError for none, and for one without."""
    several = hardware if isinstance(hardware, (list, tuple)) else [hardware]
    if not several:
        raise InputError("hardware is empty. Name at least one profile, such as loihi2")
    chips = tuple(each if isinstance(each, Hardware) else load_hardware(each) for each in several)
    for chip in chips:
        chip.require_prices()
    return tuple({chip.name: chip for chip in chips}.values())


def _graph(model: Any, input_shape: Sequence[int] | None, allow_loss: bool) -> SpikingGraph:
    if not isinstance(model, SpikingGraph):
        return convert(as_checkpoint(model, input_shape), allow_loss=allow_loss)
    settles = model.schedule.stop == "settled" and all(population.settles for population in model.populations)
    if not settles or model.schedule.start_delay:
        raise InputError("targets are made of a network that settles, without a start delay. Give its model, model.pt")
    return with_neurons(model, "unary")


class _Work:
    """The measurements of one comparison."""

    def __init__(
        self, graph: SpikingGraph, images: Any, labels: Int64 | None, chips: tuple[Hardware, ...], few: int,
        choices: int, progress: Progress,
    ) -> None:  # fmt: skip
        self.graph, self.images, self.chips, self.few, self.progress = graph, images, chips, few, progress
        self.done, self.total = 0, choices * few * len(chips)
        self.calibration = graph.encode(images[:few])
        self.answers: list[tuple[SpikingGraph, Int64]] = []
        self.truth: Int64 | None = labels
        if labels is None and len(graph.outputs) == 1 and len(graph[graph.outputs[0]].shape) == 1:
            self.truth = self._answers(graph)

    def rows(self, choice: Choice) -> Iterator[Row]:
        """One for each chip."""
        try:
            made = choice.make(self.graph, self.calibration)
        except InputError as error:
            self._advance(self.few * len(self.chips))
            reason = "; ".join(map(str, error.problems)) or error.message
            for chip in self.chips:
                yield Row(choice.name, choice.options, chip.name, 0, None, False, None, reason)
            return
        images, right = self._right(choice, made)
        for chip in self.chips:
            found = self._profiled(made, chip)
            seen = found.evaluation.topk[0].correct if self.truth is not None else None
            if choice.exact and seen is not None and seen != self._matching(made.graph, self.few):
                raise MismatchError(f"{choice.name}: the answers are not those of the integer network")
            rated = (self.few, seen) if right is None else (images, right)
            unfit = found.unplaced if chip.chip is not None else ""
            yield Row(choice.name, choice.options, chip.name, *rated, choice.exact, found, unfit)

    def _right(self, choice: Choice, made: Converted) -> tuple[int, int | None]:
        """Images, and how many of them are answered right; None where those that are run step by step will tell."""
        count = len(self.images)
        if self.truth is None or not (choice.exact or isinstance(made.network, SpikingGraph)):
            return 0, None
        if choice.exact:
            return count, self._matching(made.graph, count)
        self.total += count
        found = evaluate(made.network, self.images, self.truth, topk=(1,), progress=self._within)
        self._advance(count)
        return count, found.topk[0].correct

    def _profiled(self, made: Converted, chip: Hardware) -> Profile:
        labels = None if self.truth is None else self.truth[: self.few]
        found = profile(made.network, self.images[: self.few], chip, labels=labels, progress=self._within)
        self._advance(self.few)
        return found

    def _matching(self, graph: SpikingGraph, count: int) -> int:
        assert self.truth is not None
        return int((self._answers(graph)[:count] == self.truth[:count]).sum())

    def _answers(self, graph: SpikingGraph) -> Int64:
        """Those of the integer network on all images, int64 [N]. Most targets compute the same one."""
        for known, answers in self.answers:
            if not differences(known, graph):
                return answers
        self.total += len(self.images)
        found = np.asarray(integer_logits(graph, self.images, progress=self._within).argmax(1))
        self._advance(len(self.images))
        self.answers.append((graph, found))
        return found

    def _within(self, done: int, total: int) -> None:
        self.progress(self.done + done, self.total)

    def _advance(self, images: int) -> None:
        self.done += images
        self.progress(self.done, self.total)
