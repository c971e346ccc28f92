"""`compare`: one network as float, quantised model, integers and spikes on the same images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from fastsnn_deploy.analysis.agreement import cause
from fastsnn_deploy.analysis.comparison.advice import MOST, Adviser, Tried
from fastsnn_deploy.analysis.comparison.forms import Forms, Shown, forms_of, shown
from fastsnn_deploy.analysis.comparison.judge import Judge, error_of
from fastsnn_deploy.analysis.comparison.layers import LayerLoss, LayerTally, values_of
from fastsnn_deploy.analysis.comparison.result import Comparison, Stage, Step
from fastsnn_deploy.analysis.comparison.spiking import SpikingAnswers, spiking_answers
from fastsnn_deploy.analysis.comparison.verdict import is_lost
from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.errors import InputError, LoweringError, require_progress, whole_number, wrong_type
from fastsnn_deploy.formats.base import Network
from fastsnn_deploy.graph import Encoded, Population, Schedule, SpikingGraph
from fastsnn_deploy.graph.integer_network import logits
from fastsnn_deploy.graph.preprocessing import Preprocessing
from fastsnn_deploy.graph.summary import totals
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.quantisation.checkpoint import Checkpoint
from fastsnn_deploy.quantisation.given import as_checkpoint
from fastsnn_deploy.quantisation.layers import quantisers_off
from fastsnn_deploy.simulators.integer import layer_values

SPIKING_OPERATIONS, TRIAL_OPERATIONS = 1.5e11, 4e11
"""Synaptic operations, and multiply-accumulates, that spikes and trials may cost: fewer images of large networks."""

FEWEST, FITTED = 16, 128
"""Images below which nothing is advised, and the most that steps and biases are set from: a quarter at most."""

MEMORY = 2**27
"""Bytes of the values of one batch, at all layers."""

NO_GUIDE = 0.01
"""By so much more accurate than the float network, a quantised model is judged by the labels."""

Float64 = npt.NDArray[np.float64]


def compare(
    model: nn.Module | Checkpoint | str | Path,
    images: Any,
    labels: Any = None,
    *,
    net: Network | str | Path | None = None,
    float_model: nn.Module | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    input_shape: Sequence[int] | None = None,
    neurons: str | None = None,
    steps: int | None = None,
    allow_loss: bool = False,
    advise: bool = True,
    spiking_images: int | None = None,
    output: str | int | None = None,
    replace_activations: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Where accuracy goes between a float network and its spikes, layer by layer, and what brings it back.

    Args:
        model: A quantised model, a Checkpoint, or the path of one; it stays as it is.
        images: Raw, as `evaluate` takes them, or what `load_data` gives. 500 are plenty.
        labels: int [N]; None leaves accuracy out, and agreement and errors tell.
        net: The exported network, or its file; None: the model is converted.
        float_model: The float network that the model was made from; None: the model without its quantisers.
        mean: What its images were normalised with, per channel; None: what the model, or the data set, knows.
        std: Likewise.
        input_shape: As in `convert`.
        neurons: Of the converted network, as in `convert`; None: unary up to 4 bits, then graded.
        steps: Exactly so many steps for each image; None: until it has settled.
        allow_loss: As in `convert`.
        advise: Try what could help: steps, equalisation, biases, bits of single layers.
        spiking_images: Of the images, how many the spiking network sees, the first ones; None: what takes seconds.
        output: Of `float_model`, as in `prepare`.
        replace_activations: Likewise.
        progress: Called with (parts done, in all).

    Returns:
        Accuracies of all forms and after each step, what each layer loses, and the verdict. Its `model` has the advice
        taken: measured on images other than those it was made from, and convertible.

    Raises:
        InputError: images, labels or an option do not fit, or `net` takes other images than the model.
        LoweringError: the model has no spiking form, or the float network cannot be captured.

    Example:
        >>> import fastsnn_deploy as fd
        >>> found = fd.compare("model.pt", fd.load_data("digits"), net="model.net", advise=False)
        >>> found.same, [stage.name for stage in found.stages]
        (True, ['float', 'quantised', 'integer', 'SNN'])
    """
    require_progress(progress)
    if not isinstance(advise, bool):
        raise wrong_type("advise", advise, "True or False")
    if float_model is not None and not isinstance(float_model, nn.Module):
        raise wrong_type("float_model", float_model, "a torch.nn.Module: what fd.load_model gives")
    if steps is not None:
        steps = whole_number("steps", steps, 1)
    if float_model is not None and hasattr(images, "for_input"):
        known = Preprocessing.of(as_checkpoint(model, input_shape).metadata) or images
        mean = known.mean if mean is None else mean
        std = known.std if std is None else std
    options = {"output": output, "replace_activations": replace_activations}
    given = {"mean": mean, "std": std, **options}
    if float_model is None and (unused := [name for name, value in given.items() if value is not None]):
        raise InputError(f"{', '.join(unused)}: of the float network, which is not given. Give it as float_model")
    forms = forms_of(model, net, float_model, mean, std, input_shape, neurons, allow_loss, options)
    seen = shown(forms, images, labels)
    few = _spiking_images(forms, len(seen)) if spiking_images is None else spiking_images
    few = min(len(seen), whole_number("spiking_images", few, 1))
    work = _Work(forms, seen, few, steps, allow_loss, advise, progress or (lambda done, total: None))
    return work.run(getattr(images, "name", ""))


class _Work:
    """The measurements in their order."""

    def __init__(
        self, forms: Forms, seen: Shown, few: int, steps: int | None, allow_loss: bool, advise: bool,
        progress: Callable[[int, int], None],
    ) -> None:  # fmt: skip
        self.forms, self.seen, self.few, self.steps, self.allow_loss = forms, seen, few, steps, allow_loss
        self.advise, self.progress = advise and len(seen) >= FEWEST, progress
        self.trial = max(1, len(seen) // 4)
        self.done, self.total = 0, len(seen) + few + (self.trial * (MOST + 1) if self.advise else 0)
        self.labels_guide = False

    def run(self, data: str) -> Comparison:
        """Layers and answers first, then spikes, then advice where something is lost."""
        forms, seen = self.forms, self.seen
        tallies, answers = self._layers()
        stages = list(self._stages(answers))
        floating, quantised = stages[:2]
        self.labels_guide = (quantised.accuracy or 0.0) - (floating.accuracy or 0.0) > NO_GUIDE
        spikes = spiking_answers(forms.deployed, seen.levels[: self.few], self.steps, self._advance)
        wanted = answers["integer"][: self.few].argmax(1)
        stages.append(self._stage("SNN", spikes.answers, wanted, answers["float"]))
        settled = self._settled(stages[-1], wanted, answers["float"])
        tried, images = None, (0, 0)
        if self.advise and (self.labels_guide or is_lost(floating, quantised, False)):
            tried, images = self._advice(answers["float"])
        self.progress(self.total, self.total)
        layers = tuple(self._finished(tallies, {} if tried is None else tried.losses))
        exact = None
        if forms.differences:
            exact = self._stage("integer", answers["converted"], answers["quantised"].argmax(1), answers["float"])
        return Comparison(
            images=len(seen), data=data, file=forms.file, float_form=forms.reference.form, stages=tuple(stages),
            steps=tuple(self._steps(spikes, wanted)), settle_steps=float(spikes.settle_steps.mean()),
            neurons=_neurons(forms.deployed), layers=layers, advice=() if tried is None else tried.advice,
            tried=0 if tried is None else tried.tried, fitted=images[0], judged=images[1], advised=tried is not None,
            labels_guide=self.labels_guide, file_differences=forms.differences, converted=exact,
            cause=self._cause(layers), why_unsettled=_why(forms.deployed, self.steps),
            settled=None if settled is None else settled[0], settled_after=0.0 if settled is None else settled[1],
            notes=self._notes(), model=forms.model if tried is None else tried.model,
        )  # fmt: skip

    def _advance(self, done: int) -> None:
        self.progress(min(len(self.seen) + done, self.total), self.total)

    def _layers(self) -> tuple[list[LayerTally], dict[str, Float64]]:
        """Sums of each layer, and the answers of each form: float64 [N, ...]."""
        forms, seen = self.forms, self.seen
        tallies = [LayerTally(forms.model, place) for place in forms.places]
        found: dict[str, list[Float64]] = {}
        for chosen in _batches(forms, len(seen)):
            batch = values_of(forms.model, forms.reference.layers, (p.node for p in forms.places), seen.raw(chosen))
            counts, in_file, integers = self._integers(seen.emitted[chosen])
            for tally in tallies:
                node = tally.place.node
                tally.add(
                    batch.wanted[node], batch.found[node], batch.alone[node], batch.entered[node], counts.get(node),
                    in_file.get(node),
                )  # fmt: skip
            last = forms.places[-1].node
            forms_answers = {"float": batch.wanted[last], "quantised": batch.found[last]}
            if forms.reference.answers is not forms.reference.layers:
                with torch.no_grad(), quantisers_off(forms.reference.answers):
                    forms_answers["float"] = forms.reference.answers(seen.raw(chosen))
            integers |= {name: values.double().numpy() for name, values in forms_answers.items()}
            for name, values in integers.items():
                found.setdefault(name, []).append(values)
            self.progress(chosen.stop, self.total)
        return tallies, {name: np.concatenate(parts) for name, parts in found.items()}

    def _integers(
        self, emitted: npt.NDArray[np.int64]
    ) -> tuple[dict[str, npt.NDArray[np.int64]], dict[str, npt.NDArray[np.int64]], dict[str, Float64]]:
        """Counts by call of the network shown and, if the file holds another, of the file; and the answers."""
        forms, graph = self.forms, self.forms.truth
        values = layer_values(graph, Encoded(emitted), [*forms.names.values(), graph.outputs[0]])
        counts = {call: values[name] for call, name in forms.names.items()}
        answers = {"integer": logits(graph, values)}
        if not forms.differences:
            return counts, {}, answers
        other = forms.integer
        theirs = layer_values(other, Encoded(emitted), [*forms.names.values(), other.outputs[0]])
        shared = {call: name for call, name in forms.names.items() if name in theirs}
        in_file = {call: theirs[name] for call, name in shared.items() if theirs[name].shape == values[name].shape}
        return counts, in_file, {"integer": logits(other, theirs), "converted": answers["integer"]}

    def _stages(self, answers: Mapping[str, Float64]) -> Iterator[Stage]:
        before = None
        for name in ("float", "quantised", "integer"):
            yield self._stage(name, answers[name], before, answers["float"])
            before = answers[name].argmax(1)

    def _stage(self, name: str, answers: Float64, before: npt.NDArray[np.int64] | None, floating: Float64) -> Stage:
        count, predictions, labels = len(answers), answers.argmax(1), self.seen.labels
        return Stage(
            name=name,
            images=count,
            accuracy=None if labels is None else float((predictions == labels[:count]).mean()),
            agreement=None if before is None else float((predictions == before[:count]).mean()),
            error=error_of(torch.from_numpy(answers), torch.from_numpy(floating[:count]).view(answers.shape)),
        )

    def _steps(self, spikes: SpikingAnswers, wanted: npt.NDArray[np.int64]) -> Iterator[Step]:
        labels = self.seen.labels
        for number, predictions in enumerate(spikes.predictions, 1):
            right = None if labels is None else float((predictions == labels[: self.few]).mean())
            yield Step(number, right, float((predictions == wanted).mean()))

    def _settled(self, spiking: Stage, wanted: npt.NDArray[np.int64], floating: Float64) -> tuple[Stage, float] | None:
        """What the same network answers if its neurons run until they have settled, where they do not; and when."""
        graph = self.forms.integer
        exact = not isinstance(self.forms.deployed, SpikingGraph) or _settles(self.forms.deployed)
        if spiking.agreement == 1 or (exact and self.steps is None):
            return None
        free = dataclasses.replace(graph, schedule=Schedule(graph.schedule.window))
        if not _settles(free):
            free = with_neurons(free, "unary")
        found = spiking_answers(free, self.seen.levels[: self.few], None, lambda done: None)
        return self._stage("SNN", found.answers, wanted, floating), float(found.settle_steps.mean())

    def _advice(self, floating: Float64) -> tuple[Tried, tuple[int, int]]:
        """Cures from every fourth image, measured on the others; fewer of a large network."""
        forms, seen = self.forms, self.seen
        cost = totals(forms.truth)["synapses"] * (len(forms.places) / 2 + 5 * MOST)
        affordable = max(FEWEST // 4, int(TRIAL_OPERATIONS / max(cost, 1)))
        chosen = np.zeros(len(seen), dtype=bool)
        chosen[::4] = True
        fitted, judged = np.flatnonzero(chosen)[: min(FITTED, affordable)], np.flatnonzero(~chosen)[: 4 * affordable]
        judges = [self._judge(forms.model, index, floating) for index in (fitted, judged)]
        self.trials = 0

        def advance() -> None:
            self.trials += 1
            self.progress(min(len(seen) + self.few + self.trial * self.trials, self.total), self.total)

        tried = Adviser(forms.model, forms.places, judges[0], judges[1], self._converts, advance).run()
        return tried, (len(fitted), len(judged))

    def _judge(self, model: fx.GraphModule, index: npt.NDArray[np.int64], floating: Float64) -> Judge:
        wanted = None if self.labels_guide else torch.from_numpy(floating[index]).float()
        labels = None if self.seen.labels is None else torch.from_numpy(self.seen.labels[index])
        return Judge(model, self.seen.raw(index), wanted, labels)

    def _converts(self, model: fx.GraphModule) -> bool:
        try:
            convert(dataclasses.replace(self.forms.checkpoint, model=model), allow_loss=self.allow_loss)
        except LoweringError:
            return False
        return True

    def _finished(self, tallies: Sequence[LayerTally], losses: Mapping[str, float]) -> Iterator[LayerLoss]:
        for tally in tallies:
            known = tally.place.node in self.forms.names
            loss = losses.get(tally.place.layer)
            yield tally.result(loss, known, known and bool(self.forms.differences))

    def _cause(self, layers: Sequence[LayerLoss]) -> str:
        counted = [layer for layer in layers if layer.counts_differing]
        worst = max(counted, key=lambda layer: layer.counts_differing or 0.0, default=None)
        return "" if worst is None else cause(self.forms.truth, worst.layer)

    def _notes(self) -> tuple[str, ...]:
        notes = list(self.forms.reference.notes)
        if not isinstance(self.forms.deployed, SpikingGraph):
            notes.append(f"{self.forms.file} has stock neurons: its answers are compared, not its layers")
        if self.forms.integer is not self.forms.deployed and isinstance(self.forms.deployed, SpikingGraph):
            notes.append(
                "integer: of the model; counts over another number of steps than the window mean something else"
            )
        if len(self.seen) < FEWEST:
            notes.append(f"{len(self.seen)} images are too few to try what helps; {FEWEST} are the least")
        if self.labels_guide:
            notes.append("the float answers are no guide, being less often right: changes are judged by the labels")
        return tuple(notes)


def _batches(forms: Forms, images: int) -> Iterator[slice]:
    graph = forms.truth
    values = sum(graph[name].size for name in forms.names.values() if isinstance(graph[name], Population))
    size = int(np.clip(MEMORY // (32 * max(values, 1)), 1, 64))
    return (slice(start, min(start + size, images)) for start in range(0, images, size))


def _spiking_images(forms: Forms, images: int) -> int:
    """As many as take seconds: a unary network sends a count one by one."""
    graph = forms.deployed
    if not isinstance(graph, SpikingGraph):
        return images
    unary = any(population.payload == 1 for population in graph.populations)
    cost = totals(graph)["synapses"] * (graph.schedule.window if unary else 1)
    return int(np.clip(SPIKING_OPERATIONS / max(cost, 1), FEWEST, images)) if images > FEWEST else images


def _neurons(network: Network) -> str:
    if not isinstance(network, SpikingGraph):
        return "stock neurons"
    kinds = sorted({population.neurons for population in network.populations})
    return kinds[0] if len(kinds) == 1 else "neurons of several kinds"


def _settles(graph: SpikingGraph) -> bool:
    return graph.schedule.stop == "settled" and all(population.settles for population in graph.populations)


def _why(network: Network, steps: int | None) -> str:
    if steps is not None:
        return f"since it stops after {steps} steps"
    if not isinstance(network, SpikingGraph):
        return "since its neurons round otherwise"
    if network.schedule.stop == "window":
        return f"since each layer stops after its window of {network.schedule.duration} steps"
    return "since its neurons cannot take back a spike"
