"""Files of strangers: each kind of hostile file ends in one clear message, and what fuzzing found stays cured."""

from __future__ import annotations

import io
import json
import os
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import fastsnn_deploy as fd
from fastsnn_deploy.errors import DeployError, InputError, Problem, legible
from fastsnn_deploy.files import below
from fastsnn_deploy.formats.nir.file import read_graph
from fastsnn_deploy.quantisation.plain_tensors import flaw
from fastsnn_deploy.reading import ROOM, json_of, read_arrays, read_entries, yaml_of
from fastsnn_deploy.tables import Table, words
from fastsnn_deploy.training.recipe import load_recipe
from fastsnn_deploy.training.resume import restore
from tests.commands import runner
from tests.hostile_readers import CORPUS, READERS, network, state

FORMULA = "=cmd|'/C calc'!A0"
ESCAPES = "\x1b[31mred\x1b]0;title\x07[bold]\u202e"


def refused(read: Callable[[], Any], *fragments: str, seconds: float = 5.0) -> str:
    """The one message that reading gives, soon."""
    start = time.process_time()
    with pytest.raises(DeployError) as caught:
        read()
    assert time.process_time() - start < seconds
    message = str(caught.value)
    assert legible(message) == message
    for fragment in fragments:
        assert fragment in message
    return message


# text


def alias_bomb() -> str:
    lines = ["a: &a [1,1,1,1,1,1,1,1,1]"]
    lines += [f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefghij", "bcdefghijk", strict=True)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        (alias_bomb(), "aliases"),
        ("a: &a {<<: *a}", "aliases"),
        (f"name: {'9' * 5000}", "a number of 5,000 characters"),
        ("name: " + ":".join(["59"] * 2000), "characters"),
        ("[" * 1000, "nested more than 50 deep"),
        ("- " * 1000 + "x", "nested more than 50 deep"),
        ("!!python/object/apply:os.system [id]", "python/object"),
        ("x: \x00", "plain YAML"),
    ],
)
def test_yaml_takes_no_more_than_it_is_given(text: str, fragment: str, tmp_path: Path):
    refused(lambda: yaml_of(text, "r.yaml", "recipe file"), "r.yaml", fragment, seconds=1)
    (tmp_path / "r.yaml").write_text(text)
    refused(lambda: load_recipe(tmp_path / "r.yaml"), str(tmp_path / "r.yaml"), fragment, seconds=1)
    refused(lambda: fd.map_cores(CORPUS / "model.net", str(tmp_path / "r.yaml")), fragment, seconds=3)


def test_dates_are_text_and_long_files_are_not_read(tmp_path: Path):
    assert yaml_of("a: 2001-99-99\nb: 1.5\nc: 7", "x", "y") == {"a": "2001-99-99", "b": 1.5, "c": 7}
    (tmp_path / "r.yaml").write_text("a: 1\n" * 100_000)
    refused(lambda: load_recipe(tmp_path / "r.yaml"), "is longer than", seconds=1)


@pytest.mark.parametrize("text", ["[" * 10_000, "9" * 5000, "NaN", '{"a": 1e999, "b": Infinity}', "", '{"a": }', 7])
def test_json_takes_no_more_than_it_is_given(text: Any):
    refused(lambda: json_of(text, "m.json", "mapping"), "m.json", "is not JSON", seconds=1)


def test_a_long_number_in_a_mapping_is_one_message(tmp_path: Path):
    held = json.loads((CORPUS / "mapping.json").read_text())
    for value in (10**30, -1, 10**400, "x", None, 1.5):
        held["layers"][0]["first"] = value
        (tmp_path / "mapping.json").write_text(json.dumps(held))
        refused(lambda: READERS["mapping"].read(tmp_path / "mapping.json"), "layers.0.first")


# arrays and archives


def npz(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(f"{name}.npy", content)
    return path


def array(shape: tuple[Any, ...], kind: str = "|u1", body: bytes = bytes(64)) -> bytes:
    header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n" + body


def held(values: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, values)
    return out.getvalue()


@pytest.mark.parametrize(
    ("images", "fragment"),
    [
        (array((30_000_000, 1, 32, 32)), "30720000000 bytes"),
        (array((2**40, 2**40)), "the file holds 64"),
        (array((-8, -8)), "bytes"),
        (array((8, 8), "|O"), "Python objects"),
        (array((64,), body=bytes(63)), "holds 63"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "damaged"),
        (b"not an array", "damaged"),
        (held(np.uint8(3)), "uint8 ()"),
        (held(np.full((6, 1, 4, 4), "a")), "<U1"),
        (held(np.full((6, 1, 4, 4), np.datetime64("2001-01-01"))), "datetime64"),
    ],
)
def test_an_array_is_what_its_entry_holds(images: bytes, fragment: str, tmp_path: Path):
    for names in (("images", "labels"), ("x_train", "y_train"), ("x_test", "y_test")):
        content = dict.fromkeys(("x_train", "x_test"), images) if names[0] != "images" else {}
        content |= dict.fromkeys(("y_train", "y_test"), held(np.arange(6))) if names[0] != "images" else {}
        path = npz(tmp_path / "d.npz", **{names[0]: images, names[1]: held(np.arange(6))}, **{
            key: value for key, value in content.items() if key not in names
        })  # fmt: skip
        refused(lambda path=path: fd.load_data(str(path), split="test"), fragment)


def test_an_archive_is_not_unpacked_to_find_its_size(tmp_path: Path):
    body = bytes(2**20)
    packed = zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED)
    with packed as archive, archive.open("m/data.pkl", "w", force_zip64=True) as file:
        for _ in range(ROOM // 2**20 + 2):
            file.write(body)
    refused(lambda: read_entries(tmp_path / "bomb.pt"), "would take", seconds=0.5)
    for read in (fd.load, fd.load_model, state):
        refused(lambda read=read: read(tmp_path / "bomb.pt"), "bomb.pt", "would take", seconds=0.5)
    refused(lambda: fd.load_data(str(tmp_path / "bomb.pt"), split="test"), "would take", seconds=0.5)


def test_an_archive_on_several_disks_is_one_message(tmp_path: Path):
    data = bytearray((CORPUS / "model.pt").read_bytes())
    at = data.rfind(b"PK\x06\x07")
    data[at + 16 : at + 20] = b"\x07\0\0\0"
    (tmp_path / "part.pt").write_bytes(data)
    for read in (fd.load, fd.load_model, state):
        refused(lambda read=read: read(tmp_path / "part.pt"), "part.pt", "disks")
    (tmp_path / "part.npz").write_bytes(data)
    refused(lambda: read_arrays(tmp_path / "part.npz"), "disks")


def test_arrays_are_read_as_numpy_reads_them():
    arrays = read_arrays(CORPUS / "splits.npz")
    with np.load(CORPUS / "splits.npz") as expected:
        assert list(arrays) == expected.files
        assert all(np.array_equal(arrays[name], expected[name]) for name in arrays)


# checkpoints and weights


def checkpoint(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    content = torch.load(CORPUS / "model.pt", weights_only=True)
    change(content)
    torch.save(content, path)
    return path


def option(layer: str, key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        layers = content["architecture"]["modules"].values()
        next(each for each in layers if each["type"] == layer)["config"][key] = value

    return change


@pytest.mark.parametrize(
    ("layer", "key", "value"),
    [
        ("MaxPool2d", "kernel_size", "x"), ("MaxPool2d", "kernel_size", None), ("MaxPool2d", "stride", [1, "a"]),
        ("MaxPool2d", "padding", 1.5), ("MaxPool2d", "stride", [2]), ("MaxPool2d", "kernel_size", 10**9),
        ("Flatten", "start_dim", "q"), ("Flatten", "start_dim", 0), ("Flatten", "start_dim", 2**70),
        ("QuantConv2d", "stride", "a"), ("QuantConv2d", "padding", [1]), ("QuantConv2d", "padding", 10**6),
        ("QuantConv2d", "device", "cuda"), ("BatchNorm2d", "eps", "x"), ("BatchNorm2d", "eps", float("nan")),
        ("BatchNorm2d", "eps", -5.0), ("QuantActivation", "bits", "x"), ("QuantInput", "mean", "x"),
    ],
)  # fmt: skip
def test_what_load_accepts_convert_takes(layer: str, key: str, value: Any, tmp_path: Path):
    path = checkpoint(tmp_path / "model.pt", option(layer, key, value))
    refused(lambda: fd.load(path), str(path), "damaged")


@pytest.mark.parametrize("shape", [[1, 100_000, 100_000], [1, 2**40, 1], [10**9], [1, 6], [3, 6, 6], [1, 1, 1], "abc"])
def test_an_image_that_does_not_pass_takes_no_memory(shape: Any, tmp_path: Path):
    path = checkpoint(tmp_path / "model.pt", lambda content: content.update(input_shape=shape))
    refused(lambda: fd.load(path), str(path), "damaged")


CHANGES: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "sparse": (torch.Tensor.to_sparse, "torch._utils._rebuild_sparse_tensor"),
    "quantised": (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "_rebuild_qtensor"),
    "complex": (lambda t: t.to(torch.complex64), "complex64, not real numbers"),
    "meta": (lambda t: t.to("meta"), "_rebuild_meta_tensor_no_storage"),
    "expanded": (lambda t: t[:1, :1].expand(10**5, 10**6), "fewer numbers than its shape"),
    "list": (torch.Tensor.tolist, "is a list, not a tensor"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CHANGES)
def test_weights_are_dense_real_numbers(name: str, tmp_path: Path):
    change, fragment = CHANGES[name]
    held = torch.load(CORPUS / "weights.pth", weights_only=True)
    held["5.weight"] = change(held["5.weight"])
    torch.save(held, tmp_path / "w.pth")
    refused(lambda: fd.load_model(tmp_path / "w.pth", network), "5.weight", fragment)


@pytest.mark.filterwarnings("ignore")
def test_every_kind_of_tensor_that_is_no_weight_is_named():
    weight = torch.ones(2, 2)
    assert flaw(weight) is None
    assert "sparse" in str(flaw(weight.to_sparse()))
    assert "sparse_csr" in str(flaw(weight.to_sparse_csr()))
    assert "meta" in str(flaw(weight.to("meta")))
    assert "complex64" in str(flaw(weight.to(torch.complex64)))
    assert "qint8" in str(flaw(torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)))
    assert "fewer" in str(flaw(torch.zeros(1).expand(9, 9)))


def test_pickles_take_no_memory_by_their_numbers(tmp_path: Path):
    """LONG_BINPUT with a great number: pickle in C makes room for as many objects."""
    (tmp_path / "w.pth").write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")
    refused(lambda: fd.load_model(tmp_path / "w.pth", network), "w.pth")


# networks


def changed(source: str, path: Path, key: str, value: Any, **options: Any) -> Path:
    path.write_bytes((CORPUS / source).read_bytes())
    with h5py.File(path, "r+") as file:
        if key in file:
            del file[key]
        file.create_dataset(key, data=value, **options)
    return path


@pytest.mark.parametrize("window", [10**9, 2**16 + 1, 0, -1, 2**62])
def test_a_window_is_one_that_can_be_run(window: int, tmp_path: Path):
    path = changed("model.net", tmp_path / "m.net", "fastsnn_deploy/schedule/window", window)
    refused(lambda: fd.read(path), str(path), "window")


def test_texts_of_a_nir_file_are_counted_before_they_are_read(tmp_path: Path):
    path = tmp_path / "m.nir"
    text = h5py.string_dtype()
    many: dict[str, Any] = {"chunks": (10**6,), "compression": "gzip"}
    for options in (many, {}):
        path.write_bytes((CORPUS / "foreign.nir").read_bytes())
        with h5py.File(path, "r+") as file:
            if options:
                file.create_dataset("node/metadata/x", shape=(30_000_000,), dtype=text, **options)
            else:
                file.create_dataset("node/metadata/x", shape=(2**33,), dtype="f4", chunks=(10**6,), compression="gzip")
        refused(lambda: read_graph(path), "m.nir", "/node/metadata/x", seconds=1)


def test_one_text_under_many_names_is_read_once(tmp_path: Path):
    """Names of 16 bytes that all mean one long text, as no writer makes them."""
    path = tmp_path / "m.nir"
    path.write_bytes((CORPUS / "foreign.nir").read_bytes())
    with h5py.File(path, "r+") as file:
        file.create_dataset(
            "node/metadata/x", data=np.array(["x" * 2**20] * 2, dtype=object), dtype=h5py.string_dtype()
        )
        for number in range(150):
            file[f"node/metadata/{number}"] = file["node/metadata/x"]
    refused(lambda: read_graph(path), "m.nir", "would take")


def test_one_array_under_many_names_is_read_once(tmp_path: Path, monkeypatch: Any):
    monkeypatch.setattr("fastsnn_deploy.formats.netx.fields.ROOM", 2**16)
    path = tmp_path / "m.net"
    path.write_bytes((CORPUS / "stock.net").read_bytes())
    with h5py.File(path, "r+") as file:
        count = len(file["layer"])
        weight = np.zeros((1, 2**14), np.float32)
        file.create_dataset("layer/1/big", data=weight)
        for number in range(count, count + 20):
            file.copy("layer/1", f"layer/{number}")
            for key in ("weight", "bias"):
                if key in file[f"layer/{number}"]:
                    del file[f"layer/{number}/{key}"]
                file[f"layer/{number}/{key}"] = file["layer/1/big"]
    refused(lambda: fd.read(path), "one of several names of the same data")


# what is shown


def test_escapes_are_shown_as_text():
    assert legible(ESCAPES) == "\\x1b[31mred\\x1b]0;title\\x07[bold]\\u202e"
    assert legible("ä — 漢字\u00a0\n\t") == "ä — 漢字\u00a0\n\t"
    assert str(Problem(ESCAPES, "is wrong")).isprintable()
    assert "\x1b" not in str(InputError(ESCAPES, [Problem(ESCAPES, ESCAPES, ESCAPES)]))
    table = Table(ESCAPES, (words("name"),), ((ESCAPES,), (FORMULA,)), notes=(ESCAPES,))
    assert all(legible(text) == text for text in (table.text(), table.html(), table.csv()))
    assert table.csv().splitlines()[2].startswith("'=") or "\"'=" in table.csv()


def test_names_of_a_file_do_not_reach_the_terminal(tmp_path: Path, monkeypatch: Any, capsys: Any):
    run = runner(monkeypatch, capsys)
    extension = "layer/1/fastsnn_deploy/name"
    path = changed("model.net", tmp_path / "[red]x[bold].net", extension, ESCAPES.replace("\x00", ""))
    for command in (("info", path), ("map", path), ("info", tmp_path / "[red]\x1b[2J.net")):
        printed = run(*command)
        assert "\x1b" not in printed.stdout + printed.stderr
        assert command[0] == "map" or "[red]" in printed.stdout + printed.stderr
        assert printed.returncode in (0, 2)


# what a file names


def test_a_recipe_chooses_among_the_users_data(tmp_path: Path):
    root = tmp_path / "data"
    root.mkdir()
    (tmp_path / "secret.pth").write_bytes((CORPUS / "weights.pth").read_bytes())
    (root / "link.pth").symlink_to(tmp_path / "secret.pth")
    (root / "own.pth").write_bytes((CORPUS / "weights.pth").read_bytes())
    assert below(root, "own.pth", "weights") == root / "own.pth"
    for name in ("../secret.pth", str(tmp_path / "secret.pth"), "link.pth", "a\0b"):
        refused(lambda name=name: below(root, name, "the recipe's weights"), "does not lie below")


def test_a_fifo_is_no_file(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for read in (load_recipe, fd.load, fd.read, fd.load_model, READERS["mapping"].read, READERS["task"].read):
        refused(lambda read=read: read(tmp_path / "pipe.yaml"), "is a device or a pipe")


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "x"}, {"epoch": None}, {"model": []}, {"optimiser": 3}, {"figures": [1]}, {"processes": 0},
        {"average": "x"}, {"model": {"a": 1}}, {"recipe": 3}, {"stage": True},
    ],
)  # fmt: skip
def test_a_forged_training_state_is_one_message(change: dict[str, Any], tmp_path: Path):
    content = torch.load(CORPUS / "state.resume", weights_only=True)
    torch.save({**content, **change}, tmp_path / "m.resume")
    refused(lambda: state(tmp_path / "m.resume"), "m.resume", next(iter(change)))


def test_a_forged_optimiser_is_another_ones():
    layer = nn.Linear(2, 2)

    def made() -> torch.optim.Optimizer:
        return torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)

    optimiser = made()
    layer(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    good = optimiser.state_dict()
    restore(made(), good)
    group = good["param_groups"][0]
    changes: list[dict[str, Any]] = [{"momentum": "x"}, {"momentum": 1e9}, {"lr": float("nan")}, {"nesterov": True}]
    for change in changes:
        with pytest.raises((ValueError, TypeError)):
            restore(made(), {**good, "param_groups": [{**group, **change}]})
    forged = {**good, "state": {0: {"momentum_buffer": torch.ones(3)}, 1: good["state"][1]}}
    with pytest.raises(ValueError, match="shape"):
        restore(made(), forged)
