"""Evaluation in several processes and as a command."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastsnn_deploy.analysis.curve import curve_csv
from fastsnn_deploy.analysis.evaluate import evaluate
from fastsnn_deploy.analysis.evaluation import nothing
from fastsnn_deploy.analysis.gathering import gather
from fastsnn_deploy.analysis.structure import layers_of
from fastsnn_deploy.errors import BackendError, InputError
from fastsnn_deploy.formats import netx
from fastsnn_deploy.processes import Processes, available_cores
from fastsnn_deploy.simulators import ENGINES
from fastsnn_deploy.training.data import load_images
from tests.commands import Result, runner
from tests.test_evaluate import KS, silent

NET = Path(__file__).parents[1] / "netx_exports" / "digits-2bit-unary.net"
MANIFEST = json.loads((NET.parent / "manifest.json").read_text())[NET.name]

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
    assert Processes(0, 2, 2).threads == max(1, available_cores() // 2)
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


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run a command line in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capsys)


def test_the_whole_test_set(run, tmp_path: Path):
    result = run("evaluate", NET, "--engine", "reference", "--json", "--curve", "c.csv")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["images"] == MANIFEST["test_images"]
    assert report["accuracy"]["top1"] == MANIFEST["integer_accuracy"]
    assert report["correct_per_step"]["top1"][-1] == report["correct"]["top1"]
    assert report["synaptic_operations"] == sum(report["connections"].values())
    with (tmp_path / "c.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["steps"]) for row in rows] == list(range(1, report["settle_steps"]["max"] + 1))
    assert [int(row["top1_correct"]) for row in rows] == report["correct_per_step"]["top1"]
    assert int(rows[-1]["settled"]) == report["images"]
    graph, images = netx.read(NET), load_images("digits", "test")
    verified = evaluate(graph, images.raw(slice(MANIFEST["verified_on_lava"]["images"])).numpy(), None, engine="cpu")
    assert verified.mean_settle_steps == pytest.approx(MANIFEST["settle_steps"]["mean"])
    assert verified.max_settle_steps == MANIFEST["settle_steps"]["max"]
    found = evaluate(graph, images.for_input(graph.input), images.labels.numpy(), engine="cpu", batch=64)
    assert curve_csv(found) == (tmp_path / "c.csv").read_text()
    assert found.to_dict() == {key: report[key] for key in found.to_dict()}


def test_the_answer_without_the_time(run):
    report = json.loads(run("evaluate", NET, "--integer", "--json").stdout)
    assert report["mode"] == "integer"
    assert report["accuracy"]["top1"] == MANIFEST["integer_accuracy"]
    text = run("evaluate", NET, "--integer", "--samples", 5, "--batch", 2, "--engine", "reference")
    assert "100.00 % (5 right)" in text.stdout, text.stderr
    refused = run("evaluate", NET, "--integer", "--steps", 3, "--curve", "c.csv")
    assert refused.returncode == 2
    assert "--curve and --steps: not with --integer" in " ".join(refused.stderr.split())


def test_time_of_layers(run):
    report = json.loads(run("evaluate", NET, "--samples", 40, "--timing", "--json").stdout)
    found, graph = report["timing"], netx.read(NET)
    assert [layer["name"] for layer in found["layers"]] == [layer.name for layer in layers_of(graph)]
    assert found["seconds"] == pytest.approx(sum(layer["seconds"] for layer in found["layers"]))
    assert found["peak_products_per_second"] > 1e8
    populations = [layer for layer in found["layers"] if layer["type"] == "Population"]
    fan = sum(
        each.dense for layer in layers_of(graph) if layer.name == populations[1]["name"] for each in layer.incoming
    )
    assert populations[1]["products"] == 40 * 3 * fan  # counts of 2 bits need three steps
    assert "Time of each layer" in run("evaluate", NET, "--samples", 5, "--timing").stdout
    refused = run("evaluate", NET, "--timing", "--engine", "reference", "--samples", 2)
    assert refused.returncode == 2
    assert "only the engine 'cpu' is timed by layer" in " ".join(refused.stderr.split())


def test_a_drawing_without_matplotlib_says_what_to_install(run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    result = run("evaluate", NET, "--samples", 2, "--engine", "reference", "--curve", "c.png")
    assert result.returncode == 2
    assert "pip install matplotlib" in result.stderr


def test_tables_and_drawing(run, tmp_path: Path):
    result = run("evaluate", NET, "--samples", 5, "--engine", "reference", "--threads", 1, "--curve", "a/c.png")
    assert result.returncode == 0, result.stderr
    for text in ("top-1", "top-5", "100.00 % (5 right)", "settled after", "99 % by", "synaptic operations per image",
                 "neuron updates per image", "images/s", "After each step"):  # fmt: skip
        assert text in result.stdout
    assert (tmp_path / "a" / "c.png").read_bytes().startswith(b"\x89PNG")
    long = run("evaluate", NET, "--samples", 2, "--engine", "reference", "--steps", 100).stdout
    assert "stopped after" in long
    lines = [line for line in long.split("After each step")[1].splitlines() if "%" in line]
    assert len(lines) == 40
    assert lines[-1].split()[:2] == ["100", "100.00"]


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
