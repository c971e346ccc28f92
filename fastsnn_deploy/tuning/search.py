"""The search itself, by Optuna: a study holds its trials, in memory or in a storage that others may share."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsnn_deploy.errors import InputError, Problem, wrong_type
from fastsnn_deploy.files import is_stream, kind_of_file
from fastsnn_deploy.tuning.bench import Bench, Measured
from fastsnn_deploy.tuning.quantities import Quantity
from fastsnn_deploy.tuning.space import Choice, Parameter, Space, Value

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

SETUP = "fastsnn-deploy tune"
"""Attribute of a study that says what search it is."""

FOUND = "found"
"""Attribute of a trial: what was measured."""

SQLITE, JOURNAL = (".db", ".sqlite", ".sqlite3"), (".log", ".journal")

ATTEMPTS = 20
"""How often a sampler is asked for a network that no trial has had: TPE, which may stay where it was, then chance."""

WAIT_SECONDS = 60
"""How long a process waits for others that write to the same SQLite file."""


@dataclass(frozen=True)
class TrialResult:
    """One network that was tried. values: by quantity, as far as it was measured. missed: by constraint or other
    reason, how far, as a share of the limit; empty for one that meets the budget. why: the first reason in words."""

    number: int
    choice: Choice
    values: Mapping[str, float]
    missed: Mapping[str, float]
    why: str

    @property
    def met(self) -> bool:
        """It meets the budget, on the images that judged."""
        return not self.missed


def optuna() -> Any:
    """The library. Raises InputError if it is not there."""
    try:
        import optuna as library
    except ModuleNotFoundError as error:
        raise InputError("tune needs Optuna. Install it with `pip install 'fastsnn-deploy[tune]'`") from error
    return library


def open_study(
    storage: str | Path | None, name: str, setup: Mapping[str, Any], bound: str, existing: bool = False
) -> Study:
    """A study: the one of this name in the storage, or a new one.

    storage: an SQLite file, a journal file, the URL of a data base, or None for memory. setup: what search it is, plain
    data. bound: of what is sought, "most" or "least".
    Raises InputError if the storage cannot be used, or its study is another search, listing what differs.
    """
    library = optuna()
    if not isinstance(name, str) or not name:
        raise wrong_type("study", name, "a name")
    direction = "minimize" if bound == "most" else "maximize"
    try:
        with quiet(library):
            study: Study = library.create_study(
                storage=_storage(library, storage), study_name=name, direction=direction, load_if_exists=True
            )
            held = study.user_attrs.get(SETUP)
            if held is None:
                study.set_user_attr(SETUP, json.dumps(setup))
    except InputError:
        raise
    except Exception as error:  # whatever a foreign or locked file, or a data base far away, may set off
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{storage}: cannot be used as a storage of trials ({reason:.200})") from error
    if held is not None:
        _require_same(json.loads(held), json.loads(json.dumps(setup)), storage, name)
    return study


def _require_same(held: Mapping[str, Any], setup: Mapping[str, Any], storage: Any, name: str) -> None:
    problems = [
        Problem(key, f"{_short(held.get(key))} there, {_short(setup.get(key))} here")
        for key in sorted({*held, *setup}) if held.get(key) != setup.get(key)
    ]  # fmt: skip
    if problems:
        what = f"{storage}: its study '{name}' is another search. Give the same options, or another name with --study"
        raise InputError(what, problems)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _storage(library: Any, storage: str | Path | None) -> BaseStorage | None:
    """Raises InputError for a file of another kind."""
    if storage is None:
        return None
    if not isinstance(storage, (str, os.PathLike)):
        raise wrong_type("storage", storage, "a file (.db, .sqlite; .log, .journal) or the URL of a data base")
    text = os.fspath(storage)
    if "://" in text:
        made: BaseStorage = library.storages.RDBStorage(text)
        return made
    path = Path(text)
    if kind := kind_of_file(path):
        raise InputError(f"{path}: is of another kind ({kind}), and no storage of trials. Name another file")
    if path.is_dir() or is_stream(path) or not path.absolute().parent.is_dir():
        raise InputError(f"{path}: no file can be written there. Name another one")
    if path.suffix in SQLITE:
        options = {"connect_args": {"timeout": WAIT_SECONDS}}
        made = library.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs=options)
        return made
    if path.suffix in JOURNAL:
        if path.is_file() and path.stat().st_size and not _is_journal(path):
            raise InputError(f"{path}: is no journal of trials. Name another file")
        from optuna.storages.journal import JournalFileBackend

        made = library.storages.JournalStorage(JournalFileBackend(str(path)))
        return made
    raise InputError(
        f"{path}: the name must end in {', '.join(SQLITE)} (SQLite) or {', '.join(JOURNAL)} (a journal, also for "
        "network file systems), or be the URL of a data base, as postgresql://host/name"
    )


def _is_journal(path: Path) -> bool:
    """A journal has one JSON object a line."""
    with path.open("rb") as file:
        line = file.readline(10_000)
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


@contextmanager
def quiet(library: Any) -> Iterator[None]:
    """Within, the library says nothing: what happens is told by the search."""
    before = library.logging.get_verbosity()
    library.logging.set_verbosity(library.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", library.exceptions.ExperimentalWarning)  # of PartialFixedSampler
            yield
    finally:
        library.logging.set_verbosity(before)


class Search:
    """Trials of a study, one after the other; other processes may add theirs to the same study meanwhile."""

    def __init__(self, study: Study, space: Space, bench: Bench, aim: Quantity, trials: int, seed: int) -> None:
        self.library, self.study, self.space, self.bench = optuna(), study, space, bench
        self.aim, self.trials, self.seed = aim, trials, seed
        self.points = space.points(seed)
        states = self.library.trial.TrialState
        self.finished = (states.COMPLETE, states.PRUNED)
        self.taken = (*self.finished, states.RUNNING)

    def run(self, tell: Callable[[TrialResult, int, int], None]) -> None:
        """Try networks until the study has its trials, or nothing is left to try. tell: called after each trial with
        what it gave, the number of trials that are done, and in all."""
        wanted = min(self.trials, self.space.size)
        with quiet(self.library):
            while (done := len(self._those(self.finished))) < wanted and (asked := self._ask(done)) is not None:
                tell(self._one(*asked), done + 1, wanted)

    def results(self) -> tuple[TrialResult, ...]:
        """All trials of the study that are done, those of other processes too."""
        return tuple(map(self._read, self._those(self.finished)))

    def _those(self, states: Any) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states)

    def _next_point(self) -> dict[str, Value] | None:
        """The first point that nobody has taken. A trial of a process that was killed counts as running."""
        taken = [trial.params for trial in self._those(self.taken)]
        return next((point for point in self.points if point not in taken), None)

    def _ask(self, done: int) -> tuple[Trial, Choice] | None:
        """A trial to be done and its network, if possible one that no trial has; None if the rest of a small space runs
        elsewhere. The number of trials and the seed say which: a search that goes on is one that never stopped.
        """
        for attempt in range(ATTEMPTS):
            point = self._next_point()
            if point is None and len(self.points) == self.space.size:
                return None
            # trials that wait in a study would be taken twice: SQLite has no locks for a row
            self.study.sampler = self._sampler(point, done, attempt)
            trial = self.study.ask()
            choice = self._suggest(trial)
            if attempt + 1 == ATTEMPTS or not self._is_held(trial.number, choice):
                return trial, choice
            self.study.tell(trial, state=self.library.trial.TrialState.FAIL)
        raise AssertionError("the last attempt is taken")

    def _sampler(self, point: dict[str, Value] | None, done: int, attempt: int) -> BaseSampler:
        samplers = self.library.samplers
        seed = int(np.random.SeedSequence([self.seed, done, attempt]).generate_state(1)[0])
        kind = samplers.TPESampler if point is None and 2 * attempt < ATTEMPTS else samplers.RandomSampler
        made: BaseSampler = kind(seed=seed)
        return made if point is None else samplers.PartialFixedSampler(point, made)

    def _is_held(self, number: int, choice: Choice) -> bool:
        """Whether another trial has the same network, and is done or was begun before."""
        running = self.library.trial.TrialState.RUNNING
        for other in self._those(self.taken):
            if other.number < number or other.state != running:
                with suppress(KeyError):  # what is not suggested yet
                    if self._choice(other.params) == choice:
                        return True
        return False

    def _one(self, trial: Trial, choice: Choice) -> TrialResult:
        """One trial. Whatever ends it, the study knows: nothing stays half done."""
        states = self.library.trial.TrialState
        try:
            found = self._measured(trial, choice)
            trial.set_user_attr(FOUND, {"values": found.values, "missed": found.missed, "why": found.why})
            for constraint, miss in found.missed.items():
                trial.set_constraint(constraint, miss)
        except BaseException:
            self.study.tell(trial, state=states.FAIL)
            raise
        value = found.values.get(self.aim.name)
        if value is None:  # it missed the budget before this was measured
            self.study.tell(trial, state=states.PRUNED)
        else:
            self.study.tell(trial, value)
        return TrialResult(trial.number, choice, found.values, found.missed, found.why)

    def _measured(self, trial: Trial, choice: Choice) -> Measured:
        """As measured, here or by a trial before with the same network."""
        for other in self._those(self.finished):
            if self._choice(other.params) == choice:
                held = other.user_attrs[FOUND]
                return Measured(dict(held["values"]), dict(held["missed"]), str(held["why"]))
        return self.bench.measure(choice)

    def _suggest(self, trial: Trial) -> Choice:
        return self._chosen(lambda key, parameter: _suggested(trial, key, parameter))

    def _choice(self, params: Mapping[str, Value]) -> Choice:
        return self._chosen(lambda key, parameter: params[key])

    def _chosen(self, value_of: Callable[[str, Parameter], Value]) -> Choice:
        names = tuple(self.space.parameters)
        model = str(value_of("model", Parameter("model", names, names))) if len(names) > 1 else names[0]
        values: dict[str, Value] = {}
        for each in self.space.parameters[model]:
            if self.space.needed(each, str(values.get("code"))):
                values[each.name] = value_of(self.space.key(model, each), each) if each.stored else each.choices[0]
        return self.space.choice(model, values)

    def _read(self, trial: FrozenTrial) -> TrialResult:
        held = trial.user_attrs[FOUND]
        return TrialResult(trial.number, self._choice(trial.params), held["values"], held["missed"], held["why"])


def _suggested(trial: Trial, key: str, parameter: Parameter) -> Value:
    choices = parameter.choices
    if parameter.ordered:
        return trial.suggest_int(key, int(choices[0]), int(choices[-1]))
    found: Any = trial.suggest_categorical(key, choices)
    return int(found) if isinstance(found, int) else str(found)
