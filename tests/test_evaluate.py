"""Evaluation against a plain one of each image alone, in parts of any size, in processes, and as a command."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from operator import add
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fastsnn_deploy import netx
from fastsnn_deploy.cli.main import main
from fastsnn_deploy.engine import ENGINES, open_engine
from fastsnn_deploy.errors import BackendError, InputError
from fastsnn_deploy.evaluate import (
    Evaluation,
    counts_of,
    curve_csv,
    curve_rows,
    evaluate,
    gather,
    integer_logits,
    integer_outputs,
    nothing,
    ranks,
    twin_logits,
)
from fastsnn_deploy.evaluate.evaluation import sources_of
from fastsnn_deploy.evaluate.wire import pack, unpack
from fastsnn_deploy.graph import Input, Linear, MaxPool2d, Readout, SpikingGraph, with_code
from fastsnn_deploy.processes import Processes
from fastsnn_deploy.profile import count
from fastsnn_deploy.quantize import load
from fastsnn_deploy.quantize.data import load_images
from fastsnn_deploy.simulate import evaluate as integer_network
from fastsnn_deploy.simulate import logits, simulate
from tests.random_graphs import random_graph, random_images

NET = Path(__file__).parents[1] / "netx_exports" / "digits-2bit-unary.net"
MANIFEST = json.loads((NET.parent / "manifest.json").read_text())[NET.name]
KS = (1, 2, 5)

seeds = st.integers(0, 10_000)
codes = st.sampled_from(["unary", "graded"])


def drawn(seed: int, code: str = "unary") -> SpikingGraph:
    """A random graph in which every window of a max pool holds a position of its map: others have no maximum."""
    graph = random_graph(seed, blocks=3, code=code, max_size=6)
    for node in graph.nodes:
        if isinstance(node, MaxPool2d):
            assume(node.apply(np.zeros((1, *graph[node.inputs[0]].shape), dtype=np.int64)).min() == 0)
    return graph


def drawn_data(graph: SpikingGraph, seed: int, images: int = 5) -> tuple[np.ndarray, np.ndarray]:
    return random_images(graph, seed, images), np.random.default_rng(seed).integers(0, 5, images)


def plain(graph: SpikingGraph, levels: np.ndarray, labels: np.ndarray, steps: int | None = None) -> dict:
    """Each image alone, its classes sorted by Python at each step, its messages counted by NumPy."""
    answers, settle, per_step = [], [], []
    messages = {node.name: np.zeros(node.shape, dtype=np.int64) for node in sources_of(graph)}
    name = graph.outputs[0]
    for image, label in zip(levels, labels, strict=True):
        run = simulate(graph, graph.input.encode(image[None]), steps)
        series = run.potentials[name] if isinstance(graph[name], Readout) else run.counts[name]
        places = []
        for values in series:
            scores = logits(graph, {name: values})[0].tolist()
            places.append(sorted(range(5), key=lambda c, s=scores: (-s[c], c)).index(label))
        answers.append(places)
        settle.append(int(run.settle_steps[0]))
        for key, spikes in run.spikes.items():
            messages[key] += np.count_nonzero(spikes, axis=(0, 1))
        per_step.append([sum(int(np.count_nonzero(s[t])) for s in run.spikes.values()) for t in range(run.steps)])
    length = max(settle) if steps is None else steps
    late = [[places[min(step, len(places) - 1)] for step in range(length)] for places in answers]
    return {
        "settle": settle,
        "correct": {k: sum(places[-1] < k for places in answers) for k in KS},
        "curve": {k: [sum(places[step] < k for places in late) for step in range(length)] for k in KS},
        "messages": messages,
        "per_step": [sum(sent[t] for sent in per_step if t < len(sent)) for t in range(length)],
    }


def run_it(graph: SpikingGraph, levels: np.ndarray, labels: np.ndarray | None, **options) -> Evaluation:
    return evaluate(graph, levels, labels, engine="reference", **{"topk": KS, **options})


def same(a: Evaluation, b: Evaluation) -> bool:
    """Every number is the same; .npz files of equal arrays are equal bytes."""
    return pack(a) == pack(b) and a.to_json() == b.to_json() and curve_rows(a) == curve_rows(b)


@settings(max_examples=25)
@given(seed=seeds, code=codes, fixed=st.sampled_from([None, 1, 6]))
def test_equals_each_image_alone_for_any_batch(seed: int, code: str, fixed: int | None):
    graph = drawn(seed, code)
    levels, labels = drawn_data(graph, seed)
    expected = plain(graph, levels, labels, fixed)
    whole = run_it(graph, levels, labels, steps=fixed, batch=5)
    assert np.repeat(np.arange(len(whole.settled)), whole.settled).tolist() == sorted(expected["settle"])
    assert whole.mean_settle_steps == pytest.approx(np.mean(expected["settle"]))
    assert whole.max_settle_steps == max(expected["settle"])
    for entry in whole.topk:
        assert entry.correct == expected["correct"][entry.k]
        assert entry.curve.tolist() == expected["curve"][entry.k]
        assert whole.accuracy(entry.k) == entry.correct / 5
    for name, activity in whole.activity.items():
        np.testing.assert_array_equal(activity.messages, expected["messages"][name])
    assert whole.messages_per_step.tolist() == expected["per_step"]
    assert whole.messages == sum(expected["per_step"])
    for batch in (1, 2, 3):
        assert same(run_it(graph, levels, labels, steps=fixed, batch=batch), whole)


@settings(max_examples=25)
@given(seed=seeds, code=codes, fixed=st.sampled_from([None, 2, 30]))
def test_operations_equal_the_profile(seed: int, code: str, fixed: int | None):
    graph = drawn(seed, code)
    levels, labels = drawn_data(graph, seed)
    run = simulate(graph, graph.input.encode(levels), fixed)
    counts = count(graph, run, every_step=fixed is not None)
    found = run_it(graph, levels, labels, steps=fixed, batch=2)
    assert found.operations == {c.name: c.synaptic_operations + c.undelivered_operations for c in counts.connections}
    assert found.synaptic_operations == counts.total("synaptic_operations") + counts.total("undelivered_operations")
    if fixed is None:
        assert counts.total("undelivered_operations") == 0
    assert found.messages == counts.total("messages")
    assert found.neuron_updates == counts.total("neuron_updates")
    assert found.charged_steps == counts.steps


@settings(max_examples=25)
@given(seed=seeds, code=codes)
def test_counts_are_those_of_the_profile(seed: int, code: str):
    graph = drawn(seed, code)
    levels, labels = drawn_data(graph, seed)
    expected = count(graph, simulate(graph, graph.input.encode(levels)))
    assert counts_of(run_it(graph, levels, labels, batch=2)) == expected
    assert counts_of(evaluate(graph, levels, labels, engine=open_engine(graph, "cpu", 1))) == expected


def test_runs_of_fixed_length_cannot_be_counted():
    graph = drawn(1)
    levels, labels = drawn_data(graph, 1)
    with pytest.raises(InputError, match="Evaluate without a number of steps"):
        counts_of(run_it(graph, levels, labels, steps=4))


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000))
def test_integer_outputs_are_those_of_the_integer_network(seed: int):
    graph = random_graph(seed, blocks=4)
    levels = random_images(graph, seed, 5)
    name = graph.outputs[0]
    expected = integer_network(graph, graph.input.encode(levels))
    for batch in (1, 2, 50):
        found = integer_outputs(graph, levels, batch)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, expected[name])
    np.testing.assert_array_equal(integer_logits(graph, levels), logits(graph, expected))
    assert integer_outputs(graph, levels[:0]).shape == (0, *graph[name].shape)


def test_answers_of_the_twin(checkpoint_file: Path):
    twin, images = load(checkpoint_file).twin, load_images("digits", "test")
    seen: list[tuple[int, int]] = []
    found = twin_logits(twin.train(), images, batch=200, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(200, 360), (360, 360)]
    assert found.shape == (360, 10)
    assert found.dtype == np.float32
    with torch.no_grad():
        np.testing.assert_allclose(found, twin.eval()(images.raw(slice(0, 360))).numpy(), rtol=1e-4, atol=1e-5)
    assert (
        float((found.argmax(1) == images.labels.numpy()).mean()) == load(checkpoint_file).metadata["quantised_accuracy"]
    )
    again: list[tuple[int, int]] = []
    integer_logits(netx.read(NET), images.levels[:3].numpy(), 2, lambda done, total: again.append((done, total)))
    assert again == [(2, 3), (3, 3)]


@settings(max_examples=15)
@given(seed=seeds, cuts=st.lists(st.integers(0, 6), max_size=3))
def test_parts_add_up_in_any_order(seed: int, cuts: list[int]):
    graph = drawn(seed)
    levels, labels = drawn_data(graph, seed, 6)
    whole = run_it(graph, levels, labels)
    edges = [0, *sorted(cuts), 6]
    parts = [run_it(graph, levels[a:b], labels[a:b]) for a, b in pairwise(edges)]
    assert same(reduce(add, parts), whole)
    assert same(reduce(add, reversed(parts)), whole)
    assert same(whole + nothing(graph, KS), whole)
    assert same(unpack(graph, pack(whole)), whole)


@settings(max_examples=10)
@given(seed=seeds)
def test_without_labels_all_but_accuracy(seed: int):
    graph = drawn(seed)
    levels, labels = drawn_data(graph, seed)
    labelled, unlabelled = run_it(graph, levels, labels), run_it(graph, levels, None)
    assert same(replace(labelled, topk=()), unlabelled)
    assert unlabelled.to_json()["accuracy"] == {}
    with pytest.raises(KeyError):
        unlabelled.accuracy()


def test_ranks_break_ties_by_the_lowest_class():
    scores = np.array([[1.0, 3.0, 3.0, 0.0]] * 4)
    assert ranks(scores, np.arange(4)).tolist() == [2, 0, 1, 3]
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 3, (500, 10)).astype(float), rng.integers(0, 10, 500)
    found = ranks(scores, labels)
    np.testing.assert_array_equal(found == 0, scores.argmax(1) == labels)
    order = np.argsort(-scores, axis=1, kind="stable")
    np.testing.assert_array_equal(found, (order == labels[:, None]).argmax(1))


def silent() -> SpikingGraph:
    """A network with weights of zero: nothing but the input ever sends, and only for images that are not zero."""
    image = Input(name="image", shape=(3,), step=1.0, low=0, high=15, offset=np.zeros(3), scale=1.0)
    synapse = Linear(name="w", inputs=("image",), shape=(5,), weight=np.zeros((5, 3), np.int8), exponent=np.zeros(5))
    readout = Readout(name="out", inputs=("w",), shape=(5,), bias=np.zeros(5), scale=np.ones(5))
    return SpikingGraph(nodes=(image, synapse, readout), outputs=("out",))


def test_a_network_that_never_changes_answers_with_its_zeros():
    graph, labels = silent(), np.array([0, 1, 0, 4])
    still = evaluate(graph, np.zeros((4, 3), dtype=np.int64), labels, topk=KS)
    assert (still.length, still.messages, still.synaptic_operations, still.neuron_updates) == (0, 0, 0, 0)
    assert [entry.correct for entry in still.topk] == [2, 3, 4]
    assert curve_rows(still) == []
    moved = evaluate(graph, np.ones((1, 3), dtype=np.int64), np.array([0]), topk=KS)
    assert moved.length == 1
    # the still images answer with class 0 in the step that only the other one needs
    assert (still + moved).topk[0].curve.tolist() == [3]
    assert (moved + still).topk[0].curve.tolist() == [3]


def test_settle_percentile_is_the_nearest_rank():
    settled = np.zeros(31, dtype=np.int64)
    settled[[10, 20, 30]] = 98, 1, 1
    found = replace(nothing(silent()), images=100, settled=settled)
    assert [found.settle_percentile(p) for p in (50, 98, 99, 100)] == [10, 10, 20, 30]
    assert found.mean_settle_steps == pytest.approx(10.3)


def test_progress_and_batches_of_the_engine():
    graph = drawn(1)
    levels, labels = drawn_data(graph, 1, 23)
    seen: list[tuple[int, int]] = []
    run_it(graph, levels, labels, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(10, 23), (20, 23), (23, 23)]


def test_wrong_arguments():
    graph = drawn(1)
    levels, labels = drawn_data(graph, 1)
    cases = [
        ({"labels": labels[:-1]}, "one for each image"),
        ({"labels": labels.astype(float)}, "needs integers"),
        ({"labels": labels + 5}, "the network has 5 classes"),
        ({"batch": 0}, "batch is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"topk": (0,)}, "topk is 0"),
        ({"engine": "abacus"}, "abacus"),
        ({"engine": open_engine(with_code(graph, "graded"), "reference")}, "another graph"),
    ]
    for wrong, message in cases:
        options = {"labels": labels, "engine": "reference", **wrong}
        with pytest.raises(InputError, match=message):
            evaluate(graph, levels, options.pop("labels"), **options)
    with pytest.raises(InputError, match="expects"):
        run_it(graph, levels[:, :, :-1], labels)
    maps = replace(graph, outputs=(next(p.name for p in graph.populations if len(p.shape) == 3),))
    with pytest.raises(InputError, match="is for classification"):
        run_it(maps, levels, labels)
    whole = run_it(graph, levels, labels)
    for other in (run_it(graph, levels, None), run_it(graph, levels, labels, steps=3)):
        with pytest.raises(ValueError, match="do not add up"):
            whole + other


# --- processes


def test_shares_of_processes_are_all_images_once():
    for images in (0, 1, 7, 100):
        for size in (1, 2, 3, 8):
            parts = [np.arange(images)[Processes(rank, size).share(images)] for rank in range(size)]
            assert np.concatenate(parts).tolist() == list(range(images))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_processes_of_the_environment():
    assert Processes.from_environment({}) == Processes(0, 1, 1)
    assert Processes.from_environment({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}) == Processes(3, 4, 2)
    assert Processes().threads is None
    assert Processes(0, 2, 2).threads == max(1, (os.cpu_count() or 1) // 2)
    for wrong in ({"WORLD_SIZE": "two"}, {"RANK": "2", "WORLD_SIZE": "2"}, {"WORLD_SIZE": "0"}):
        with pytest.raises(InputError, match="WORLD_SIZE"):
            Processes.from_environment(wrong)


def test_gather_alone_and_without_the_others(monkeypatch: pytest.MonkeyPatch):
    whole = nothing(silent(), KS)
    assert gather(whole, Processes()) is whole
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BackendError, match="MASTER_ADDR"):
        gather(whole, Processes(0, 2))


@pytest.mark.parametrize(("processes", "samples"), [(2, 7), (2, 1)])
def test_torchrun_gives_what_one_process_gives(run, processes: int, samples: int, tmp_path: Path):
    arguments = ("evaluate", NET, "--samples", samples, "--engine", "reference", "--json", "--curve")
    alone = json.loads(run(*arguments, "alone.csv").stdout)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += ["-m", "fastsnn_deploy", *map(str, arguments), "together.csv", "--batch", "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    together = json.loads(done.stdout)
    assert (alone.pop("processes"), together.pop("processes")) == (1, processes)
    for report in (alone, together):
        for changing in ("seconds", "images_per_second", "curve"):
            del report[changing]
    assert together == alone
    assert (tmp_path / "together.csv").read_text() == (tmp_path / "alone.csv").read_text()


# --- the command


@dataclass(frozen=True)
class Result:
    """What a command printed and returned."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run a command line in `tmp_path`, inside this process."""
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["fastsnn-deploy", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_call:
            main()
        printed = capsys.readouterr()
        return Result(exit_call.value.code, printed.out, printed.err)

    return run_command


def test_the_whole_test_set(run, tmp_path: Path):
    result = run("evaluate", NET, "--engine", "reference", "--json", "--curve", "c.csv")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["images"] == MANIFEST["test_images"]
    assert report["accuracy"]["top1"] == MANIFEST["integer_accuracy"]
    assert report["settle_steps"]["mean"] == pytest.approx(MANIFEST["settle_steps"]["mean"], abs=0.005)
    assert report["settle_steps"]["max"] == MANIFEST["settle_steps"]["max"]
    assert report["correct_per_step"]["top1"][-1] == report["correct"]["top1"]
    assert report["synaptic_operations"] == sum(report["connections"].values())
    with (tmp_path / "c.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["steps"]) for row in rows] == list(range(1, report["settle_steps"]["max"] + 1))
    assert [int(row["top1_correct"]) for row in rows] == report["correct_per_step"]["top1"]
    assert int(rows[-1]["settled"]) == report["images"]
    graph, images = netx.read(NET), load_images("digits", "test")
    found = evaluate(graph, images.levels.numpy(), images.labels.numpy(), engine="cpu", batch=64)
    assert curve_csv(found) == (tmp_path / "c.csv").read_text()
    assert found.to_json() == {key: report[key] for key in found.to_json()}


def test_tables_and_drawing(run, tmp_path: Path):
    result = run("evaluate", NET, "--samples", 5, "--engine", "reference", "--threads", 1, "--curve", "a/c.png")
    assert result.returncode == 0, result.stderr
    for text in ("top-1", "top-5", "100.00 % (5 right)", "settled after", "99 % by", "synaptic operations an image",
                 "neuron updates an image", "images/s", "After each step"):  # fmt: skip
        assert text in result.stdout
    assert (tmp_path / "a" / "c.png").read_bytes().startswith(b"\x89PNG")
    long = run("evaluate", NET, "--samples", 2, "--engine", "reference", "--steps", 100).stdout
    assert "stopped after" in long
    lines = [line for line in long.split("After each step")[1].splitlines() if "%" in line]
    assert len(lines) == 40
    assert lines[-1].split()[1] == "100"


def test_random_images_have_no_accuracy(run, tmp_path: Path):
    arguments = ("evaluate", NET, "--data", "random", "--samples", 3, "--engine", "reference")
    result = run(*arguments)
    assert result.returncode == 0, result.stderr
    assert "top-1" not in result.stdout
    assert json.loads(run(*arguments, "--json").stdout)["accuracy"] == {}
    refused = run(*arguments, "--curve", "c.csv")
    assert refused.returncode == 2
    assert "needs labels" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_wrong_input(run, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    other = tmp_path_factory.mktemp("other")
    (other / "bad.net").write_bytes(b"not hdf5")
    (other / "file").write_text("in the way")
    cases: list[tuple[tuple[object, ...], str]] = [
        (("ghost.net",), "ghost.net: no such"),
        ((other / "bad.net",), "bad.net"),
        ((NET, "--engine", "abacus"), "engine 'abacus' is not known"),
        ((NET, "--samples", 100_000), "360 test images"),
        ((NET, "--samples", 0), "samples"),
        ((NET, "--batch", 0), "batch"),
        ((NET, "--steps", 0), "steps"),
        ((NET, "--data", "imaginary"), "imaginary"),
        ((NET, "--data", "cifar10"), "--data-root"),
        ((NET, "--curve", "c.pdf"), ".csv or .png"),
        ((NET, "--curve", other / "file" / "c.csv"), "cannot be written"),
    ]
    for arguments, message in cases:
        result = run("evaluate", *arguments)
        assert result.returncode == 2, arguments
        assert "Traceback" not in result.stderr
        assert message in " ".join(result.stderr.split())
        assert list(tmp_path.iterdir()) == []
    (other / "c.csv").mkdir()
    assert "is a folder" in run("evaluate", NET, "--curve", other / "c.csv").stderr
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "once in each process" in run("evaluate", NET, "--download").stderr
    monkeypatch.setenv("WORLD_SIZE", "some")
    assert "WORLD_SIZE=some" in run("evaluate", NET).stderr


def test_interrupted(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ENGINES["reference"], "run", interrupt)
    result = run("evaluate", NET, "--engine", "reference", "--json", "--curve", "c.csv")
    assert result.returncode == 130
    assert "interrupted" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []
