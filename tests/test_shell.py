"""The shell: width, pipes, colours, JSON of every error, names with guesses, `list` and `info`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastsnn_deploy.cli import common
from fastsnn_deploy.cli.listing import Kind, known
from fastsnn_deploy.formats.export import export
from fastsnn_deploy.graph import save
from fastsnn_deploy.training.recipe import recipe_names
from tests.commands import Result, runner
from tests.test_tables import graph


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run a command line in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capsys)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One network as every kind of file but a checkpoint."""
    path = tmp_path_factory.mktemp("files")
    export(graph(), path / "a.net")
    export(graph(), path / "stock.net", "stock-lif")
    export(graph(), path / "a.nir", "signed-if", "nir")
    save(graph(), path / "a.safetensors")
    return path


def test_usage_errors_as_json(run):
    cases = [
        (("evaluate", "--fly"), "--fly"),
        (("evaluate",), "Missing argument"),
        (("profile", "a.net", "--samples", "many"), "--samples"),
        (("profile", "ghost.net"), "ghost.net: no such"),
        (("list", "recipies"), "Did you mean 'recipes'?"),
        (("export", "a.pt", "--target", "signedif"), "target 'signedif' is not known. Did you mean 'signed-if'?"),
        (("info", "ghost"), "no such file"),
        (("fly",), "fly"),
    ]
    for arguments, message in cases:
        result = run(*arguments, "--json")
        assert result.returncode == 2, arguments
        found = json.loads(result.stdout)
        assert set(found) == {"error", "problems"}
        assert message in found["error"]
        assert "Traceback" not in result.stderr
        assert run(*arguments).stdout == ""


def test_typos_get_a_guess(run, folder: Path):
    cases = [
        (("evaluate", folder / "a.net", "--data", "random", "--engine", "refrence"), "Did you mean 'reference'?"),
        (("evaluate", folder / "a.net", "--data", "digist"), "Did you mean 'digits'?"),
        (("profile", folder / "a.net", "--data", "random", "--hardware", "lohi2"), "Did you mean 'loihi2'?"),
        (("train", "--recipe", "digits-2bits"), "Did you mean 'digits-2bit'?"),
    ]
    for arguments, message in cases:
        result = run(*arguments)
        assert result.returncode == 2
        assert message in result.stderr


def test_the_wrong_kind_of_our_own_file(run, folder: Path, checkpoint_file: Path):
    cases = [
        (("evaluate", checkpoint_file), f"is a checkpoint, and an exported network is needed here. Run `fastsnn-deploy "
         f"export {checkpoint_file}` first"),
        (("verify", folder / "a.net"), "is an exported network, and a checkpoint is needed here"),
        (("export", folder / "a.safetensors"), "is a spiking graph file, and a checkpoint is needed here"),
        (("profile", folder / "a.safetensors"), "is a spiking graph file, and an exported network is needed here"),
    ]  # fmt: skip
    for arguments, message in cases:
        result = run(*arguments)
        assert result.returncode == 2
        assert message in result.stderr


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.net", "an exported network, NetX with"),
        ("stock.net", "an exported network, stock NetX"),
        ("a.nir", "a NIR file of this program"),
        ("a.safetensors", "a spiking graph"),
    ],
)
def test_info(run, folder: Path, name: str, kind: str):
    result = run("info", folder / name)
    assert result.returncode == 0, result.stderr
    assert kind in result.stdout
    plain = json.loads(run("info", folder / name, "--json").stdout)
    assert plain["kind"].startswith(kind)
    assert len(plain["layers"]) > 2
    assert "metadata" in plain


def test_a_warning_is_a_line():
    code = "import warnings; from fastsnn_deploy.cli import main; main.app = lambda **_: warnings.warn('mind')"
    ended = subprocess.run([sys.executable, "-c", f"{code}; main.main()"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "warning: mind\n")


def test_info_of_a_checkpoint_and_of_hardware(run, checkpoint_file: Path):
    result = run("info", checkpoint_file)
    assert "a checkpoint of a quantised model" in result.stdout
    assert "quantised_accuracy" in result.stdout
    rows = json.loads(run("info", checkpoint_file, "--json").stdout)["layers"]
    assert {row["type"] for row in rows} == {"QuantInput", "QuantConv2d", "QuantActivation", "QuantLinear"}
    shipped = Path(common.__file__).parents[2] / "hardware_profiles" / "loihi2.yaml"
    plain = json.loads(run("info", shipped, "--json").stdout)
    assert (plain["kind"], plain["hardware"]["name"]) == ("a hardware profile", "loihi2")


@pytest.mark.parametrize("kind", Kind)
def test_lists(run, kind: Kind):
    entries = json.loads(run("list", kind.value, "--json").stdout)[kind.value]
    names = [entry["name"] for entry in entries]
    assert names == sorted(names)
    assert all(entry["about"] for entry in entries)
    text = run("list", kind.value).stdout
    assert all(name in text for name in names)
    expected = {
        Kind.recipes: set(recipe_names()), Kind.models: {"resnet20", "lenet"}, Kind.data: {"digits", "random"},
        Kind.hardware: {"loihi2"}, Kind.targets: {"signed-if", "stock-lif"}, Kind.engines: {"cpu", "gpu", "reference"},
    }[kind]  # fmt: skip
    assert expected <= set(known(kind))


def test_narrow_screens_keep_numbers_whole(run, folder: Path, monkeypatch: pytest.MonkeyPatch):
    arguments = ("profile", folder / "a.net", "--data", "random", "--samples", 2, "--engine", "reference")
    wide = run(*arguments).stdout
    monkeypatch.setenv("COLUMNS", "80")
    narrow = run(*arguments).stdout
    assert max(map(len, narrow.splitlines())) <= 80
    assert "not shown in 80 columns: " in narrow
    assert "not shown" not in wide
    total = next(line for line in narrow.splitlines() if line.startswith("total")).split()[1:]
    assert set(total) <= set(next(line for line in wide.splitlines() if line.startswith("total")).split())


def test_long_work_prints_a_line_for_each_tenth(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(common, "QUIET_SECONDS", 0.0)
    with common.progress_bar("verifying") as update:
        for done in range(1, 251):
            update(done, 250)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("verifying: 25 of 250 (10 %)")
    with common.progress_bar("other process", shown=False) as update:
        update(1, 1)
    assert capsys.readouterr().err == ""


def test_a_bug_is_no_difference(run, monkeypatch: pytest.MonkeyPatch, folder: Path):
    monkeypatch.setattr("fastsnn_deploy.cli.info.examine", lambda file: 1 / 0)
    result = run("info", folder / "a.net")
    assert result.returncode == 70
    assert "bug" in result.stderr


def test_a_pipe_that_closes_leaves_the_exit_code(folder: Path):
    command = f"{sys.executable} -m fastsnn_deploy list recipes | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_plain_ascii_pipe_without_colours(folder: Path):
    environment = {"PATH": "/usr/bin:/bin", "PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-m", "fastsnn_deploy", "profile", "a.net", "--data", "random", "--engine", "reference"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "Counts" in done.stdout
