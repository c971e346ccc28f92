"""Events of a camera, one spike each: settled counts are those of their frame, on every engine and on Lava."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastsnn_deploy as fd
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import MaxPool2d, Population, Readout, SpikeTrains, SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values, logits
from fastsnn_deploy.graph.spike_trains import MOST_STEPS
from fastsnn_deploy.simulators.batched import ReferenceEngine
from fastsnn_deploy.simulators.cpu import CpuEngine
from fastsnn_deploy.simulators.gpu import GpuEngine
from fastsnn_deploy.simulators.reference import simulate
from fastsnn_deploy.simulators.streaming import stream
from fastsnn_deploy.training.event_camera import MARGIN, EventCamera, moving
from tests.commands import Result, runner
from tests.random_graphs import random_graph
from tests.test_engine import assert_equal_runs, recorded_nodes

SEEDS = st.integers(0, 2**20)
SIZE = (6, 7)


def random_events(seed: int, size: tuple[int, int] = SIZE, count: int = 120, span: int = 9000) -> fd.Events:
    """Events that crowd together: many pixels have several in one time bin."""
    rng = np.random.default_rng(seed)
    y, x = (rng.integers(0, side, count) for side in size)
    return fd.Events(t=rng.integers(50, 50 + span, count), x=x, y=y, p=rng.integers(0, 2, count))


@cache
def event_graph() -> SpikingGraph:
    """A convolutional classifier of event frames with random weights, whose neurons do spike."""
    return fd.convert(event_model())


@cache
def event_model() -> Any:
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten()]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(4 * 3 * 3, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    quantised = fd.prepare(network, input_shape=(2, *SIZE), input_step=1.0, input_levels=(0, 15))
    frames = np.stack([random_events(n).frame(SIZE) for n in range(8)])
    fd.calibrate(quantised, np.minimum(frames, 15))
    return quantised


def recordings(count: int = 3) -> list[fd.Events]:
    return [random_events(seed, count=40 * (seed + 1)) for seed in range(count)]


def random_trains(seed: int, neurons: str) -> tuple[SpikingGraph, SpikeTrains]:
    """A random network that subtracts no mean, with any number of channels, and spikes for its input."""
    found = (random_graph(each, neurons=neurons) for each in range(seed, seed + 100))
    graph = next(graph for graph in found if not graph.input.offset.any())
    rng, size = np.random.default_rng(seed), int(np.prod(graph.input.shape))
    places = np.flatnonzero(rng.random(3 * 14 * size) < 0.3)
    step, rest = np.divmod(places, 3 * size)
    recording, neuron = np.divmod(rest, size)
    return graph, SpikeTrains(graph.input.shape, 3, recording, step, neuron)


# --- events and spikes


def test_everything_wrong_with_events_is_said_at_once():
    with pytest.raises(InputError) as found:
        fd.Events(t=[1.5], x=["a"], y=[[1]], p=[1])
    assert [problem.where for problem in found.value.problems] == ["t", "x", "y"]
    with pytest.raises(InputError, match=r"t 2, x 1"):
        fd.Events(t=[1, 2], x=[1], y=[1], p=[1])
    with pytest.raises(InputError) as found:
        fd.Events(t=[1, 2], x=[-1, 0], y=[0, 0], p=[0, 7])
    assert [problem.where for problem in found.value.problems] == ["x", "p"]
    assert fd.Events(t=[1, 2], x=[0, 0], y=[0, 0], p=[-1, 1]).p.tolist() == [0, 1]
    assert fd.Events(t=torch.tensor([1]), x=[0], y=[0], p=[True]).p.tolist() == [1]


def test_parts_of_a_recording_and_larger_pixels():
    events = fd.Events(t=[100, 140, 190, 400], x=[0, 3, 5, 6], y=[0, 0, 4, 5], p=[0, 1, 1, 1])
    assert events.between(40, 90).t.tolist() == [140]
    assert events.between(90).t.tolist() == [190, 400]
    assert np.array_equal(
        events.downsampled(2).frame((3, 4)), (events.frame((6, 8)).reshape(2, 3, 2, 4, 2).sum((2, 4)))
    )
    with pytest.raises(InputError, match="1 of 4 events lie outside 6x6 pixels, the first at row 5, column 6"):
        events.frame((6, 6))
    with pytest.raises(InputError, match="stop_us is 5, must be at least 6"):
        events.between(5, 5)


@settings(max_examples=10)
@given(SEEDS, st.sampled_from([100.0, 1000.0, 2500.5]), st.integers(1, 6))
def test_spikes_are_events_in_their_bins_one_a_step(seed: int, bin_us: float, most: int):
    graph = event_graph()
    source = replace(graph.input, high=most)
    parts = [random_events(seed), random_events(seed + 1, count=0), random_events(seed + 2, count=300)]
    trains = fd.spike_trains(parts, source, bin_us)
    for number, events in enumerate(parts):
        waiting: dict[tuple[int, int, int], list[int]] = {}
        for t, x, y, p in zip(events.t, events.x, events.y, events.p, strict=True):
            waiting.setdefault((p, y, x), []).append(int((t - events.t[0]) // bin_us))
        expected, late = set(), 0
        for pixel, bins in waiting.items():
            free = 0
            for each in bins[:most]:
                free = max(free, each)
                expected.add((free, *pixel))
                late += free > each
                free += 1
        mine = trains[number : number + 1]
        found = {(step, *place) for step in range(mine.steps) for place in np.argwhere(mine.at(step)[0]).tolist()}
        assert found == expected
        assert (trains.late[number], trains.lengths[number]) == (
            late,
            max((step + 1 for step, *_ in expected), default=0),
        )
        assert trains.dropped[number] == len(events) - len(expected)
        assert np.array_equal(trains.total()[number], np.minimum(events.frame(SIZE), most))


def test_the_same_spikes_in_another_order():
    trains = fd.spike_trains(recordings(), event_graph().input)
    other = trains.shuffled(3)
    assert np.array_equal(other.total(), trains.total())
    assert not np.array_equal(other.at(0), trains.at(0))
    assert all(other.at(step).max() <= 1 for step in range(other.steps))


# --- exactness


@settings(max_examples=8, deadline=None)
@given(
    SEEDS, st.sampled_from(["unary", "graded", "burst2"]), st.sampled_from([-1.0, 0.02, 2.0]), st.sampled_from([0, 3])
)
def test_engines_equal_the_reference_and_it_settles_to_the_frame(seed: int, neurons: str, density: float, wait: int):
    graph, trains = random_trains(seed, neurons)
    graph = replace(graph, schedule=replace(graph.schedule, start_delay=wait))
    values, names = integer_values(graph, trains.total()), recorded_nodes(graph)
    for sent in (trains, trains.shuffled(seed)):
        run = simulate(graph, sent)
        for node in graph.nodes:
            if isinstance(node, (Population, MaxPool2d, Readout)):
                assert np.array_equal(run.final(node.name), values[node.name]), node.name
    expected = ReferenceEngine(graph).run(trains, None, names)
    assert_equal_runs(CpuEngine(graph, 1, density=density, tile=2).run(trains, None, names), expected)
    assert_equal_runs(CpuEngine(graph, 1, density=density).run(trains), ReferenceEngine(graph).run(trains))
    assert_equal_runs(GpuEngine(graph, device="cpu").run(trains, None, names), expected)
    assert_equal_runs(CpuEngine(graph, 1).run(trains, 6, names), ReferenceEngine(graph).run(trains, 6, names))


def test_the_proof_compares_the_frame_and_the_cpu_engine():
    graph = event_graph()
    trains = fd.spike_trains(recordings(), graph.input)
    proof = fd.verify(graph, trains)
    assert proof.exact
    assert proof.settled.compared == 3 * sum(node.size for node in graph.nodes if node.name in graph.depths and
                                             isinstance(node, (Population, MaxPool2d, Readout)))  # fmt: skip
    assert set(proof.backend) == {"engine cpu"}
    assert proof.backend["engine cpu"].compared > proof.settled.compared
    assert np.array_equal(proof.outputs, logits(graph, integer_values(graph, trains.total())))
    by_engine = fd.verify(graph, trains, backend="cpu")
    assert by_engine.exact
    assert np.array_equal(by_engine.outputs, proof.outputs)
    last = graph.outputs[0]
    wrong = replace(graph, nodes=tuple(replace(n, bias=n.bias + 1) if n.name == last else n for n in graph.nodes))
    assert not fd.verify(graph, trains, net=wrong).exact


@pytest.mark.lava
def test_lava_gives_every_integer_of_the_events():
    graph = event_graph()
    proof = fd.verify(graph, fd.spike_trains(recordings(2), graph.input), backend="lava")
    assert proof.exact
    assert set(proof.backend) == {"engine cpu", "lava"}
    assert proof.backend["lava"].compared > 10_000


def test_what_takes_images_takes_events_or_says_why_not(tmp_path: Path):
    graph = event_graph()
    trains = fd.spike_trains(recordings(), graph.input)
    assert fd.simulate(graph, trains).logits.shape == (3, 3)
    assert fd.evaluate(graph, trains, [0, 1, 2]).images == 3
    profile = fd.profile(graph, trains)
    sent = next(layer for layer in profile.counts.layers if layer.name == graph.input.name)
    assert sent.positive_spikes == int(trains.total().sum())
    with pytest.raises(InputError, match="stops after its window"):
        fd.simulate(fd.convert(event_model(), schedule="window"), trains)
    with pytest.raises(InputError, match="a stream takes frames"):
        stream(graph, trains)
    fd.export(graph, tmp_path / "stock.net", target="stock-lif")
    for call in (fd.evaluate, fd.evaluate_events):
        with pytest.raises(InputError, match="stock neurons take whole frames"):
            call(tmp_path / "stock.net", trains)
    shifted = replace(
        graph, nodes=tuple(replace(n, offset=n.offset + 1) if n is graph.input else n for n in graph.nodes)
    )
    with pytest.raises(InputError, match="events count from 0"):
        fd.simulate(shifted, trains)
    with pytest.raises(InputError, match="encoded images are int64"):
        fd.simulate(graph, SpikeTrains((2, 3, 3), 1, *np.zeros((3, 1), dtype=np.int64)))
    with pytest.raises(InputError, match=r"recording 1: 1 of 1 events lie outside 6x7"):
        fd.spike_trains([recordings(1)[0], fd.Events([0], [7], [0], [1])], graph.input)
    with pytest.raises(InputError, match=f"takes more than {MOST_STEPS:,} steps"):
        fd.spike_trains(fd.Events([0, 10**9], [0, 0], [0, 0], [1, 1]), graph.input, 1.0)


# --- evaluation


def test_accuracy_over_time_and_latency_from_the_first_event():
    graph = event_graph()
    trains = fd.spike_trains(recordings(), graph.input, 500.0)
    run = fd.simulate(graph, trains, engine="reference")
    answers = run.potentials[graph.outputs[0]] * run.scales[graph.outputs[0]]
    labels = run.predictions
    for batch in (1, 3):
        found = fd.evaluate_events(graph, trains, labels, batch=batch, engine="reference")
        right = (answers.argmax(2) == labels).sum(1)
        curve = found.evaluation.topk[0].extended(found.evaluation.length)
        assert np.array_equal(curve, right[: len(curve)])
        assert found.evaluation.accuracy() == 1.0
        assert found.events == int(trains.total().sum())
        assert (found.late, found.dropped) == (int(trains.late.sum()), int(trains.dropped.sum()))
        assert np.array_equal(found.lengths, trains.lengths)
        assert np.array_equal(found.settled, run.settle_steps)
        assert found.reaches(1.0) == 500.0 * (1 + int(np.flatnonzero(right == 3)[0]))
        told = (answers.argmax(2) == labels) & (np.ptp(answers, axis=2) > 0)
        first = [1 + int(np.flatnonzero(column)[0]) for column in told.T]
        assert found.first_right_us["max"] == 500.0 * max(first)
        assert found.first_right_us["mean"] == pytest.approx(500.0 * np.mean(first))
    assert json.loads(json.dumps(found.to_dict()))["accuracy_reached_us"]["1"] == found.reaches(1.0)
    text = found.summary()
    assert "Over time, from the first event" in text
    assert "100.00 %" in text
    unknown = fd.evaluate_events(graph, recordings())
    assert unknown.to_dict()["accuracy"] is None
    assert unknown.first_right_us == {}


# --- the camera


def test_the_camera_sends_an_event_for_each_step_of_the_logarithm():
    camera = EventCamera(contrast=0.25, dark=0.1)
    video = np.zeros((3, 2, 1, 2))
    video[1:, 0, 0, 0], video[0, 1, 0, 1] = 0.7, 0.4  # one pixel brightens, one darkens
    brighter, darker = camera.record(video, frame_us=1000)
    for events, column, polarity, change in ((brighter, 0, 1, np.log(8)), (darker, 1, 0, np.log(5))):
        count = int(change / 0.25)
        assert (len(events), set(events.x), set(events.p)) == (count, {column}, {polarity})
        assert events.t.tolist() == [int(1000 * 0.25 * (number + 1) / change) for number in range(count)]
    still = camera.record(np.full((5, 1, 2, 2), 0.3), 1000)
    assert len(still[0]) == 0
    with pytest.raises(InputError, match="intensities from 0 to 1"):
        camera.record(video * 2, 1000)
    with pytest.raises(InputError, match="contrast"):
        EventCamera(contrast=0)


def test_a_moving_image_keeps_its_light_and_ends_where_it_began():
    image = np.zeros((1, 5, 4))
    image[0, 1:4, 1:3] = 0.5
    video = moving(image)
    assert video.shape[1:] == (1, 5 + MARGIN, 4 + MARGIN)
    assert np.allclose(video.sum((1, 2, 3)), image.sum())
    assert np.array_equal(video[0], video[-1])
    (events,) = EventCamera().record(video, 5000)
    assert set(events.p) == {0, 1}
    assert 250_000 < events.duration_us < 300_000


# --- the commands


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run a command line in a folder with a network of events and recordings."""
    monkeypatch.chdir(tmp_path)
    parts = [random_events(seed, count=90) for seed in range(10)]
    starts = np.cumsum([0, *map(len, parts)])[:-1]
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in "txyp"}
    np.savez(
        "camera.npz", **arrays, starts=starts, labels=np.arange(10) % 3, size=SIZE, classes=np.array(["a", "b", "c"])
    )
    data = fd.load_data("camera.npz(most=15)", "test")
    model = fd.prepare(_plain(), input_shape=(2, *SIZE), preprocessing=data.preprocessing)
    fd.calibrate(model, data)
    fd.save(model, "model.pt")
    fd.export(fd.convert(model), "model.net")
    return runner(monkeypatch, capsys)


def _plain() -> torch.nn.Module:
    torch.manual_seed(1)
    layers = [torch.nn.Conv2d(2, 3, 3), torch.nn.ReLU(), torch.nn.Flatten()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(3 * 4 * 5, 3)).eval()


def test_commands_take_events(run):
    of_events = ("--data", "camera.npz", "--events", "--bin-us", 500)
    result = run("evaluate", "model.net", *of_events, "--engine", "reference", "--json", "--curve", "c.csv")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    data = fd.load_data("camera.npz", "test")
    graph = fd.read("model.net")
    found = fd.evaluate_events(graph, data, bin_us=500.0, engine="cpu")
    assert report["recordings"] == len(data.labels) == 2  # every fifth of ten
    assert {key: report[key] for key in found.to_dict()} == json.loads(json.dumps(found.to_dict()))
    frames = json.loads(run("evaluate", "model.net", "--data", "camera.npz", "--json").stdout)
    assert frames["correct"]["top1"] == report["evaluation"]["correct"]["top1"]
    assert len(Path("c.csv").read_text().splitlines()) == 1 + len(report["evaluation"]["spikes_per_step"])
    assert "Over time, from the first event" in run("evaluate", "model.net", *of_events).stdout

    result = run("verify", "model.pt", "model.net", *of_events, "--samples", 2, "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["exact"]
    assert report["engine cpu"]["compared"] > report["settled"]["compared"] > 0
    assert report["predictions_differing_from_quantised"] == 0


def test_commands_say_what_does_not_go_with_events(run):
    np.savez("pictures.npz", x=np.zeros((5, 2, *SIZE)), y=np.zeros(5, dtype=int))
    for arguments, message in {
        ("evaluate", "model.net", "--events", "--data", "pictures.npz"): "holds images, no events",
        ("evaluate", "model.net", "--events", "--data", "random"): "--events needs a data set of events",
        ("evaluate", "model.net", "--events", "--data", "camera.npz", "--steps", 3): "--steps: not for --events",
        ("evaluate", "model.net", "--events", "--data", "camera.npz", "--bin-us", 0): "bin_us",
        ("evaluate", "model.net", "--data", "camera.npz(downsample=2)"): "takes (N, 2, 6, 7)",
        ("verify", "model.pt", "--events", "--data", "camera.npz", "--samples", 2, "--bin-us", "nan"): "bin_us",
    }.items():
        result = run(*arguments)
        assert result.returncode == 2, (arguments, result.stdout)
        assert message in result.stderr
        assert "Traceback" not in result.stderr
