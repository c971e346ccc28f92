"""The commands as a user runs them: results, wrong input, exit codes, nothing half-written."""

from __future__ import annotations

import csv
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fastsnn_deploy.formats import netx
from fastsnn_deploy.quantisation.layers import QuantActivation
from tests.commands import Result, runner

MAIN = "from fastsnn_deploy.cli.main import main; main()"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run a command line in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capsys)


def assert_refused(result: Result, folder: Path, *spikes: str, code: int = 2) -> None:
    """Exit code, one clear message, no traceback, and `folder` as empty as before."""
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    flat = " ".join(result.stderr.split())
    for message in spikes:
        assert message in flat
    assert list(folder.iterdir()) == []


def test_help_and_version(run, tmp_path: Path):
    text = run("--help").stdout
    commands = "demo", "train", "export", "evaluate", "finetune", "verify", "compare", "profile", "run", "doctor"
    for command in (*commands, "compare-targets", "tune"):
        assert command in text
        assert "--json" in run(command, "--help").stdout
    assert run("--version").stdout.startswith("fastsnn-deploy ")
    assert run("fly").returncode == 2


def test_export_verify_profile(run, checkpoint_file: Path, tmp_path: Path):
    net = tmp_path / "a" / "model.net"
    exported = json.loads(run("export", checkpoint_file, "-o", net, "--json").stdout)
    assert exported["file"] == str(net)
    assert exported["neurons"] > 0
    assert netx.read(net).metadata["data"] == "digits"

    result = run("verify", checkpoint_file, net, "--samples", 10)
    assert result.returncode == 0, result.stderr
    assert "exact: " in result.stdout
    assert "integers compared, 0 differ" in result.stdout.splitlines()[-1]
    plain = json.loads(run("verify", checkpoint_file, net, "--samples", 10, "--json").stdout)
    assert plain["exact"] is True
    assert plain["integers_differing"] == 0
    assert plain["integers_compared"] > 10_000

    table = run("profile", net, "--samples", 5, "--csv", tmp_path / "p.csv")
    assert table.returncode == 0, table.stderr
    for text in ("loihi2", "synaptic", "inherited", "MACs"):
        assert text in table.stdout
    with (tmp_path / "p.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert "total" in rows[-1].values()
    assert json.loads(run("profile", net, "--samples", 5, "--json").stdout)


@pytest.mark.lava
def test_verify_on_lava(run, checkpoint_file: Path, net_file: Path, tmp_path: Path):
    result = run("verify", checkpoint_file, net_file, "--samples", 3, "--backend", "lava", "--json")
    assert result.returncode == 0, result.stderr
    plain = json.loads(result.stdout)
    assert plain["exact"] is True
    assert plain["lava"]["compared"] > plain["settled"]["compared"]


def test_a_difference_gives_exit_code_1_and_its_place(run, checkpoint_file: Path, net_file: Path, tmp_path: Path):
    import h5py

    changed = tmp_path / "changed.net"
    changed.write_bytes(net_file.read_bytes())
    with h5py.File(changed, "r+") as file:
        weight = file["layer/1/weight"]
        values = weight[...]
        weight[...] = -values
    result = run("verify", checkpoint_file, changed, "--samples", 5)
    assert result.returncode == 1
    last = result.stdout.splitlines()[-1]
    assert "NOT EXACT" in last
    for word in ("layer 'stem.0'", "channel", "position", "expected", "found"):
        assert word in last


@pytest.mark.parametrize("command", ["export", "verify", "profile"])
def test_missing_files(run, command: str, tmp_path: Path):
    result = run(command, "ghost.file")
    assert_refused(result, tmp_path, "ghost.file: no such")


@pytest.mark.parametrize("content", [b"", b"not hdf5", b"\x89HDF\r\n\x1a\n" + bytes(200)])
def test_damaged_net_files(run, content: bytes, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory):
    bad = tmp_path_factory.mktemp("bad") / "bad.net"
    bad.write_bytes(content)
    assert_refused(run("profile", bad), tmp_path, "bad.net")


def test_truncated_net_file(run, net_file: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory):
    bad = tmp_path_factory.mktemp("bad") / "bad.net"
    bad.write_bytes(net_file.read_bytes()[:-3000])
    assert_refused(run("profile", bad), tmp_path, "bad.net")


def test_nan_weights(run, checkpoint_file: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory):
    bad = tmp_path_factory.mktemp("bad") / "bad.pt"
    content = torch.load(checkpoint_file, weights_only=True)
    names = [name for name in content["state"] if name.endswith("weight")][:2]
    for name in names:
        content["state"][name].view(-1)[0] = float("nan")
    torch.save(content, bad)
    assert_refused(run("export", bad, "-o", tmp_path / "x.net"), tmp_path, *names, "NaN")


class Evil:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_pickled_objects_are_refused(run, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("bad")
    torch.save({"format": "fastsnn-deploy checkpoint", "x": Evil(tmp_path / "owned")}, folder / "evil.pt")
    assert_refused(run("export", folder / "evil.pt"), tmp_path, "evil.pt", "refused")
    (folder / "raw.pt").write_bytes(pickle.dumps(Evil(tmp_path / "owned")))
    assert_refused(run("export", folder / "raw.pt"), tmp_path, "raw.pt")
    torch.save(nn.Sequential(nn.Conv2d(1, 1, 1)), folder / "module.pt")
    assert_refused(run("export", folder / "module.pt"), tmp_path, "module.pt", "runs whatever code", "--trust-pickle")
    assert sorted(p.name for p in folder.iterdir()) == ["evil.pt", "module.pt", "raw.pt"]


def test_unsupported_architecture(run, checkpoint_file: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory):
    bad = tmp_path_factory.mktemp("bad") / "bad.pt"
    content = torch.load(checkpoint_file, weights_only=True)
    content["architecture"]["modules"]["average"] = {"type": "Softmax", "config": {}}
    torch.save(content, bad)
    assert_refused(run("export", bad), tmp_path, "bad.pt", "Softmax")


def test_wrong_image_shape(run, checkpoint_file: Path, net_file: Path, tmp_path: Path, tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    images, labels = np.zeros((4, 28, 28, 1), np.uint8), np.zeros(4, np.uint8)
    np.savez(root / "mnist.npz", x_test=images, y_test=labels, x_train=images, y_train=labels)
    options = ("--data", "mnist", "--data-root", root, "--samples", 2)
    for arguments in (("verify", checkpoint_file), ("profile", net_file)):
        assert_refused(run(*arguments, *options), tmp_path, ", 1, 28, 28)", "(N, 1, 8, 8)")


def test_negative_threshold(run, net_file: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory):
    import h5py

    bad = tmp_path_factory.mktemp("bad") / "bad.net"
    bad.write_bytes(net_file.read_bytes())
    with h5py.File(bad, "r+") as file:
        threshold = file["layer/1/neuron/threshold"]
        threshold[0] = -5
    assert_refused(run("profile", bad), tmp_path, "bad.net", "relu", "-5")


def test_wrong_options(run, checkpoint_file: Path, net_file: Path, tmp_path: Path):
    cases: list[tuple[tuple[object, ...], str]] = [
        (("profile", net_file, "--hardware", "loihi9"), "loihi9"),
        (("profile", net_file, "--data", "imaginary"), "imaginary"),
        (("profile", net_file, "--samples", 100_000), "360 test images"),
        (("profile", net_file, "--data", "cifar10"), "--data-root"),
        (("profile", net_file, "--samples", 0), "samples"),
        (("export", checkpoint_file, "--target", "morse"), "morse"),
        (("train", "--recipe", "nowhere"), "nowhere"),
        (("train", "--recipe", "digits-2bit", "--device", "abacus"), "abacus"),
        (("train", "--recipe", "digits-2bit", "--resume"), "no such training state"),
        (("demo", "--hardware", "loihi9"), "loihi9"),
    ]
    for arguments, message in cases:
        assert_refused(run(*arguments), tmp_path, message)


def test_errors_as_json(run, tmp_path: Path):
    result = run("profile", "ghost.net", "--json")
    assert result.returncode == 2
    assert "ghost.net" in json.loads(result.stdout)["error"]


def test_output_that_cannot_be_written(run, checkpoint_file: Path, tmp_path: Path, tmp_path_factory):
    blocker = tmp_path_factory.mktemp("blocker") / "file"
    blocker.write_text("in the way")
    result = run("export", checkpoint_file, "-o", blocker / "model.net")
    assert_refused(result, tmp_path, "model.net: cannot be written")
    assert_refused(run("export", checkpoint_file, "-o", blocker.parent), tmp_path, "is a folder")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["export", "train"])
def test_a_full_disk(command: str, checkpoint_file: Path, tmp_path: Path):
    """A limit on file sizes stands in for it; writing HDF5 or a PyTorch archive in place would crash here."""
    arguments = {"export": ["export", str(checkpoint_file), "-o", "x.net"],
                 "train": ["train", "--recipe", "digits-2bit", "-o", "x.pt"]}[command]  # fmt: skip
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); {MAIN}"
    done = subprocess.run(
        [sys.executable, "-c", limited, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert_refused(Result(done.returncode, done.stdout, done.stderr), tmp_path, "cannot be written", "File too large")


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(net_file: Path, tmp_path: Path):
    command = f"{sys.executable} -c '{MAIN}' profile {net_file} --samples 2"
    result = subprocess.run(
        ["bash", "-c", f"{command} | head -n 1"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_interrupted_training_can_be_resumed(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "train", "--recipe", "digits-2bit", "-o", "m.pt"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    limit = time.monotonic() + 120
    while not (tmp_path / "m.pt.resume").exists() and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in errors
    assert "Traceback" not in errors
    assert [p.name for p in tmp_path.iterdir()] == ["m.pt.resume"]


def test_activation_bits_message():
    with pytest.raises(ValueError, match="1 to 8 bits"):
        QuantActivation(9)
