"""`tune`: the grammar of budgets, fewer bits, what is tried, what is measured, storages, and how a search ends."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import fastsnn_deploy as fd
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.quantisation.post_training import fewer
from fastsnn_deploy.quantisation.post_training.fewer import bits_in_use, with_bits
from fastsnn_deploy.quantisation.post_training.quantize import held_apart, values_of
from fastsnn_deploy.tuning import bench, space
from fastsnn_deploy.tuning.budget import Budget
from fastsnn_deploy.tuning.images import labelled
from fastsnn_deploy.tuning.quantities import QUANTITIES
from fastsnn_deploy.tuning.result import Tuned
from fastsnn_deploy.tuning.search import open_study
from fastsnn_deploy.tuning.space import BEGIN, Space
from fastsnn_deploy.tuning.start import Start, named, starts_of
from tests.commands import Result, runner

ROOM = "cores<=128, accuracy>=1%"
"""A budget that every network meets."""


class Small(nn.Module):
    """Two blocks, whose activations have names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()
        self.pool, self.second, self.last = nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU()
        self.answer = nn.Linear(6 * 16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.answer(self.last(self.second(self.pool(self.relu(self.first(x))))).flatten(1))


@dataclass(frozen=True)
class Task:
    """A network, and images that it knows: their labels are its own answers."""

    model: Any
    train: tuple[Any, Any]
    test: tuple[Any, Any]


@pytest.fixture(scope="module")
def task() -> Task:
    torch.manual_seed(0)
    images = (torch.rand(110, 1, 8, 8) * 255).to(torch.uint8)
    model = fd.prepare(Small().eval(), bits=3, weight_bits=4, input_shape=(1, 8, 8))
    fd.calibrate(model, images[:40])
    graph = fd.convert(model)
    labels = fd.simulate(graph, images, "reference").logits.argmax(-1)
    return Task(model, (images[:80], labels[:80]), (images[80:], labels[80:]))


@pytest.fixture
def tune(task: Task) -> Callable[..., Tuned]:
    def call(budget: str = ROOM, **options: Any) -> Tuned:
        usual: dict[str, Any] = {"samples": 30, "profile_samples": 3, "images": 24, "trials": 4, "engine": "reference"}
        return fd.tune(options.pop("models", task.model), budget, task.train, **(usual | options))

    return call


# --- budgets


def test_all_problems_of_a_budget_are_said_at_once():
    text = "core<=3, latency<5, accuracy<=3%, , cores=3, energy<2kWh, accuracy>120%, chips<2, chips<=4, steps<=0, x"
    with pytest.raises(InputError) as error:
        Budget.parse(text)
    says = str(error.value)
    for part in (
        "Did you mean 'cores'?", "latency<5: the unit is missing", "Use >= or >", "a constraint is empty",
        "'=' cannot bound cores", "unit 'kWh' is not known", "more often than always", "chips: is bounded 2 times",
        "the limit is 0", "x: is not a quantity",
    ):  # fmt: skip
        assert part in says
    assert len(error.value.problems) == 10
    for wrong in (None, 3, b"cores<=3", ["cores<=3"]):
        with pytest.raises(InputError, match="the budget: got"):
            Budget.parse(wrong)


@given(st.sampled_from(sorted(QUANTITIES)), st.integers(1, 99), st.data())
def test_a_constraint_holds_where_it_says_so(name: str, number: int, data: st.DataObject):
    quantity = QUANTITIES[name]
    unit = data.draw(st.sampled_from(sorted(quantity.units)))
    relation = data.draw(st.sampled_from(("<=", "<") if quantity.bound == "most" else (">=", ">")))
    (constraint,) = Budget.parse(f" {name} {relation}{number} {unit}")
    limit = float(number * quantity.units[unit])
    value = limit * data.draw(st.sampled_from((0.5, 1.0, 2.0)))
    holds = {"<=": value <= limit, "<": value < limit, ">=": value >= limit, ">": value > limit}[relation]
    assert (constraint.miss(value) <= 0) == holds
    assert Budget.parse(constraint.text).constraints == (constraint,)


@given(st.sampled_from((8, 50, 200, 1000, 10_000)), st.data())
def test_an_accuracy_that_is_just_reached_counts(images: int, data: st.DataObject):
    right = data.draw(st.integers(1, images))
    (constraint,) = Budget.parse(f"accuracy>={Decimal(100 * right) / images}%")
    assert constraint.miss(right / images) <= 0
    assert constraint.miss((right - 1) / images) > 0


# --- fewer bits


def test_fewer_bits_come_closer_with_each_stage_and_stay_exact(task: Task):
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    images = torch.as_tensor(task.train[0]).float() / 255
    assert with_bits(task.model, {"relu": 3}, {}, images) is task.model
    found = with_bits(task.model, {"relu": 1, "last": 2}, {"second": 2}, images, iterations=5)
    assert bits_in_use(found) == ({"relu": 1, "last": 2}, {"second": 2})
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.model.state_dict().items())
    _, judging = held_apart(images)
    plain = with_bits_alone(task, images)
    answers = values_of(task.model, judging)
    assert distance(found, judging, answers) <= distance(plain, judging, answers)
    assert fd.verify(found, task.test[0][:3]).exact
    with pytest.raises(InputError, match="no such layer") as error:
        with_bits(task.model, {"rleu": 2}, {"first": 2}, images)
    assert len(error.value.problems) == 2


def with_bits_alone(task: Task, images: torch.Tensor) -> Any:
    """With stretched steps, and nothing that images could do."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("set_steps", "correct_biases"):
            patch.setattr(fewer, name, lambda *arguments: None)
        return with_bits(task.model, {"relu": 1, "last": 2}, {"second": 2}, images)


def distance(model: Any, images: torch.Tensor, answers: torch.Tensor) -> float:
    return float((values_of(model, images) - answers).square().mean())


# --- what is tried


@pytest.fixture(scope="module")
def starts(task: Task) -> dict[str, Start]:
    images = labelled(task.train, "train")
    return starts_of({"a": task.model, "b": Small().eval()}, images, images.raw(slice(0, 24)))


def space_of(starts: dict[str, Start], **changes: Any) -> Space:
    given: dict[str, Any] = {
        "codes": ("graded", "stock-lif"), "delays": (0, 2), "bits": (2, 3), "weight_bits": (4,), "same_bits": False,
        "fixed": {},
    }  # fmt: skip
    return Space(starts, **(given | changes))


def test_a_space_knows_its_points(starts: dict[str, Start]):
    found = space_of(starts)
    points = found.points(0)
    assert len(points) == found.size == 24  # 2 networks, 2 + 1 codes with delays, 2 layers of 2 bits each
    assert len({json.dumps(point, sort_keys=True) for point in points}) == 24
    assert {point["model"] for point in points} == {"a", "b"}
    assert all(("start-delay" in point) == (point["code"] == "graded") for point in points)
    assert points != found.points(1)
    large = space_of(starts, delays=tuple(range(9)), weight_bits=(2, 3, 4))
    assert large.size == 2 * (9 + 1) * 4 * 3
    assert len(large.points(0)) == BEGIN
    assert len({json.dumps(point, sort_keys=True) for point in large.points(0)}) == BEGIN
    assert space_of(starts, same_bits=True).size == 12
    assert (
        space_of(starts, fixed={"model": "a", "code": "graded", "*bits:*": 2, "start-*": "1"}, weight_bits=(2,)).size
        == 1
    )
    assert space_of(starts, bits=(8,), fixed={"model": "a"}).size == 3  # a trained network keeps what it has


def test_what_cannot_be_fixed_is_said_at_once(starts: dict[str, Start]):
    with pytest.raises(InputError) as error:
        space_of(starts, fixed={"bist:*": 2, "code": "gradde", "bits:relu": 7, "weight-bits:second": 1, "model": "a"})
    says = str(error.value)
    for part in ("'bist:*' = 2: matches no parameter", "code: cannot be gradde", "bits:relu: cannot be 7"):
        assert part in says
    assert "weight-bits:second: cannot be 1. It can be 2, 3, 4" in says
    with pytest.raises(InputError, match="model is fixed to 'c'"):
        space_of(starts, fixed={"model": "c"})


def test_names_of_networks():
    assert [name for name, _ in named(Path("x/a.pt"))] == ["a.pt"]
    assert [name for name, _ in named(["x/a.pt", "y/a.pt", "b.pt"])] == ["x/a.pt", "y/a.pt", "b.pt"]
    assert [name for name, _ in named([nn.ReLU(), "b.pt"])] == ["model 1", "b.pt"]


# --- what is measured


def test_a_trial_is_what_the_functions_give(tune: Callable[..., Tuned], task: Task, tmp_path: Path):
    found = tune(trials=40, codes=("signed-if", "window", "stock-lif"), bits=[2], start_delays=[0, 1],
                 same_bits=True, test=task.test)  # fmt: skip
    assert len(found.trials) == 2 * (2 + 2 + 1)
    assert found.met
    assert found.best.values["energy"] == min(trial.values["energy"] for trial in found.trials)
    network = fd.read(found.save(tmp_path / "best.net").file)
    levels = np.asarray(task.test[0])
    evaluation = fd.evaluate(network, levels, task.test[1], engine="reference")
    assert evaluation.accuracy() == found.test_accuracy
    assert found.images.tested == 30
    mapping = fd.map_cores(network, "loihi2")
    assert (found.mapping.cores, found.best.values["cores"]) == (mapping.cores, mapping.cores)
    assert found.best.values["operations"] == found.profile.counts.total("synaptic_operations") / 3
    again = tune(fixed=found.fixed)
    assert [trial.choice for trial in again.trials] == [found.best.choice]
    assert again.network == found.network
    assert dict(again.best.values) == dict(found.best.values)
    assert f"{len(found.trials)} trials" in found.summary()
    assert json.loads(json.dumps(found.to_dict()))["best"]["code"] == found.best.choice.code


def test_what_does_not_fit_never_runs(tune: Callable[..., Tuned], monkeypatch: pytest.MonkeyPatch):
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("a network that does not meet the budget was run")

    monkeypatch.setattr(bench, "profile", refuse)
    found = tune("cores<=1, accuracy>=90%")
    assert (found.met, len(found.trials)) == (False, 4)
    assert all(set(trial.values) == {"cores", "chips"} for trial in found.trials)
    assert found.best.missed == {"cores<=1": found.best.values["cores"] - 1}
    assert "too much" in found.summary()
    with pytest.raises(InputError, match="none is written"):
        found.save("never.net")
    found = tune(hardware="loihi1-sanafe")  # a chip without negative spikes
    assert all("fits" in trial.missed for trial in found.trials if trial.choice.code != "stock-lif")
    assert "does not fit: " in found.best.why


def test_the_test_images_have_the_last_word(tune: Callable[..., Tuned], task: Task):
    wrong = (task.test[0], (np.asarray(task.test[1]) + 1) % 4)
    found = tune("accuracy>=90%", test=wrong, codes=["graded"], bits=[3], trials=1)
    assert found.best.met
    assert found.test_accuracy < 0.5
    assert not found.met
    assert "the budget is not met there" in found.summary()


def test_a_float_network_is_tried_with_the_bits_that_are_asked_for(tune: Callable[..., Tuned]):
    found = tune(models=Small().eval(), codes=["graded"], bits=[2, 4], weight_bits=[3], same_bits=True)
    assert {tuple(trial.choice.bits.values()) for trial in found.trials} == {(2, 2), (4, 4)}
    assert {tuple(trial.choice.weight_bits.values()) for trial in found.trials} == {(3,)}


# --- storages, and how a search ends


@pytest.mark.parametrize(("name", "budget"), [("trials.db", ROOM), ("trials.log", "cores<=1")])
def test_a_search_that_goes_on_is_the_search(
    tune: Callable[..., Tuned], tmp_path: Path, name: str, budget: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(space, "BEGIN", 2)  # then TPE proposes
    options: dict[str, Any] = {"codes": ["burst2", "graded"], "bits": [1, 2], "start_delays": range(9)}
    whole = tune(budget, trials=4, **options)
    for trials in (2, 4):
        parts = tune(budget, trials=trials, storage=tmp_path / name, **options)
    assert [(t.choice, dict(t.values)) for t in parts.trials] == [(t.choice, dict(t.values)) for t in whole.trials]
    assert len({json.dumps(t.choice.fixed) for t in whole.trials}) == 4
    with pytest.raises(InputError, match="is another search") as error:
        tune("spikes<=5", trials=4, seed=1, storage=tmp_path / name, **options)
    assert {problem.where for problem in error.value.problems} >= {"budget", "seed"}


def test_interrupted_searches_keep_what_is_done(
    tune: Callable[..., Tuned], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    measure, calls = bench.profile, []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(*arguments, **options)

    monkeypatch.setattr(bench, "profile", interrupted)
    options: dict[str, Any] = {"storage": tmp_path / "trials.db", "codes": ["burst2", "graded"], "trials": 2}
    found = tune(**options)
    assert (found.interrupted, len(found.trials), found.best) == (True, 1, found.trials[0])
    monkeypatch.setattr(bench, "profile", measure)
    after = tune(**options)
    assert not after.interrupted
    assert [trial.choice.code for trial in after.trials] == ["burst2", "graded"]
    assert dict(after.trials[0].values) == dict(found.trials[0].values)


WORKER = """
import sys
import fastsnn_deploy as fd
from tests.test_tune import shared
print(len(shared(*sys.argv[1:])))
"""


def shared(model: str, storage: str, own: str, other: str) -> list[str]:
    """What one of two processes was told of its trials; after its first one it waits for the other's."""
    images = np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8)).astype(np.uint8)
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        Path(own).touch()
        while not Path(other).exists():
            time.sleep(0.01)

    fd.tune(
        model, "cores<=1", (images, np.arange(60) % 4), storage=storage, trials=6, samples=20, profile_samples=2,
        images=20, start_delays=range(40), codes=["graded"], tell=tell,
    )  # fmt: skip
    return told


def test_two_processes_work_on_one_study(task: Task, tmp_path: Path):
    fd.save(task.model, tmp_path / "model.pt")
    files = [str(tmp_path / name) for name in ("model.pt", "trials.db", "first", "second")]
    command = [sys.executable, "-c", WORKER, files[0], files[1], files[3], files[2]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as second:
        first = len(shared(*files))
        told, _ = second.communicate(timeout=200)
    assert second.returncode == 0
    study = optuna.load_study(study_name="tune", storage=f"sqlite:///{files[1]}")
    finished = [trial for trial in study.trials if trial.state.name == "PRUNED"]
    assert first > 0
    assert int(told) > 0
    assert first + int(told) == len(finished)
    assert 6 <= len(finished) <= 7  # one may begin while the other ends the last
    networks = {json.dumps(trial.params, sort_keys=True) for trial in finished}
    assert len(networks) >= len(finished) - 1  # two that choose in the same instant may choose the same


def test_storages_that_cannot_be_used(tune: Callable[..., Tuned], tmp_path: Path, task: Task):
    (tmp_path / "text.db").write_text("hello, this is no data base " * 50)
    (tmp_path / "text.log").write_text("hello")
    fd.save(task.model, tmp_path / "model.db")
    for name, says in (
        ("text.db", "cannot be used as a storage"), ("text.log", "no journal"), ("trials.csv", "the name must end in"),
        ("nowhere/trials.db", "no file can be written there"), ("model.db", "checkpoint"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=says):
            tune(storage=tmp_path / name)
    with pytest.raises(InputError, match="cannot be used as a storage"):
        tune(storage="nosuch://host/trials")
    assert (tmp_path / "text.log").read_text() == "hello"
    assert open_study(None, "tune", {}, "most").trials == []


def test_without_optuna_it_is_said_how_to_get_it(tune: Callable[..., Tuned], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'fastsnn-deploy\[tune\]'"):
        tune()


# --- the command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    return runner(monkeypatch, capsys)


FEW = (
    "--samples", 40, "--profile-samples", 1, "--images", 32, "--test-samples", 20, "--engine", "reference",
)  # fmt: skip


def test_the_command_writes_the_winner_and_says_how_to_make_it_again(
    run: Callable[..., Result], checkpoint_file: Path, tmp_path: Path
):
    result = run("tune", checkpoint_file, "--budget", "cores<=20,steps<9, accuracy>=20%", *FEW, "--trials", 2,
                 "--judge", "test", "--bits", "1-2", "--codes", "graded", "--storage", tmp_path / "trials.log", "--csv",
                 tmp_path / "trials.csv", "-o", tmp_path / "best.net", "--json")  # fmt: skip
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["met"], found["file"]) == (True, str(tmp_path / "best.net"))
    assert found["images"] == {"taught": 32, "profiled": 1, "judged": 40, "trained_on": False, "tested": 20}
    assert len((tmp_path / "trials.csv").read_text().splitlines()) == 3
    words = shlex.split(found["command"])
    assert words[:3] == ["fastsnn-deploy", "tune", str(checkpoint_file)]
    words[-1] = str(tmp_path / "again.net")
    again = run(*words[1:])
    assert again.returncode == 0, again.stderr
    assert fd.read(tmp_path / "again.net") == fd.read(tmp_path / "best.net")
    for says in ("1 trials", "binds", "the best energy", "looked at once", "Layers", "Trials on loihi2", "rebuild"):
        assert says in again.stdout, says


def test_the_command_shows_the_nearest_network_where_nothing_meets_the_budget(
    run: Callable[..., Result], checkpoint_file: Path, tmp_path: Path
):
    result = run("tune", checkpoint_file, "--budget", "cores<=3", *FEW, "--trials", 2, "--judge", "test", "-o",
                 tmp_path / "best.net")  # fmt: skip
    assert result.returncode == 2
    assert "0 of which meet the budget cores<=3; the nearest is trial 0: cores 7: 4 (133.3 %) too much" in result.stdout
    assert "test images were not looked at" in result.stdout
    assert not (tmp_path / "best.net").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--budget", "cors<=3, latency<1"), "the unit is missing"),
        (("--bits", "2-x"), "--bits '2-x': must be whole numbers"),
        (("--bits", "9"), "bits is 9, must be at most 8"),
        (("--codes", "graded,,"), "must be values with commas between"),
        (("--codes", "gradde"), "Did you mean 'graded'?"),
        (("--codes", "start-delay-2"), "start delays go with every code"),
        (("--fix", "code"), "must be a name and a value"),
        (("--fix", "colour=red"), "matches no parameter"),
        (("--aim", "speed"), "aim 'speed' is not known"),
        (("--hardware", "horowitz45-int8"), "has no limits of a chip"),
        (("--mean", "0.5"), "is of float networks"),
        (("--data", "random"), "labelled images"),
        (("--samples", "100000"), "are too few"),
        (("--storage", "trials.txt"), "the name must end in"),
    ],
)
def test_mistakes_are_one_message(
    run: Callable[..., Result], checkpoint_file: Path, options: tuple[str, str], says: str
):
    budget = () if options[0] == "--budget" else ("--budget", "cores<=128")
    result = run("tune", checkpoint_file, *budget, *FEW, "--trials", 1, *options)
    assert result.returncode == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr
