"""`run` and `doctor` as a user runs them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastsnn_deploy.backends.loihi import Board, Detection, detection
from fastsnn_deploy.cli import doctor
from fastsnn_deploy.formats import netx
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values, logits
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.simulators.reference import simulate
from fastsnn_deploy.simulators.streaming import stream
from fastsnn_deploy.targets.stock_notes import described_input
from fastsnn_deploy.targets.thermometer.network import to_thermometer
from fastsnn_deploy.training.data import load_images
from tests.commands import Result, runner
from tests.test_stream import compiled_once as compiled_once
from tests.test_stream import stock_network

SAMPLES = 6


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run a command line in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    for name in detection.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return runner(monkeypatch, capsys)


@pytest.fixture(scope="module")
def graph(net_file: Path) -> SpikingGraph:
    return netx.read(net_file)


@pytest.fixture(scope="module")
def emitted(graph: SpikingGraph) -> np.ndarray:
    return graph.input.encode(load_images("digits", "test", Path("data"), False).raw(slice(SAMPLES)))


@pytest.fixture(scope="module")
def graded_file(graph: SpikingGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graded") / "graded.net"
    netx.write(with_neurons(graph, "graded"), path)
    return path


@pytest.fixture(scope="module")
def population(graph: SpikingGraph, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SpikingGraph]:
    """A stock file that says how images enter, and the integer network that it equals."""
    made = to_thermometer(graph)
    image, readout = made.graph.input, made.graph[made.graph.outputs[0]]
    described = {
        "data": "digits",
        "input": json.dumps(described_input(image)),
        "output": json.dumps({"scale": readout.scale.tolist()}),
    }
    path = tmp_path_factory.mktemp("population") / "population.net"
    netx.write_stock(replace(made.network, metadata={**made.network.metadata, **described}), path)
    return path, made.graph


def classes(graph: SpikingGraph, emitted: np.ndarray) -> list[int]:
    return logits(graph, integer_values(graph, emitted)).argmax(1).tolist()


def test_one_by_one(run, net_file: Path, graph: SpikingGraph, emitted: np.ndarray, tmp_path: Path):
    plain = json.loads(run("run", net_file, "--samples", SAMPLES, "--json", "--out", "a/run.npz").stdout)
    reference = simulate(graph, emitted)
    assert plain["predictions"] == classes(graph, emitted)
    assert plain["steps"] == reference.steps
    assert plain["settle_steps"]["max"] == reference.settle_steps.max()
    sent = sum(int(np.count_nonzero(series)) for series in reference.spikes.values())
    assert plain["spikes_per_image"] == sent / SAMPLES
    with np.load(tmp_path / "a" / "run.npz") as arrays:
        assert plain["accuracy"] == (arrays["predictions"] == arrays["labels"]).mean()
        assert set(arrays) == {"predictions", "labels", f"potentials.{graph.outputs[0]}"}
        assert np.array_equal(arrays[f"potentials.{graph.outputs[0]}"], reference.potentials[graph.outputs[0]])
    result = run("run", net_file, "--samples", 3, "--steps", 4, "--record", "all", "--out", "all.npz")
    assert "4 steps" in result.stdout
    assert "accuracy" in result.stdout
    assert "written: all.npz" in result.stdout
    with np.load(tmp_path / "all.npz") as arrays:
        for population in graph.populations:
            assert np.array_equal(arrays[f"spikes.{population.name}"], reference.spikes[population.name][:4, :3])


def test_streamed(run, graded_file: Path, emitted: np.ndarray, tmp_path: Path):
    graph = netx.read(graded_file)
    reference = stream(graph, emitted)
    plain = json.loads(run("run", graded_file, "--stream", "--samples", SAMPLES, "--json", "--out", "s.npz").stdout)
    assert plain["predictions"] == classes(graph, emitted)
    assert plain["exact_images"] == SAMPLES
    assert plain["spikes"] == reference.spikes().tolist()
    with np.load(tmp_path / "s.npz") as arrays:
        assert np.array_equal(arrays["starts"], reference.starts)
    assert "0 of 3 images equal" in run("run", graded_file, "--stream", "--samples", 3, "--steps", 2).stdout


@pytest.mark.lava
def test_streamed_on_lava(run, graded_file: Path, emitted: np.ndarray):
    options = ("run", graded_file, "--stream", "--samples", 3, "--json")
    simulated = json.loads(run(*options).stdout)
    result = run(*options, "--backend", "lava")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == simulated | {"backend": "lava"}


def test_population_one_by_one_and_frame_per_step(run, population: tuple[Path, SpikingGraph], emitted: np.ndarray):
    path, graph = population
    alone = json.loads(run("run", path, "--samples", SAMPLES, "--json").stdout)
    assert alone["predictions"] == classes(graph, emitted)
    assert alone["steps"] == alone["depth"] + 1
    streamed = json.loads(run("run", path, "--stream", "--samples", SAMPLES, "--json").stdout)
    assert streamed["predictions"] == alone["predictions"]
    assert streamed["steps"] == SAMPLES + alone["depth"]
    assert "note" not in streamed


@pytest.mark.lava
def test_population_frame_per_step_on_lava(run, population: tuple[Path, SpikingGraph], tmp_path: Path):
    options = ("run", population[0], "--stream", "--samples", 4, "--json", "--out")
    simulated = json.loads(run(*options, "simulator.npz").stdout)
    result = run(*options, "lava.npz", "--backend", "lava")
    assert result.returncode == 0, result.stderr
    plain = json.loads(result.stdout)
    assert plain["predictions"] == simulated["predictions"]
    with np.load(tmp_path / "simulator.npz") as expected, np.load(tmp_path / "lava.npz") as found:
        assert set(found) == set(expected)
        for name in expected:
            assert np.array_equal(found[name], expected[name]), name


def test_networks_with_memory(run, tmp_path: Path):
    netx.write_stock(stock_network(), tmp_path / "memory.net")
    options = ("run", "memory.net", "--data", "random", "--samples", 3)
    for arguments, message in (
        ((), "say with --steps"),
        (("--stream",), "neurons with memory"),
        (("--backend", "lava", "--steps", 5, "--record", "all"), "--record all is for the simulator"),
    ):
        result = run(*options, *arguments)
        assert result.returncode == 2
        assert message in " ".join(result.stderr.split())
    result = run(*options, "--steps", 5)
    assert "5 steps" in result.stdout
    assert "raw levels are sent" in result.stdout


def test_loihi2_says_what_is_missing(run, net_file: Path, population: tuple[Path, SpikingGraph], tmp_path: Path):
    own = run("run", net_file, "--backend", "loihi2", "--samples", 1)
    assert own.returncode == 3
    assert "SignedIF" in own.stderr
    assert "--target stock-lif" in own.stderr
    stock = run("run", population[0], "--backend", "loihi2", "--samples", 1, "--out", "x.npz")
    assert stock.returncode == 3
    for word in ("INRC", "lava-loihi", "NXSDKHOST", "--backend lava"):
        assert word in stock.stderr
    assert "Traceback" not in own.stderr + stock.stderr
    assert list(tmp_path.iterdir()) == []


def test_wrong_input(run, net_file: Path, tmp_path: Path):
    cases: list[tuple[tuple[object, ...], str]] = [
        (("ghost.net",), "ghost.net: no such"),
        ((net_file, "--backend", "abacus"), "abacus"),
        ((net_file, "--steps", 0), "steps"),
        ((net_file, "--samples", 100_000), "360 test images"),
        ((net_file, "--data", "imaginary"), "imaginary"),
        ((net_file, "--samples", 1, "--out", tmp_path), "is a folder"),
    ]
    for arguments, message in cases:
        result = run("run", *arguments)
        assert result.returncode == 2
        assert "Traceback" not in result.stderr
        assert message in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == []


# doctor


def test_doctor(run):
    result = run("doctor")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    names = [line.split("  ")[0] for line in lines]
    expected = ["Python", *doctor.REQUIRED, *doctor.OPTIONAL, "CUDA", "lava-nc", "lava-dl", "lava-loihi"]
    assert names == [*expected, "Loihi 2 board", "/dev/shm", "hardware profiles", "recipes"]
    status = {name: line[len("hardware profiles") :].split()[0] for name, line in zip(names, lines, strict=True)}
    assert status["lava-loihi"] == status["Loihi 2 board"] == "missing"
    assert {status[name] for name in ("Python", "torch", "numpy", "lava-nc", "recipes")} == {"ok"}
    plain = json.loads(run("doctor", "--json").stdout)
    assert plain["ok"] is True
    assert [finding["name"] for finding in plain["findings"]] == names


def test_doctor_with_hardware(run, monkeypatch):
    board = Board("og01", "oheogulch", "idle")
    found = Detection(lava="0.10.0", lava_dl="0.6.0", lava_loihi=True, slurm=True, boards=(board,))
    monkeypatch.setattr("fastsnn_deploy.backends.loihi.detect", lambda: found)
    text = run("doctor").stdout
    assert "og01 (idle)" in text
    assert "INRC" not in text


def test_doctor_finds_what_is_broken(run, monkeypatch, tmp_path: Path):
    monkeypatch.setattr("fastsnn_deploy.backends.loihi.detect", Detection)
    monkeypatch.setattr(doctor, "REQUIRED", {"absent": "no_such_module"})
    monkeypatch.setattr(doctor, "SHARED_MEMORY", tmp_path)
    (tmp_path / "psm_0123abcd").touch()
    (tmp_path / "psm_notes.txt").touch()
    result = run("doctor")
    assert result.returncode == 3
    assert ["absent", "broken", "not", "installed."] in [line.split()[:4] for line in result.stdout.splitlines()]
    assert "1 segments of Python programs" in result.stdout
    assert "lava-nc==0.10.0" in result.stdout
    assert json.loads(run("doctor", "--json").stdout)["ok"] is False


def test_doctor_asks_for_every_dependency():
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    required = project.partition("\ndependencies = [")[2].partition("\n]")[0]
    assert set(re.findall(r'^    "([\w-]+)', required, re.MULTILINE)) == set(doctor.REQUIRED)
