"""What every trial goes through: convert, map, profile, classify, each only if all before it meets the budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from fastsnn_deploy.analysis.evaluate import evaluate
from fastsnn_deploy.analysis.hardware import Hardware
from fastsnn_deploy.analysis.mapping.result import Mapping as CoreMapping
from fastsnn_deploy.analysis.mapping.run import map_cores
from fastsnn_deploy.analysis.profile import profile
from fastsnn_deploy.analysis.result import Profile
from fastsnn_deploy.api import convert
from fastsnn_deploy.errors import DeployError, InputError
from fastsnn_deploy.formats.base import Network
from fastsnn_deploy.graph import Encoded, SpikingGraph
from fastsnn_deploy.quantisation import Checkpoint
from fastsnn_deploy.simulators.integer import integer_logits
from fastsnn_deploy.targets import TARGETS
from fastsnn_deploy.training.images import Images
from fastsnn_deploy.tuning.budget import Budget
from fastsnn_deploy.tuning.codes import code_named
from fastsnn_deploy.tuning.quantities import QUANTITIES
from fastsnn_deploy.tuning.space import Choice
from fastsnn_deploy.tuning.start import Start

TYPICAL = 20
"""Images from which targets that are not exact choose their units."""

KEPT = 4
"""Quantised models that are kept: the next trial may differ in its code alone."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Built:
    """A network of the search. graph, target, calibration: as `export` takes them. network: what that writes. truth:
    the graph whose integers are its answers; None where they are not certain to be."""

    graph: SpikingGraph
    target: str
    calibration: Encoded
    network: Network
    truth: SpikingGraph | None


@dataclass
class Measured:
    """What is known of one network. values: by quantity. missed: by constraint, or other reason, how far as a share;
    empty where everything that was measured is well. why: the first reason in words. mapping, profile: where it came so
    far."""

    values: dict[str, float] = field(default_factory=dict)
    missed: dict[str, float] = field(default_factory=dict)
    why: str = ""
    mapping: CoreMapping | None = None
    profile: Profile | None = None


@dataclass(frozen=True, eq=False)
class Bench:
    """The same images and the same chip for all. taught: raw images that set steps, float32 [N, ...]; judging: labelled
    images for the accuracy, the first `profiled` of which give time, energy and counts. iterations: of the rounding."""

    starts: Mapping[str, Start]
    hardware: Hardware
    budget: Budget
    taught: Tensor
    judging: Images
    profiled: int
    iterations: int
    seed: int
    engine: str
    allow_loss: bool
    _made: dict[Any, Checkpoint] = field(default_factory=dict, repr=False)

    def build(self, choice: Choice) -> Built:
        """The network of a choice, always the same one. Raises DeployError if it has no such form."""
        code = code_named(choice.code)
        plain = convert(self._quantised(choice), start_delay=choice.start_delay, allow_loss=self.allow_loss)
        typical = plain.encode(self.taught[:TYPICAL].numpy())
        made = code.make(plain, typical)
        truth = made.graph if code.exact else None
        if code.name in TARGETS:
            return Built(plain, code.name, typical, made.network, truth)
        return Built(made.graph, "signed-if", typical, made.network, truth)

    def _engine(self, built: Built) -> str:
        """That of graphs; stock networks have one of their own."""
        return self.engine if isinstance(built.network, SpikingGraph) else "cpu"

    def _quantised(self, choice: Choice) -> Checkpoint:
        key = (choice.model, tuple(choice.bits.items()), tuple(choice.weight_bits.items()))
        if key not in self._made:
            while len(self._made) >= KEPT:
                del self._made[next(iter(self._made))]
            self._made[key] = self.starts[choice.model].with_bits(
                choice.bits, choice.weight_bits, self.taught, self.iterations, self.seed
            )
        return self._made[key]

    def measure(self, choice: Choice, whole: bool = True, built: Built | None = None) -> Measured:
        """Measure a network as far as it meets the budget. whole: the accuracy too."""
        found = Measured()
        try:
            made = built or self.build(choice)
        except DeployError as error:  # a form that this network does not have
            found.missed["its form"], found.why = 1.0, str(error).splitlines()[0]
            return found
        found.mapping = map_cores(made.network, self.hardware, suggest=False)
        if not self._take(found, "mapping", found.mapping):
            return found
        levels = self.judging.select(slice(0, self.profiled)).reader(made.graph.input)
        labels = self.judging.labels[: self.profiled].numpy()
        found.profile = profile(made.network, levels, self.hardware, labels=labels, engine=self._engine(made))
        if self._take(found, "profile", found.profile) and whole:
            self._take(found, "accuracy", self.accuracy(made, self.judging))
        return found

    def _take(self, found: Measured, stage: str, given: Any) -> bool:
        """Note what a stage gives; False where the budget is missed."""
        measured = {q.name: q.of(given) for q in QUANTITIES.values() if q.stage == stage}
        bounded = {each.quantity.name for each in self.budget}
        if unknown := [name for name, value in measured.items() if value is None and name in bounded]:
            raise InputError(
                f"hardware profile '{self.hardware.name}' does not say what {', '.join(unknown)} follows from. Leave "
                "it out of the budget, or name another profile"
            )
        found.values |= {name: float(value) for name, value in measured.items() if value is not None}
        if stage == "mapping" and not given.fits:
            beyond = max((each.number / each.limit - 1 for each in given.violations if each.limit), default=1.0)
            found.missed["fits"], found.why = max(beyond, 1e-6), f"does not fit: {given.violations[0]}"
        for each in self.budget.of(stage):
            value = found.values[each.quantity.name]
            if (miss := each.miss(value)) > 0:
                found.missed[each.text] = miss
                found.why = found.why or f"{each.quantity.name} {each.quantity.show(value)}: {each.margin(value)}"
        return not found.missed

    def accuracy(self, built: Built, images: Images, progress: Progress | None = None) -> float:
        """Share of labelled images that are right. A network that settles answers as its integer network, which is
        ten times as fast."""
        levels, labels = images.reader(built.graph.input), images.labels.numpy()
        if built.truth is not None:
            answers = integer_logits(built.truth, levels, progress=progress).reshape(len(labels), -1)
            return float(np.mean(answers.argmax(1) == labels))
        found = evaluate(built.network, levels, labels, engine=self._engine(built), topk=(1,), progress=progress)
        return found.accuracy()
