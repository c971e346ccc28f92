"""Networks of stock neurons through the same analysis as spiking graphs, from Python and from the shell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastsnn_deploy.analysis.count import count, counts_of
from fastsnn_deploy.analysis.evaluate import evaluate
from fastsnn_deploy.analysis.kinds import KINDS
from fastsnn_deploy.analysis.profile import profile
from fastsnn_deploy.analysis.structure import layers_of
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats import formats, read_network
from fastsnn_deploy.formats.export import export
from fastsnn_deploy.graph.integer_network import integer_values as integer_network
from fastsnn_deploy.graph.integer_network import logits
from fastsnn_deploy.graph.run import Run
from fastsnn_deploy.lava_dl import Lif, StockDense, StockInput, StockNetwork, present, run
from fastsnn_deploy.passes.stock_range import to_stock_range
from fastsnn_deploy.targets import TARGETS
from fastsnn_deploy.targets.sigma_delta.convert import convert as to_sigma_delta
from tests.commands import Result, runner
from tests.conformance.chains import chain, images
from tests.conformance.stock import WHEEL
from tests.test_stream import stock_network

SAMPLES = 6


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capsys)


GRAPH = chain(2)


@pytest.fixture(scope="module")
def stock_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stock") / "stock.net"
    export(GRAPH, path, "stock-lif")
    return path


def drawn() -> tuple[np.ndarray, np.ndarray]:
    """The images of `--data random`, and labels."""
    source, rng = GRAPH.input, np.random.default_rng(0)
    return rng.integers(source.low, source.high + 1, (SAMPLES, *source.shape)), rng.integers(0, 5, SAMPLES)


# --- one network, every file


def test_every_exported_file_reads_back_and_is_evaluated(tmp_path: Path):
    """signed-if, graded and stock-lif in each format: the right answers, whichever file they come from."""
    levels, labels = drawn()
    rounded = to_stock_range(GRAPH)
    for target in ("signed-if", "graded", "stock-lif"):
        truth = rounded if target == "stock-lif" else GRAPH
        expected = logits(truth, integer_network(truth, truth.input.encode(levels))).argmax(1)
        for name, each in formats().items():
            export(GRAPH, tmp_path / f"{target}{each.suffix}", target, name)
            network = read_network(tmp_path / f"{target}{each.suffix}")
            found = evaluate(network, levels, labels, engine="cpu", topk=(1,))
            assert found.topk[0].correct == (expected == labels).sum()
            report = profile(network, KINDS[type(network)].encode(network, levels), "loihi2")
            assert report.counts == counts_of(found)
            assert report.energy.dynamic.value > 0
            assert (report.ann is None) == isinstance(network, StockNetwork)


def test_what_is_no_network_file_is_said(tmp_path: Path):
    (tmp_path / "text.net").write_text("no HDF5")
    (tmp_path / "pointer.net").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:2a52\n")
    cases = {"text": "is not an HDF5 file", "none": "no such", "pointer": "is a Git LFS pointer"}
    for name, message in cases.items():
        with pytest.raises(InputError, match=message):
            read_network(tmp_path / f"{name}.net")


def test_the_shell_evaluates_profiles_and_runs_a_stock_file(command, stock_file: Path, tmp_path: Path):
    levels, _ = drawn()
    network = read_network(stock_file)
    found = evaluate(network, levels, None)
    options = (stock_file, "--data", "random", "--samples", SAMPLES)
    result = command("evaluate", *options, "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert found.to_dict() == {key: report[key] for key in found.to_dict()}
    assert report["latency"] == network.depth
    assert f"{network.depth} steps; a new image in every step" in command("evaluate", *options).stdout
    text = command("profile", *options, "--csv", "c.csv").stdout
    assert "does not say which network without spikes" in text
    assert "ann_macs" not in (tmp_path / "c.csv").read_text()
    plain = json.loads(command("profile", *options, "--json").stdout)
    assert plain["total"]["synaptic_operations"] == report["synaptic_operations"]
    assert plain["steps_mean"] == plain["steps_max"] == 1
    streamed = json.loads(command("run", *options, "--stream", "--json").stdout)
    assert evaluate(network, levels, np.array(streamed["predictions"])).accuracy() == 1.0
    gpu = command("evaluate", *options, "--engine", "gpu")
    assert gpu.returncode == 2
    assert "spiking graphs only" in gpu.stderr
    steps = command("evaluate", *options, "--steps", 3)
    assert steps.returncode == 2
    assert "an inference of its own" in " ".join(steps.stderr.split())


def test_typos_in_target_and_format_get_a_guess(command):
    for option, typo, right in (("--target", "stock-lfi", "stock-lif"), ("--format", "netxx", "netx")):
        result = command("export", "model.pt", option, typo)
        assert result.returncode == 2
        assert f"Did you mean '{right}'?" in result.stderr
    text = command("export", "--help").stdout
    assert all(name in text for name in TARGETS)


# --- exactness


def test_an_inference_is_a_frame_of_a_stream_and_batches_change_nothing(stock_file: Path):
    network = read_network(stock_file)
    levels, labels = drawn()
    found = evaluate(network, levels, labels, batch=SAMPLES)
    for batch in (1, 4):
        assert evaluate(network, levels, labels, batch=batch).to_dict() == found.to_dict()
    shown = present(network, network.encode(levels), stream=True)
    series = run(network, shown.frames, shown.steps)
    for number, index in enumerate(network.weighted[:-1], start=1):
        sent = series.spikes[index][number : number + SAMPLES, 0]
        assert np.array_equal(found.activity[network.names[index]].spikes, np.count_nonzero(sent, axis=0))
    assert found.topk[0].correct == (shown.answers(series).argmax(1) == labels).sum()
    alone = present(network, network.encode(levels))
    assert np.array_equal(alone.answers(run(network, alone.frames, alone.steps)), shown.answers(series))


@pytest.mark.parametrize("seed", [0, 3, 5])
def test_a_sigma_delta_file_needs_no_further_options(command, seed: int, tmp_path: Path):
    graph = chain(seed)
    emitted = images(graph, seed, 20)
    export(graph, tmp_path / "sdnn.net", "sigma-delta", calibration=emitted)
    network = read_network(tmp_path / "sdnn.net")
    converted = to_sigma_delta(graph, emitted)
    levels = np.asarray(emitted) + graph.input.offset.reshape(-1, *(1,) * (emitted.ndim - 2))
    assert np.array_equal(network.encode(levels), converted.frames(emitted)[0])
    assert network.image_steps == converted.steps
    series = run(network, converted.frames(emitted), converted.steps)
    unit = converted.stages[-1].units[0]
    expected = logits(graph, {unit.node.name: unit.read(converted.readout(series.potentials[-1][-1]))})
    shown = present(network, network.encode(levels))
    answers = shown.answers(run(network, shown.frames, shown.steps))
    assert np.array_equal(answers.reshape(expected.shape), expected)
    labels = expected.reshape(20, -1).argmax(1)
    found = evaluate(network, levels, labels)
    assert found.accuracy() == 1.0
    assert found.topk[0].curve[-1] == found.topk[0].correct
    assert found.max_settle_steps <= converted.steps
    # what is counted of the settled run is what a run of fixed length, long enough, has delivered
    whole = profile(network, network.encode(levels), "loihi2", steps=converted.steps + 2).counts
    settled = counts_of(found)
    for key in ("spikes", "synaptic_operations", "payload_operations", "synapses"):
        assert whole.total(key) == settled.total(key)
    assert whole.total("undelivered_operations") == 0
    assert command("profile", "sdnn.net", "--samples", 2, "--data", "random").returncode == 0
    assert command("run", "sdnn.net", "--samples", 2, "--data", "random").returncode == 0


def test_leaky_networks_with_delays_are_counted_for_as_long_as_they_are_shown():
    network = stock_network()
    with pytest.raises(InputError, match="say with --steps"):
        evaluate(network, np.zeros((1, *network.layers[0].shape), dtype=np.int64), None)
    levels = np.random.default_rng(0).integers(0, network.input.high + 1, (4, *network.layers[0].shape))
    found = evaluate(network, levels, None, steps=7, batch=3)
    counts = profile(network, network.encode(levels), "loihi2", steps=7, batch=3).counts
    series = run(network, np.broadcast_to(levels, (7, *levels.shape)), 7)
    spikes = {name: x for name, x in zip(network.names, series.spikes, strict=True) if x is not None}
    assert counts == count(network, Run(7, spikes, {}, {}, np.full(4, 7)), every_step=True)
    delivered, late = counts.total("synaptic_operations"), counts.total("undelivered_operations")
    assert found.synaptic_operations == delivered + late
    assert late > 0
    assert found.spikes == counts.total("spikes")
    assert counts.steps == 7 * 4


def test_delays_are_apart_in_the_structure():
    """Two outputs, one of them two steps late: a spike of the last steps reaches the first only."""
    dense = StockDense(
        shape=(2,), weight=np.array([[1, 1], [1, 0]]), bias=None, neuron=Lif(0, v_decay=0), delay=np.array([0, 2])
    )
    network = StockNetwork((StockInput(shape=(2,)), dense))
    now, later = layers_of(network)[1].incoming
    assert (now.sources[0][1], later.sources[0][1]) == (1, 3)
    assert (now.fan.tolist(), later.fan.tolist()) == ([1, 1], [1, 0])
    counts = profile(network, np.array([[1, 0]]), "loihi2", steps=4).counts
    assert counts.total("synaptic_operations") == 3 + 1
    assert counts.total("undelivered_operations") == 1 + 3


# --- files of lava-dl itself

REFUSED = {"ntidigits.net": "layer 5: average layers"}
"""What stock lava-dl 0.6.0 does not run as a file says either."""


@pytest.mark.parametrize("path", sorted(WHEEL.rglob("*.net")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_networks_of_lava_dl(command, path: Path):
    """Shown to every command, or refused with one reason."""
    options = (path, "--data", "random", "--samples", 2, "--json")
    reason, spikes = REFUSED.get(path.name), {}
    network = None if reason else read_network(path)
    if network is not None and network.image_steps is None:
        for name in ("run", "profile"):
            assert "say with --steps" in command(name, *options).stderr
        options += ("--steps", 5)
    for name in ("run", "evaluate", "profile"):
        result = command(name, *options)
        if reason or (name == "evaluate" and len(network.output_shape) > 1):
            assert result.returncode == 2
            assert (reason or "accuracy is for one output of shape") in result.stderr
        else:
            assert result.returncode == 0, result.stderr
            spikes[name] = _spikes(json.loads(result.stdout))
    assert len({spikes[name] for name in spikes}) <= 1


def _spikes(report: dict) -> float:
    """Of two images, whichever command has counted them."""
    if "spikes_per_image" in report:
        return 2 * report["spikes_per_image"]
    total = report.get("total", report)
    return total["spikes"] if "spikes" in total else total["positive_spikes"] + total["negative_spikes"]
