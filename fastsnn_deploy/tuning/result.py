"""What a search found: the best network with its evidence, or the nearest one and what it misses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastsnn_deploy.analysis.mapping.result import Mapping as CoreMapping
from fastsnn_deploy.analysis.result import Profile
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats.base import Network
from fastsnn_deploy.formats.export import Exported, export
from fastsnn_deploy.tables import Column, Result, Table, one_line, percent, words
from fastsnn_deploy.tuning.bench import Built
from fastsnn_deploy.tuning.budget import Budget
from fastsnn_deploy.tuning.quantities import QUANTITIES, Quantity
from fastsnn_deploy.tuning.search import TrialResult
from fastsnn_deploy.tuning.space import NO_MODULE, Value

SHOWN = ("cores", "steps", "latency", "energy", "operations", "accuracy")
"""Quantities that the table of trials always has; those of the budget and the aim are added."""

BINDS = "binds"


@dataclass(frozen=True)
class Images:
    """How many images gave what. taught: set steps, without labels; judged: gave the accuracy of every trial; of the
    training images, if `trained_on`; profiled: the first of them, gave time, energy and counts; tested: gave the
    accuracy of the winner, 0 if there is none."""

    taught: int
    profiled: int
    judged: int
    trained_on: bool
    tested: int


@dataclass(frozen=True, eq=False)
class Tuned(Result):
    """The outcome of `tune`.

    budget, aim: what was asked for. hardware: name of the profile. trials: all that are done, in order. best: the one
    to have, or, where none meets the budget, the nearest; None without trials. built: its network; mapping, profile: of
    that network, as far as they were made. test_accuracy: on test images, None where they were not looked at. images:
    how many gave what. notes: lines for the user. command: rebuilds the network from the shell, empty if the search was
    not started there. interrupted: before all trials were done.
    """

    budget: Budget
    aim: Quantity
    hardware: str
    trials: tuple[TrialResult, ...]
    best: TrialResult | None
    images: Images
    built: Built | None = field(default=None, repr=False)
    mapping: CoreMapping | None = field(default=None, repr=False)
    profile: Profile | None = field(default=None, repr=False)
    test_accuracy: float | None = None
    notes: tuple[str, ...] = ()
    command: str = ""
    interrupted: bool = False

    def __repr__(self) -> str:
        if self.best is None:
            return f"Tuned({self.budget.text}: no trial)"
        value = self.best.values.get(self.aim.name)
        shown = "" if value is None else f", {self.aim.name} {self.aim.show(value)}"
        verdict = "met" if self.met else "not met"
        code = f"{self.best.choice.model} as {self.best.choice.code}"
        return one_line(f"Tuned({self.budget.text}: {verdict} by {code}{shown}, {len(self.trials)} trials)")

    @property
    def met(self) -> bool:
        """The best network meets the budget, and on the test images too, where they were looked at."""
        return self.best is not None and self.best.met and not self._missed_in_test()

    @property
    def network(self) -> Network | None:
        """The best network, in the form of its target."""
        return None if self.built is None else self.built.network

    @property
    def fixed(self) -> dict[str, Value]:
        """Values that make `tune`, with the same arguments, try this network alone."""
        return {} if self.best is None else self.best.choice.fixed

    def with_command(self, command: str) -> Tuned:
        """The same, with the command of the shell that rebuilds its network."""
        return replace(self, command=command)

    def _missed_in_test(self) -> str:
        """By how much the test images miss the accuracy that was asked for; "" if they do not."""
        wanted = next((each for each in self.budget if each.quantity.name == "accuracy"), None)
        if wanted is None or self.test_accuracy is None or wanted.miss(self.test_accuracy) <= 0:
            return ""
        return wanted.margin(self.test_accuracy)

    # --- for people --------------------------------------------------------------------------------------------------

    def report(self) -> tuple[Table | str, ...]:
        """The verdict, each constraint with what is left of it, the choice, its mapping and profile, and all trials."""
        if self.best is None:
            return ("no trial is done", *self.notes)
        parts: list[Table | str] = [self._verdict(), *self.notes, self.constraints(), self.choice(), *self._test()]
        if self.mapping is not None:
            parts += [*self.mapping.report()[1:-1]]
        if self.profile is not None and self.profile.timing is not None:
            parts += [*self.profile.timing.report()]
        parts.append(self.table())
        parts.append(f"rebuild this network: {self.command or f'tune(..., fixed={self.fixed})'}")
        return tuple(parts)

    def _verdict(self) -> str:
        assert self.best is not None
        found = sum(trial.met for trial in self.trials)
        tried = f"{len(self.trials):,} trials, {found:,} of which meet the budget {self.budget.text}"
        if self.best.met:
            return f"{tried}; the best {self.aim.name} has trial {self.best.number}"
        return f"{tried}; the nearest is trial {self.best.number}: {self.best.why}"

    def _test(self) -> Iterator[str]:
        images = self.images
        held = "training images held out from this search" if images.trained_on else "images that no network learned"
        yield (
            f"accuracy of trials: on {images.judged:,} {held}. Time, energy and counts: on the first "
            f"{images.profiled:,} of them"
        )
        if self.test_accuracy is None:
            yield "test images were not looked at" + (": the search was interrupted" if self.interrupted else "")
            return
        missed = self._missed_in_test()
        what = f": the budget is not met there, {missed}" if missed else ""
        yield (
            f"accuracy on {images.tested:,} test images, looked at once, for this network alone: "
            f"{percent(self.test_accuracy)}{what}"
        )

    def constraints(self) -> Table:
        """Every constraint: what the best network has, how far it is from the limit, and which one binds."""
        assert self.best is not None
        known = {each.text: each for each in self.budget if each.quantity.name in self.best.values}
        misses = {text: each.miss(self.best.values[each.quantity.name]) for text, each in known.items()}
        binding = max(misses, key=lambda text: misses[text], default="")
        rows = []
        for each in self.budget:
            if each.text not in known:
                rows.append((each.text, "", "not measured: it fails before", ""))
                continue
            value = self.best.values[each.quantity.name]
            mark = BINDS if each.text == binding else ""
            rows.append((each.text, each.quantity.show(value), each.margin(value), mark))
        for reason in ("fits", "its form"):
            if reason in self.best.missed:
                rows.append((reason, "", self.best.why, BINDS))
        columns = (words("constraint"), Column("value", str), words("margin"), words(""))
        return Table(f"Budget (trial {self.best.number}, {self.hardware})", columns, tuple(rows))

    def choice(self) -> Table:
        """The network: which, how it sends, and the bits of each layer."""
        assert self.best is not None
        choice = self.best.choice
        facts: dict[str, Any] = {"model": choice.model, "code": choice.code, "start delay": choice.start_delay}
        for kind, bits in (("bits of activations", choice.bits), ("bits of weights", choice.weight_bits)):
            by_number: dict[int, list[str]] = {}
            for path, number in bits.items():
                by_number.setdefault(number, []).append(path or NO_MODULE)
            whole = len(by_number) == 1
            for number, paths in sorted(by_number.items()):
                facts[f"{number} {kind}"] = "all hidden layers" if whole else ", ".join(paths)
        return Table.facts(f"The {'best' if self.best.met else 'nearest'} network", facts)

    def table(self) -> Table:
        """One line a trial."""
        names = [*dict.fromkeys((*SHOWN, *(each.quantity.name for each in self.budget), self.aim.name))]
        quantities = [QUANTITIES[name] for name in names]
        several = len({trial.choice.model for trial in self.trials}) > 1
        columns = (
            Column("trial"), *([words("model", drop=5)] if several else []), words("code"), Column("delay", drop=6),
            words("bits", drop=3), words("weight bits", drop=4), *(Column(name, str) for name in names),
            words("misses", drop=7),
        )  # fmt: skip
        rows = []
        for trial in self.trials:
            values = (q.show(trial.values[q.name]) if q.name in trial.values else "" for q in quantities)
            choice = trial.choice
            rows.append((
                trial.number, *([choice.model] if several else []), choice.code, choice.start_delay,
                choice.words("bits"), choice.words("weight-bits"), *values, ", ".join(trial.missed),
            ))  # fmt: skip
        return Table(f"Trials on {self.hardware}", columns, tuple(rows))

    # --- for programs ------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain values; times in nanoseconds, energies in picojoules, accuracies as fractions."""
        return {
            "budget": self.budget.text,
            "aim": self.aim.name,
            "hardware": self.hardware,
            "met": self.met,
            "interrupted": self.interrupted,
            "images": vars(self.images).copy(),
            "test_accuracy": self.test_accuracy,
            "best": None if self.best is None else _plain(self.best),
            "fixed": self.fixed,
            "command": self.command,
            "notes": list(self.notes),
            "trials": [_plain(trial) for trial in self.trials],
            "mapping": None if self.mapping is None else self.mapping.to_dict(),
            "profile": None if self.profile is None else self.profile.to_dict(),
        }

    def save(self, path: str | Path, format: str = "netx") -> Exported:
        """Write the best network, as `export` does.

        Raises:
            InputError: no network meets the budget, or the file cannot be written.
        """
        if not self.met or self.built is None:
            raise InputError(f"no network that was tried meets {self.budget.text}, so none is written")
        return export(self.built.graph, path, self.built.target, format, np.asarray(self.built.calibration))


def _plain(trial: TrialResult) -> dict[str, Any]:
    choice = trial.choice
    return {
        "number": trial.number,
        "model": choice.model,
        "code": choice.code,
        "start_delay": choice.start_delay,
        "bits": dict(choice.bits),
        "weight_bits": dict(choice.weight_bits),
        "values": dict(trial.values),
        "missed": dict(trial.missed),
        "why": trial.why,
    }
