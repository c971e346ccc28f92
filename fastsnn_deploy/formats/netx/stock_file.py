"""Stock NetX files: written so that unmodified lava-dl 0.6.0 loads them, read from any program.

What stock lava-dl has no place for (names, metadata, message bits of the input, further text) lies in the group
`fastsnn_deploy_stock`, which it ignores.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Literal

import h5py

from fastsnn_deploy import __version__
from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.files import existing_file
from fastsnn_deploy.formats.hdf5 import HDF5_ERRORS, unreadable, write_hdf5
from fastsnn_deploy.formats.netx.fields import put_numbers, put_text
from fastsnn_deploy.formats.netx.file import VERSION_KEY
from fastsnn_deploy.formats.netx.stock_fields import StockFields
from fastsnn_deploy.formats.netx.stock_layers import read_layer, stored_shape, write_layer
from fastsnn_deploy.lava_dl import StockDense, StockInput, StockLayer, StockNetwork, check, difference, problems_of
from fastsnn_deploy.reading import json_of

GROUP = "fastsnn_deploy_stock"


def write_stock(network: StockNetwork, path: str | Path, *, extra: Mapping[str, str] | None = None) -> None:
    """Write `network` to `path` with NetX's keys, dtypes and axis orders and nothing else in the layers.

    extra: text by name, which `read_extra` gives back. The file is read back and compared before it is there. Raises
    InputError if stock lava-dl would not compute what the network says (`lava_dl.problems_of`), if a text has no place
    in HDF5, or if the folder cannot be written.
    """
    check(network)

    def fill(image: BinaryIO) -> None:
        with h5py.File(image, "w") as file:
            _fill(file, network, extra or {})

    def different(copy: Path) -> str | None:
        return difference(network, read_stock(copy)) or (None if read_extra(copy) == dict(extra or {}) else "extra")

    write_hdf5(path, fill, different)


def read_stock(
    path: str | Path,
    *,
    num_layers: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    input_message_bits: int | None = None,
) -> StockNetwork:
    """Read the stock NetX file of any program.

    num_layers, input_shape (C, H, W) or (N,), input_message_bits: as the arguments of lava-dl's `Network`, which a
    file does not hold; without them all layers, the shape of an input layer or of a first dense layer, and what
    `write_stock` stored or else 0. Raises InputError with every layer and key that is not supported, and for files
    that are not NetX, damaged, or use links and storage outside themselves.
    """
    with _opened(path) as root:
        layers, problems = _layers(root, num_layers, input_shape)
        own = root.group(GROUP) if GROUP in root else None
        names = _text_list(own, "names", len(root.group("layer"))) if own else []
        bits = own.integer("input_message_bits") if own else 0
        metadata = _text_map(own, "metadata") if own else {}
    layers = [replace(layer, name=name) for layer, name in zip(layers, names, strict=False)] if names else layers
    network = StockNetwork(tuple(layers), bits if input_message_bits is None else input_message_bits, metadata)
    problems = problems or problems_of(network)
    if problems:
        raise InputError(f"{path}: holds what is not supported", problems)
    return network


def read_extra(path: str | Path) -> dict[str, str]:
    """The `extra` of `write_stock`; empty for files of other programs. Raises InputError."""
    with _opened(path) as root:
        return _text_map(root.group(GROUP), "extra") if GROUP in root else {}


def kind_of(path: str | Path) -> Literal["extension", "stock"]:
    """Whether `netx.read` ('extension') or `read_stock` ('stock') reads the file. Raises InputError if neither."""
    path = existing_file(path, "NetX file")
    try:
        with h5py.File(path, "r") as file:
            if VERSION_KEY in file.attrs:
                return "extension"
            if "layer" in file:
                return "stock"
    except HDF5_ERRORS as error:
        raise unreadable(path, error) from error
    raise InputError(f"{path}: is an HDF5 file, but not a NetX file: it has no group 'layer'")


def _fill(file: h5py.File, network: StockNetwork, extra: Mapping[str, str]) -> None:
    for index, layer in enumerate(network.layers):
        write_layer(file.create_group(f"layer/{index}"), layer)
    own = file.create_group(GROUP)
    put_text(own, "generator", f"fastsnn-deploy {__version__}")
    put_numbers(own, "input_message_bits", network.input_message_bits)
    put_text(own, "names", json.dumps([layer.name for layer in network.layers]))
    put_text(own, "metadata", json.dumps(dict(network.metadata)))
    put_text(own, "extra", json.dumps(dict(extra)))


@contextmanager
def _opened(path: str | Path) -> Iterator[StockFields]:
    """The root of a stock file. Every error of HDF5 becomes an InputError."""
    if kind_of(path) == "extension":
        raise InputError(f"{path}: uses the NetX extension of this program. Read it with netx.read")
    try:
        with h5py.File(path, "r") as file:
            yield StockFields(file, f"{path}", limit=os.path.getsize(path))
    except InputError:
        raise
    except HDF5_ERRORS as error:
        raise unreadable(path, error) from error


def _layers(
    root: StockFields, num_layers: int | None, input_shape: tuple[int, ...] | None
) -> tuple[list[StockLayer], list[Problem]]:
    """All layers that can be read, and a problem for each that cannot."""
    group = root.group("layer")
    count = len(group) if num_layers is None else min(num_layers, len(group))
    layers: list[StockLayer] = [StockInput(shape=input_shape)] if input_shape else []
    problems: list[Problem] = []
    for index in range(count):
        where = f"layer {index}"
        try:
            fields = group.group(str(index), where=where)
            layer = read_layer(fields, layers[-1].shape if layers else None)
            if not layers and not isinstance(layer, StockInput):
                layers.append(_implied_input(layer, where))
            if not (input_shape and isinstance(layer, StockInput) and layer.neuron is None):
                layers.append(layer)
        except InputError as error:
            text = str(error).removeprefix(f"{root.where}: ")
            problems.append(Problem(where, text.removeprefix(f"{where}: ").removeprefix(f"{where}, ")))
            continue
        if layer.shape != stored_shape(fields):
            problems.append(Problem(where, f"'shape' is {stored_shape(fields)}, its weights make {layer.shape}"))
    return layers, problems


def _implied_input(layer: StockLayer, where: str) -> StockInput:
    """The input of a file without an input layer, which a dense layer tells by its weights."""
    if isinstance(layer, StockDense):
        return StockInput(shape=(layer.weight.shape[1],))
    raise InputError(f"{where}: there is no input layer before it. Give the input's shape")


def _text_list(fields: StockFields, key: str, count: int) -> list[str]:
    data = _json(fields, key)
    if not isinstance(data, list) or len(data) != count or not all(isinstance(value, str) for value in data):
        raise fields.wrong(key, f"{data}"[:40], f"a JSON list of {count} strings")
    return data


def _text_map(fields: StockFields, key: str) -> dict[str, str]:
    data = _json(fields, key)
    if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
        raise fields.wrong(key, f"{data}"[:40], "a JSON object of strings")
    return data


def _json(fields: StockFields, key: str) -> object:
    return json_of(fields.text(key), fields.where, f"text of '{key}'")
