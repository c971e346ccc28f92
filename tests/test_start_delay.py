"""Layers that wait before they fire: nothing is taken back any more, every settled count stays, and it is in the files.

Every engine against the reference with start delays is in test_engine.py, test_engine_gpu.py and test_simulate.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fastsnn_deploy as fd
from fastsnn_deploy.analysis.comparison.file import differences
from fastsnn_deploy.errors import GraphError, InputError
from fastsnn_deploy.formats import netx, nir
from fastsnn_deploy.graph import Schedule, SpikingGraph, load, save
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.passes.start_delay import with_start_delay
from fastsnn_deploy.passes.window import for_window
from fastsnn_deploy.simulators import open_engine
from fastsnn_deploy.simulators.streaming import stream
from fastsnn_deploy.targets import TARGETS, to_target
from tests.commands import runner
from tests.random_graphs import random_graph, random_images

SEEDS = st.integers(0, 2**20)


def at_rest(seed: int, neurons: str = "unary") -> SpikingGraph:
    """A random graph whose neurons rest before their first synaptic input, and whose image enters at once."""
    graph = random_graph(seed, neurons=neurons)
    return replace(graph, schedule=Schedule())


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_neurons_that_have_all_their_input_take_nothing_back(seed: int):
    graph = at_rest(seed)
    longest = max((max(p.ceiling, -p.floor) for p in graph.populations), default=1)
    waiting = with_start_delay(graph, longest - 1)
    emitted = graph.encode(random_images(graph, seed, 3))
    truth = integer_values(graph, emitted)
    activity = open_engine(waiting, "reference").run(emitted).activity
    for node in graph.populations:
        assert np.array_equal(activity[node.name].spikes, np.abs(truth[node.name]).sum(0)), node.name


@given(SEEDS, st.integers(1, 5))
def test_arms_of_a_sum_still_arrive_together(seed: int, start_delay: int):
    before = random_graph(seed)
    graph = with_start_delay(before, start_delay)
    assert differences(before, graph) == ()  # the same network still
    for node in graph.populations:
        arrivals = {graph.depths[name] for name in node.inputs}
        assert arrivals == {graph.arrival(node)} == {graph.depths[node.name] - start_delay}


@pytest.mark.parametrize("seed", range(6))
def test_a_window_is_as_long_and_starts_later(seed: int):
    graph = for_window(at_rest(seed))
    for waiting in (with_start_delay(graph, 3), for_window(with_start_delay(at_rest(seed), 3))):
        assert waiting.schedule == replace(graph.schedule, start_delay=3)
        emitted = graph.encode(random_images(graph, seed))
        run = open_engine(waiting, "reference").run(emitted, record=[p.name for p in graph.populations])
        for node in graph.populations:
            fired = np.flatnonzero(run.recorded[node.name].spikes.reshape(run.steps, -1).any(1))
            first = waiting.depths[node.name]
            assert set(fired) <= set(range(first, first + waiting.schedule.window))


@pytest.mark.parametrize("seed", [3, 8])
def test_files_hold_it_or_say_that_they_do_not(seed: int, tmp_path: Path):
    graph = with_start_delay(random_graph(seed), 4)
    save(graph, tmp_path / "graph.safetensors")
    netx.write(graph, tmp_path / "graph.net")
    assert load(tmp_path / "graph.safetensors") == netx.read(tmp_path / "graph.net") == graph
    assert "start delay 4" in graph.summary()
    losses = nir.export_graph(graph, tmp_path / "graph.nir").to_dict()["losses"]
    assert next(loss["lost"] for loss in losses if loss["field"] == "schedule").endswith("start delay 4")


def test_what_cannot_wait_is_refused():
    graph = at_rest(8)
    waiting = with_start_delay(graph, 2)
    unable = [name for name, target in TARGETS.items() if not target.scheduled]
    assert unable
    for name in unable:
        with pytest.raises(InputError, match=rf"target '{name}' has no .* start delay of 2 steps.*--start-delay"):
            to_target(waiting, name)
    with pytest.raises(InputError, match="start delay of 2 steps, which holds from rest only"):
        stream(waiting, waiting.encode(random_images(graph, 0, 2)))
    with pytest.raises(InputError, match="has a start delay of 2 steps already"):
        with_start_delay(waiting, 1)
    with pytest.raises(InputError, match=r"start_delay=1000000: too long .*\n.*in step [\d,]+, beyond 1,000,000"):
        with_start_delay(graph, 1_000_000)
    for wrong, what in ((-1, "must be at least 0"), (1.5, "32 signed bits"), (True, "32 signed bits")):
        with pytest.raises(GraphError, match=f"start_delay {wrong} .*{what}"):
            replace(graph, schedule=Schedule(start_delay=wrong))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    model = fd.prepare(net, bits=2, mean=(0.5,))
    fd.calibrate(model, np.random.default_rng(0).random((32, 1, 8, 8)))
    path = tmp_path_factory.mktemp("waiting") / "model.pt"
    fd.save(fd.Checkpoint(model, (1, 8, 8)), path)
    return path


def test_export_evaluate_and_verify(checkpoint: Path, tmp_path: Path, monkeypatch, capsys):
    run: Callable = runner(monkeypatch, capsys)
    out = tmp_path / "model.net"
    result = run("export", checkpoint, "--start-delay", "2", "-o", out, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["start_delay"] == 2
    read, plain = fd.read(out), fd.convert(checkpoint)
    assert read == fd.convert(checkpoint, start_delay=2)
    images = np.random.default_rng(1).random((20, 1, 8, 8))
    assert fd.verify(read, images).exact
    sent = {}
    for network in (plain, read):
        batch = open_engine(network).run(network.encode(images))
        sent[network] = batch.activity
        assert np.array_equal(batch.final(network.outputs[0]), integer_values(plain, images)[plain.outputs[0]])
    taken_back = [sum(each.negative for each in sent[network].values()) for network in (plain, read)]
    assert taken_back[1] == sent[read]["input"].negative < taken_back[0]
    result = run("export", checkpoint, "--start-delay", "2", "--target", "stock-lif", "-o", tmp_path / "stock.net")
    assert result.returncode == 2
    assert "cannot wait for a start delay" in " ".join(result.stderr.split())
    assert not (tmp_path / "stock.net").exists()
