"""Nothing the user has is destroyed: every output of every command, every writer, every reader."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastsnn_deploy as fd
from fastsnn_deploy import quantisation
from fastsnn_deploy.analysis.hardware import load_hardware
from fastsnn_deploy.backends.lava import backend, session
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.files import one_command, own_files, planned, readable_file, write_file
from fastsnn_deploy.formats import netx, nir, read_network
from fastsnn_deploy.formats.nir.report import LossReport
from fastsnn_deploy.graph import load as load_graph
from fastsnn_deploy.graph import save as save_graph
from fastsnn_deploy.lava_dl import StockNetwork
from fastsnn_deploy.quantisation.sources.weights import load_weights
from fastsnn_deploy.targets import to_target
from fastsnn_deploy.training.data import load_images
from fastsnn_deploy.training.models import build
from fastsnn_deploy.training.recipe import load_recipe, recipe_folder
from tests.commands import Result, runner
from tests.test_cli import MAIN
from tests.test_graph import small_graph

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capsys)


@pytest.fixture
def folder(tmp_path: Path, checkpoint_file: Path, net_file: Path) -> Path:
    """One file of each kind that a command reads, under names that a user might give; and other names of some."""
    for name in ("a.pt", "m.net", "t.pt.resume"):
        shutil.copy(checkpoint_file, tmp_path / name)
    for name in ("n.net", "n.csv", "n.npz"):
        shutil.copy(net_file, tmp_path / name)
    test = load_images("digits", "test")
    images, labels = test.levels.numpy() * 15, test.labels.numpy()
    np.savez(tmp_path / "d.npz", images=images, labels=labels)
    shutil.copy(recipe_folder() / "digits-2bit.yaml", tmp_path / "r.yaml")
    (tmp_path / "net.py").write_text("def build(): ...\n")
    (tmp_path / "link.pt").symlink_to("a.pt")
    os.link(tmp_path / "a.pt", tmp_path / "hard.pt")
    (tmp_path / "later.net").symlink_to("x.net")
    (tmp_path / "sub").mkdir()
    return tmp_path


def content(folder: Path) -> dict[str, Any]:
    """Everything in a folder."""
    return {
        path.name: os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes()
        for path in folder.iterdir()
    }


# a command and its own files

READ, TWICE = "this command reads it", "two outputs of this command"

REFUSED = {
    "export a.pt -o a.pt": READ,
    "export a.pt -o ./sub/../a.pt": READ,
    "export a.pt -o {folder}/a.pt": READ,
    "export a.pt -o link.pt": READ,
    "export link.pt -o a.pt": READ,
    "export a.pt -o hard.pt": READ,
    "export a.pt --graph a.pt": READ,
    "export m.net": READ,
    "export a.pt --format nir -o a.pt": READ,
    "export a.pt --target stock-lif -o d.npz --data d.npz": READ,
    "export a.pt -o x.net --graph x.net": TWICE,
    "export a.pt -o x.net --graph sub/../x.net": TWICE,
    "export a.pt -o x.net --graph later.net": TWICE,
    "export a.pt --graph a.net": TWICE,
    "evaluate n.csv --curve n.csv": READ,
    "evaluate n.net --data d.npz --curve d.npz": READ,
    "run n.npz -o n.npz": READ,
    "run n.net --data d.npz -o d.npz": READ,
    "profile n.csv --csv n.csv": READ,
    "profile n.net --hardware r.yaml --csv r.yaml": READ,
    "compare a.pt -o a.pt": READ,
    "finetune a.pt -o a.pt": READ,
    "finetune a.pt -o link.pt": READ,
    "finetune t.pt.resume -o t.pt": READ,
    "train --recipe r.yaml -o r.yaml": READ,
    "train --recipe digits-2bit --data d.npz -o d.npz": READ,
    "train --recipe digits-2bit --model net.py:build -o net.py": READ,
}


@pytest.mark.parametrize("line", REFUSED)
def test_no_command_writes_what_it_reads(run: Run, folder: Path, line: str):
    before = content(folder)
    result = run(*line.format(folder=folder).split())
    assert result.returncode == 2, result.stderr
    assert REFUSED[line] in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert content(folder) == before


def test_every_option_that_names_an_output_is_refused_early(run: Run, folder: Path):
    """Before the work: the images are not even there."""
    (folder / "blocked").touch()
    options = (
        "export a.pt -o", "export a.pt --graph", "evaluate n.net --curve", "run n.net -o", "profile n.net --csv",
        "compare a.pt -o", "compare a.pt --plot", "finetune a.pt -o", "train --recipe digits-2bit -o",
    )  # fmt: skip
    for line in options:
        for place, message in (("sub", "is a folder"), ("blocked/x.csv", "cannot be written")):
            data = () if line.startswith("export") else ("--data", "cifar10", "--data-root", "sub")
            result = run(*line.split(), place, *data)
            assert (result.returncode, message in result.stderr) == (2, True), (line, result.stderr)


def test_a_second_call_from_python_may_write_again(checkpoint_file: Path, tmp_path: Path):
    model, net = tmp_path / "m.pt", tmp_path / "m.net"
    shutil.copy(checkpoint_file, model)
    for _ in range(2):
        fd.export(model, net)
        fd.save(fd.load(model), model)
        assert netx.read(net) == fd.convert(model)
    before = model.read_bytes()
    with pytest.raises(InputError, match=READ):
        fd.export(model, model)
    assert model.read_bytes() == before


def test_what_one_command_remembers(tmp_path: Path):
    file, other = tmp_path / "a", tmp_path / "b"
    write_file(file, "1")
    with one_command():
        readable_file(file, "file")
        with pytest.raises(InputError, match=READ), one_command():
            planned(file)
        with pytest.raises(InputError, match=READ):
            write_file(file, "2", again=True)
        planned(other)
        write_file(other, "1")
        readable_file(other, "file")
        with pytest.raises(InputError, match=READ):
            write_file(other, "2")
        with own_files():
            write_file(file, "2")
    with one_command():
        write_file(file, "3")
        write_file(file, "4", again=True)
        with pytest.raises(InputError, match=TWICE):
            write_file(file, "5")
        with pytest.raises(InputError, match=TWICE):
            planned(file)
        planned(other)
        with pytest.raises(InputError, match=READ):
            readable_file(other, "file")
    assert (file.read_text(), other.read_text()) == ("4", "1")


def test_threads_do_not_know_each_others_files(tmp_path: Path):
    file, errors = tmp_path / "a", []
    write_file(file, "1")

    def write() -> None:
        try:
            with one_command():
                write_file(file, "2")
        except InputError as error:
            errors.append(error)

    with one_command():
        readable_file(file, "file")
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert (errors, file.read_text()) == ([], "2")


# places that are not files, links, permissions


def test_devices_and_pipes_are_written_through(run: Run, folder: Path):
    os.mkfifo(folder / "pipe")
    got: list[bytes] = []
    for command in ("export a.pt -o pipe --graph /dev/null", "run n.net -o pipe --samples 2",
                    "evaluate n.net --samples 2 --curve /dev/null.csv"):  # fmt: skip
        reader = threading.Thread(target=lambda: got.append((folder / "pipe").read_bytes()))
        if "pipe" in command:
            reader.start()
        else:
            command = command.replace("/dev/null.csv", "null.csv")
            (folder / "null.csv").symlink_to("/dev/null")
        result = run(*command.split())
        assert result.returncode == 0, result.stderr
        if "pipe" in command:
            reader.join()
    assert got[0][:8] == b"\x89HDF\r\n\x1a\n"
    assert got[1][:2] == b"PK"
    assert stat.S_ISFIFO((folder / "pipe").stat().st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert (folder / "null.csv").is_symlink()


def test_what_stdout_goes_to_is_written_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "log"
    with file.open("w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        print("before")
        write_file(file, "between\n")
        print("after")
    monkeypatch.undo()
    assert file.read_text() == "before\nbetween\nafter\n"


def test_a_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stat, "S_ISBLK", lambda mode: True)
    with pytest.raises(InputError, match="is a disk"):
        write_file("/dev/null", "x")


def test_links_and_permissions_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file, link, later = tmp_path / "sub" / "file", tmp_path / "link", tmp_path / "later"
    write_file(file, "1")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask
    file.chmod(0o640)
    link.symlink_to("sub/file")
    later.symlink_to("sub/new")
    write_file(link, "2")
    write_file(later, "3")
    assert (file.read_text(), (tmp_path / "sub" / "new").read_text()) == ("2", "3")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert (link.is_symlink(), later.is_symlink()) == (True, True)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != file)
    with pytest.raises(InputError, match="write-protected"):
        write_file(file, "4")
    assert file.read_text() == "2"
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match="cannot be written"):
        write_file(tmp_path / "loop", "5")


# every writer


def stock() -> StockNetwork:
    network = to_target(small_graph(), "stock-lif", np.full((1, 1, 4, 5), 7)).network
    assert isinstance(network, StockNetwork)
    return network


def quantised() -> quantisation.Checkpoint:
    torch.manual_seed(0)
    layers = (torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8, 3))
    model = quantisation.prepare(torch.nn.Sequential(*layers), input_shape=(1, 4, 4))
    quantisation.calibrate(model, torch.rand(4, 1, 4, 4))
    return quantisation.Checkpoint(model, (1, 4, 4))


def thermometer() -> StockNetwork:
    from tests.test_nir import READOUT, StockInput, dense
    from tests.test_nir import stock as network

    return network(StockInput(shape=(3,)), dense(READOUT), bits=20)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "NetX": lambda path: netx.write(small_graph(), path),
    "stock NetX": lambda path: netx.write_stock(stock(), path),
    "NIR": lambda path: nir.export_graph(small_graph(), path),
    "NIR of a thermometer": lambda path: nir.export_thermometer(thermometer(), path),
    "report of losses": lambda path: LossReport("x" * 2000, "1", ()).write(path.with_name("x")),
    "graph": lambda path: save_graph(small_graph(), path),
    "checkpoint": lambda path: quantisation.save(quantised(), path),
    "text": lambda path: write_file(path, "x" * 2000),
}


@contextmanager
def full_disk() -> Iterator[None]:
    """Files of more than 500 bytes cannot be written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_is_one_message(kind: str, tmp_path: Path):
    file = tmp_path / ("x.loss.json" if kind == "report of losses" else "x")
    file.write_text("old")
    with full_disk(), pytest.raises(InputError, match=r"cannot be written \(File too large\)"):
        WRITERS[kind](file)
    assert content(tmp_path) == {file.name: b"old"}
    WRITERS[kind](file)
    assert len(file.read_bytes()) > 500
    if kind != "report of losses":
        with pytest.raises(InputError, match=r"/dev/full: cannot be written \(No space left"):
            WRITERS[kind](Path("/dev/full"))
        WRITERS[kind](Path("/dev/null"))
    assert not Path("/dev/null.loss.json").exists()


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, OSError(28, "No space left on device")])
def test_whatever_ends_a_write_leaves_the_old_file(kind: str, end: Any, tmp_path: Path, monkeypatch: Any):
    file = tmp_path / ("x.loss.json" if kind == "report of losses" else "x")
    file.write_text("old")

    def ended(descriptor: int) -> None:
        raise end

    monkeypatch.setattr(os, "fsync", ended)
    with pytest.raises(InputError if isinstance(end, OSError) else end):
        WRITERS[kind](file)
    assert content(tmp_path) == {file.name: b"old"}


def test_bytes_that_read_back_differently_are_not_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "x"
    write_file(file, "old")

    def broken(copy: Path) -> str:
        raise InputError(f"{copy}: is damaged")

    for difference, message in (
        (lambda copy: "layer 3", "cannot be written exactly: layer 3"),
        (broken, r"\(is damaged"),
    ):
        with pytest.raises(InputError, match=f"{file}: .*{message}"):
            write_file(file, "new", difference)
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"other")
    with pytest.raises(InputError, match="the disk returns other bytes"):
        write_file(file, "new")
    monkeypatch.undo()
    assert content(tmp_path) == {"x": b"old"}


# every reader

READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "NetX": ("n.net", netx.read),
    "stock NetX": ("n.net", netx.read_stock),
    "network": ("n.net", read_network),
    "NIR": ("n.nir", nir.import_graph),
    "foreign NIR": ("n.nir", nir.import_nir),
    "graph": ("g.safetensors", load_graph),
    "checkpoint": ("a.pt", quantisation.load),
    "weights": ("w.pt", lambda path: load_weights(build("digits-net"), path)),
    "hardware": ("h.yaml", load_hardware),
    "recipe": ("r.yaml", load_recipe),
    "data": ("d.npz", lambda path: load_images(str(path), "test")),
}


@pytest.fixture
def files(folder: Path) -> Path:
    """`folder`, with the kinds of files that commands only write."""
    save_graph(small_graph(), folder / "g.safetensors")
    nir.export_graph(small_graph(), folder / "n.nir")
    torch.save(build("digits-net").state_dict(), folder / "w.pt")
    shutil.copy(recipe_folder().parent / "hardware_profiles" / "loihi2.yaml", folder / "h.yaml")
    return folder


@pytest.mark.parametrize("kind", READERS)
def test_every_reader_names_what_it_cannot_read(kind: str, files: Path):
    name, read = READERS[kind]
    good = files / name
    whole, bad = good.read_bytes(), files / f"bad{good.suffix}"
    foreign = next(files / other for other in ("g.safetensors", "a.pt") if files / other != good)
    cases = {
        "no such": lambda: None,
        "is a folder": bad.mkdir,
        "is a device or a pipe": lambda: os.mkfifo(bad),
        "is empty": bad.touch,
        "is a Git LFS pointer": lambda: bad.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "": lambda: bad.write_bytes(whole[: len(whole) // 2]),
        "is needed here": lambda: shutil.copy(foreign, bad),
    }
    for message, make in cases.items():
        make()
        with pytest.raises(InputError) as caught:
            read(bad)
        assert message in str(caught.value)
        assert bad.name in str(caught.value)
        if bad.is_dir():
            bad.rmdir()
        bad.unlink(missing_ok=True)


@pytest.mark.parametrize("kind", ["NetX", "stock NetX", "network", "NIR", "foreign NIR"])
def test_a_locked_file_is_named(kind: str, files: Path):
    name, read = READERS[kind]
    with (files / name).open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match=f"{name}: is locked: another program"):
            read(files / name)


def test_a_file_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "x").touch()

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(InputError, match=r"x: the file cannot be read \(Permission denied\)"):
        readable_file(tmp_path / "x", "file")


# signals and exit codes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_command_in_order(run: Run, folder: Path, number: signal.Signals, monkeypatch: Any):
    monkeypatch.setattr(os, "fsync", lambda descriptor: signal.raise_signal(number))
    before, handlers = content(folder), [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)]
    assert run("export", "a.pt", "-o", "x.net").returncode == 128 + number
    assert content(folder) == before
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)] == handlers


@pytest.mark.lava
def test_a_signal_ends_the_session_of_lava(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch):
    started: list[int] = []

    def terminated(process: subprocess.Popen[bytes], *_: object) -> None:
        started.append(process.pid)
        assert session.members(process.pid)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(backend, "_wait", terminated)
    assert run("run", "n.net", "--backend", "lava", "--samples", 1).returncode == 143
    assert started
    assert session.members(started[0]) == []


def test_a_library_that_ends_the_program_gives_no_exit_code_1(run: Run, folder: Path):
    """1 says that an integer differs, and nothing else does."""
    (folder / "own.py").write_text(
        "import sys\ndef data(split): sys.exit(1)\ndef pipe(split): raise BrokenPipeError(32)\n"
    )
    result = run("run", "n.net", "--data", "own.py:data")
    assert result.returncode == 70
    assert "sys.exit(1)" in result.stderr
    assert run("run", "n.net", "--data", "own.py:pipe").returncode == 2


SHELL = {
    "{main} list engines > /dev/full": (2, "the output cannot be written"),
    "{main} list engines --json >&-": (0, ""),
    "{main} profile ghost.net 2> >(true); wait": (2, ""),
    "{main} fly 2>/dev/full": (2, ""),
    "{main} fly 2>&-": (2, ""),
}


@pytest.mark.parametrize("line", SHELL)
def test_streams_that_are_closed_or_full(line: str, tmp_path: Path):
    command = line.format(main=f"{sys.executable} -c '{MAIN}'").replace("; wait", "; code=$?; wait; exit $code")
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    code, message = SHELL[line]
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
