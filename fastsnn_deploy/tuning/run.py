"""`tune`: the door to the search."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fastsnn_deploy import __version__
from fastsnn_deploy.analysis.hardware import Hardware, load_hardware
from fastsnn_deploy.errors import DeployError, InputError, known_name, require_progress, whole_number, wrong_type
from fastsnn_deploy.simulators import ABOUT, ENGINES
from fastsnn_deploy.tables import percent
from fastsnn_deploy.training.images import Images
from fastsnn_deploy.tuning.bench import Bench
from fastsnn_deploy.tuning.budget import Budget
from fastsnn_deploy.tuning.codes import USUAL, code_named
from fastsnn_deploy.tuning.images import labelled, split
from fastsnn_deploy.tuning.quantities import QUANTITIES, Quantity
from fastsnn_deploy.tuning.result import Images as ImageNumbers
from fastsnn_deploy.tuning.result import Tuned
from fastsnn_deploy.tuning.search import Search, TrialResult, open_study
from fastsnn_deploy.tuning.space import MOST_DELAY, Space, Value
from fastsnn_deploy.tuning.start import MOST_BITS, Start, starts_of

APART = 0.01
"""Accuracies that differ by more are told."""

VERSION = 1
"""Of what a trial measures: it changes whenever the same network may get other numbers."""

Progress = Callable[[int, int], None]


def tune(
    models: Any,
    budget: str | Budget,
    train: Any,
    test: Any = None,
    judges: Any = None,
    *,
    hardware: str | Hardware = "loihi2",
    aim: str | None = None,
    codes: Sequence[str] = USUAL,
    bits: Sequence[int] = (2, 3, 4),
    weight_bits: Sequence[int] = (4, 8),
    start_delays: Sequence[int] = (0,),
    same_bits: bool = False,
    fixed: Mapping[str, Value] | None = None,
    trials: int = 50,
    storage: str | Path | None = None,
    study: str = "tune",
    samples: int = 500,
    profile_samples: int = 20,
    images: int = 256,
    iterations: int = 0,
    seed: int = 0,
    engine: str = "cpu",
    allow_loss: bool = False,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> Tuned:
    """Search for the network that meets a budget on a chip: bits of each layer, code and start delay.

    Each trial is converted, mapped, profiled and classified, as far as it meets the budget: what does not fit, or takes
    too many cores, never runs. All trials are measured on the same training images; the best network answers the test
    images once, at the end. Optuna chooses (extra `tune`). Ctrl-C ends the search with what it has so far.

    Args:
        models: A quantised model, a checkpoint or its path, or a float network; several as a sequence, or a dict by
            name. A float network is normalised as `train.preprocessing` says.
        budget: Constraints with commas between, as "cores<=128, latency<1ms, accuracy>=90%". Quantities: cores, chips,
            steps, latency (.p99, .max), throughput, operations, spikes, energy (.dynamic, .cores, .board), accuracy.
        train: Labelled training images, as `load_data` gives them, or (images, labels).
        test: Likewise, test images. They decide nothing but whether the winner keeps its accuracy there.
        judges: Likewise, images that none of the networks was trained on and that are not of `test`: they judge the
            accuracy of trials, in place of training images, on which a trained network is right more often.
        hardware: A hardware profile with limits of a chip, its name, or the path of a .yaml file.
        aim: Of the networks that meet the budget, the one to have: the quantity that should be best. Default: energy,
            where the budget bounds the accuracy; else accuracy.
        codes: What to try of "signed-if", "graded", "burst2" (3, ...), "window", "stock-lif" and "sigma-delta",
            as in `compare_targets`.
        bits: Of activations, what to try for each layer. A trained network also keeps its own; none gets more.
        weight_bits: Likewise, of weights between the first and the last layer.
        start_delays: Steps that neurons may wait before they fire.
        same_bits: One number for all layers, in place of one for each.
        fixed: Values by pattern of a parameter's name (`model`, `code`, `start-delay`, `bits:LAYER`,
            `weight-bits:LAYER`), the first that matches; `Tuned.fixed` rebuilds its network.
        trials: How many in all, those that the storage holds included. A space of no more than 64 networks is tried one
            by one.
        storage: Keeps the trials: an SQLite file (.db), a journal (.log), or the URL of a data base. A second call goes
            on; several processes may work on one study at once. None: memory.
        study: Name of the search in the storage.
        samples: Images that judge the accuracy of all trials.
        profile_samples: Of them, those that give time, energy and counts.
        images: Other training images, which set steps; without labels.
        iterations: Of the learned rounding, for each layer or block; 0 leaves it out, 100 takes minutes a trial.
        seed: Draws images and trials.
        engine: Simulator: "cpu", "gpu" or "reference".
        allow_loss: As in `convert`.
        progress: Called with (trials done, in all); images of the final test likewise.
        tell: Called with a line about each trial.

    Returns:
        The best network with its trial, mapping, profile and the accuracy on test images; where nothing meets the
        budget, the nearest one and what it misses.

    Raises:
        InputError: a budget or an option that cannot be used, all of them at once; Optuna is missing; or the storage
            holds another search.

    Example:
        >>> import fastsnn_deploy as fd
        >>> found = fd.tune("model.pt", "cores<=20, accuracy>=50%", fd.load_data("digits", "train"), codes=["graded"],
        ...                 bits=[2], samples=100, profile_samples=5, images=64)
        >>> found.met, found.best.choice.code
        (True, 'graded')
    """
    wanted = Budget.parse(budget)
    chip = hardware if isinstance(hardware, Hardware) else load_hardware(hardware)
    assert chip.limits  # raises for a profile without
    bounded = [each.quantity.name for each in wanted]
    sought = QUANTITIES[known_name("aim", aim or ("energy" if "accuracy" in bounded else "accuracy"), QUANTITIES)]
    trials, samples = whole_number("trials", trials, 1), whole_number("samples", samples, 1)
    profile_samples = whole_number("profile_samples", profile_samples, 1, samples)
    images, iterations = whole_number("images", images, 2), whole_number("iterations", iterations, 0)
    seed = whole_number("seed", seed, 0, 2**32 - 1)
    known_name("engine", engine, ABOUT.keys() | ENGINES.keys())
    for name, value in (("same_bits", same_bits), ("allow_loss", allow_loss)):
        if not isinstance(value, bool):
            raise wrong_type(name, value, "True or False")
    for each in (progress, tell):
        require_progress(each)
    learn, tested = labelled(train, "train"), None if test is None else labelled(test, "test")
    held = None if judges is None else labelled(judges, "judges")
    judging, taught = split(learn, held, samples, images, seed)
    starts = starts_of(models, learn, taught, seed)
    space = Space(
        starts, tuple(code_named(each).name for each in _several("codes", codes)),
        _numbers("start_delays", start_delays, 0, MOST_DELAY), _numbers("bits", bits, 1, MOST_BITS),
        _numbers("weight_bits", weight_bits, 2, MOST_BITS), same_bits, _fixed(fixed),
    )  # fmt: skip
    bench = Bench(starts, chip, wanted, taught, judging, profile_samples, iterations, seed, engine, allow_loss)
    setup = {
        "program": f"{__version__}, trials {VERSION}", "budget": wanted.text, "aim": sought.name,
        "hardware": chip.name, "data": learn.name, "judged by": "training images" if held is None else held.name,
        "samples": samples, "profile_samples": profile_samples, "images": images, "iterations": iterations,
        "seed": seed, "allow_loss": allow_loss,
        **{f"model {name}": start.digest for name, start in starts.items()},
        **{f"{m} {each.name}": list(each.choices) for m in space.parameters for each in space.parameters[m]},
    }  # fmt: skip
    search = Search(open_study(storage, study, setup, sought.bound), space, bench, sought, trials, seed)
    numbers = ImageNumbers(len(taught), profile_samples, samples, held is None, 0)
    found = Tuned(wanted, sought, chip.name, (), None, numbers)
    try:
        search.run(partial(_told, progress, tell))
        found = _with_trials(found, search)
        return _with_evidence(found, bench, tested, progress)
    except KeyboardInterrupt:
        return replace(_with_trials(found, search), interrupted=True)


def _with_trials(found: Tuned, search: Search) -> Tuned:
    """With what the study holds, trials of other processes too."""
    trials = search.results()
    notes = tuple(_learned(trials, search.bench.starts)) if found.images.trained_on else ()
    return replace(found, trials=trials, best=_best(trials, found.aim), notes=notes)


def _learned(trials: Sequence[TrialResult], starts: Mapping[str, Start]) -> Iterator[str]:
    """Networks that are right more often on the training images than their checkpoints say of test images."""
    for name, start in starts.items():
        stated = start.checkpoint.metadata.get("quantised_accuracy")
        whole = (t for t in trials if t.choice.model == name and start.is_whole(t.choice.bits, t.choice.weight_bits))
        here = max((trial.values["accuracy"] for trial in whole if "accuracy" in trial.values), default=0.0)
        if isinstance(stated, float) and here > stated + APART:
            yield (
                f"{name} has learned the images that judge here: as it was trained it has {percent(here)} on them, "
                f"and {percent(stated)} on test images, as its checkpoint says. Ask for more accuracy than you need, "
                "or let other images judge (judges=, --judge test)"
            )


def _told(
    progress: Progress | None, tell: Callable[[str], None] | None, trial: TrialResult, done: int, total: int
) -> None:
    if tell is not None:
        values = ", ".join(
            f"{name} {each.show(trial.values[name])}" for name, each in QUANTITIES.items()
            if name in trial.values and "." not in name
        )  # fmt: skip
        choice = trial.choice
        made = f"{choice.code}, {choice.words('bits')} bits, {choice.words('weight-bits')} weight bits"
        made += f", start delay {choice.start_delay}" if choice.start_delay else ""
        tell(f"trial {trial.number} ({made}): {trial.why or 'meets the budget'}; {values}")
    if progress is not None:
        progress(done, total)


def _best(trials: Sequence[TrialResult], aim: Quantity) -> TrialResult | None:
    """The best of those that meet the budget; else the nearest: measured furthest, and then with least missed."""
    met = [trial for trial in trials if trial.met]
    if met:
        better = min if aim.bound == "most" else max
        return better(met, key=lambda trial: trial.values[aim.name])
    return min(trials, key=lambda trial: (-len(trial.values), sum(trial.missed.values())), default=None)


def _with_evidence(found: Tuned, bench: Bench, test: Images | None, progress: Progress | None) -> Tuned:
    """The network of the best trial, made and measured again, and on test images if it meets the budget."""
    if (best := found.best) is None:
        return found
    try:
        built = bench.build(best.choice)
    except DeployError:  # no trial has a form
        return found
    again = bench.measure(best.choice, whole=False, built=built)
    differing = [name for name, value in again.values.items() if value != best.values.get(name)]
    notes = () if not differing else (
        f"measured again here, {', '.join(differing)} of trial {best.number} came out otherwise: it was made "
        "with other versions of the libraries, or on another kind of processor",
    )  # fmt: skip
    found = replace(
        found,
        built=built,
        mapping=again.mapping,
        profile=again.profile,
        notes=(*found.notes, *notes),
    )
    if test is None or not best.met:
        return found
    accuracy = bench.accuracy(built, test, progress)
    return replace(found, test_accuracy=accuracy, images=replace(found.images, tested=len(test.labels)))


def _several(name: str, values: Any) -> tuple[Any, ...]:
    """Values without repetition, one at least."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise wrong_type(name, values, "several values, as [1, 2]")
    found = tuple(dict.fromkeys(values))
    if not found:
        raise InputError(f"{name} is empty. Give one value at least")
    return found


def _numbers(name: str, values: Any, least: int, most: int) -> tuple[int, ...]:
    return tuple(sorted({whole_number(name, each, least, most) for each in _several(name, values)}))


def _fixed(fixed: Any) -> dict[str, Value]:
    if fixed is None:
        return {}
    if not isinstance(fixed, Mapping) or not all(
        isinstance(key, str) and isinstance(value, (int, str)) for key, value in fixed.items()
    ):
        raise wrong_type("fixed", fixed, 'a dict of values by parameter, as {"code": "graded", "bits:*": 2}')
    return dict(fixed)
