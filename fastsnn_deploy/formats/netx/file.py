"""One NetX file for a whole spiking graph: `write` and `read`. Layers are coded in `layers/`, one file per family."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from fastsnn_deploy import __version__
from fastsnn_deploy.errors import GraphError, InputError
from fastsnn_deploy.files import existing_file
from fastsnn_deploy.formats.hdf5 import HDF5_ERRORS, unreadable, write_hdf5
from fastsnn_deploy.formats.netx.codec import Numbering
from fastsnn_deploy.formats.netx.fields import Fields, put_numbers, put_text
from fastsnn_deploy.formats.netx.layers import LAYERS, codec_of
from fastsnn_deploy.graph import Node, Schedule, SpikingGraph
from fastsnn_deploy.reading import json_of

VERSION = 3
"""Version of the extension. A reader refuses every other number."""

VERSION_KEY = "fastsnn_deploy_netx_version"
EXTENSION = "fastsnn_deploy"


def write(graph: SpikingGraph, path: str | Path) -> None:
    """Write `graph` to `path`: the file is complete, or it is not there.

    Before that it is read back and compared; `read(path) == graph` holds. Raises InputError when the folder cannot be
    written or a value has no place in the format (names with a NUL character, integers that are not Python integers).
    """

    def fill(image: BinaryIO) -> None:
        with h5py.File(image, "w") as file:
            _fill(file, graph)

    write_hdf5(path, fill, lambda copy: _first_difference(graph, read(copy)))


def read(path: str | Path) -> SpikingGraph:
    """Read a graph from a file that `write` made.

    Nothing outside the file is opened: soft, external and virtual links are refused. Raises InputError with the
    file, the layer and the value for anything that is not a valid file of this version.
    """
    path = existing_file(path, "NetX file")
    try:
        with h5py.File(path, "r") as file:
            root = Fields(file, f"{path}", limit=os.path.getsize(path))
            _check_origin(file, path)
            return _graph(root)
    except GraphError as error:
        raise GraphError(f"{path}: {error.message}", error.problems) from error
    except InputError:
        raise
    except HDF5_ERRORS as error:
        raise unreadable(path, error) from error


def _fill(file: h5py.File, graph: SpikingGraph) -> None:
    file.attrs[VERSION_KEY] = np.int64(VERSION)
    numbering = Numbering(graph)
    for index, node in enumerate(numbering.layers):
        codec_of(node).write(file.create_group(f"layer/{index}"), node, numbering)
    extension = file.create_group(EXTENSION)
    put_text(extension, "generator", f"fastsnn-deploy {__version__}")
    put_numbers(extension, "outputs", [numbering.layer[name] for name in graph.outputs])
    put_text(extension, "metadata", json.dumps(dict(graph.metadata)))
    schedule = extension.create_group("schedule")
    put_numbers(schedule, "window", graph.schedule.window)
    put_text(schedule, "input", graph.schedule.input)
    put_text(schedule, "bias", graph.schedule.bias)
    put_text(schedule, "stop", graph.schedule.stop)
    if graph.schedule.steps is not None:
        put_numbers(schedule, "steps", graph.schedule.steps)
    if graph.schedule.start_delay:
        put_numbers(schedule, "start_delay", graph.schedule.start_delay)


def _check_origin(file: h5py.File, path: Path) -> None:
    version = file.attrs.get(VERSION_KEY)
    if version is None:
        kind = "a NetX file of another program" if "layer" in file else "an HDF5 file, but not a NetX file"
        raise InputError(f"{path}: is {kind}: attribute '{VERSION_KEY}' is missing. Write it with `export`")
    if not isinstance(version, (int, np.integer)) or version != VERSION:
        raise InputError(
            f"{path}: extension version {version}, this program reads version {VERSION}. Export the network again"
        )


def _graph(root: Fields) -> SpikingGraph:
    layers = root.group("layer")
    count = len(layers)
    if not count:
        raise InputError(f"{root.where}: has no layers")
    nodes: list[tuple[int, Node]] = []
    names: list[str] = []
    for index in range(count):
        layer = layers.group(str(index), where=f"{root.where}: layer {index}")
        codec = LAYERS.get(layer.text("type"))
        if codec is None:
            raise layer.wrong("type", layer.text("type"), f"one of {', '.join(LAYERS)}")
        found = codec.read(layer, names)
        names.append(found[-1][1].name)
        nodes += found
    extension = root.group(EXTENSION)
    order = [position for position, _ in nodes]
    if sorted(order) != list(range(len(order))):
        raise InputError(f"{root.where}: the values of 'order' are {order}, not a permutation of the nodes")
    outputs = [extension.reference(index, "outputs", names) for index in extension.integers("outputs")]
    return SpikingGraph(
        nodes=tuple(node for _, node in sorted(nodes, key=lambda entry: entry[0])),
        outputs=tuple(outputs),
        schedule=_schedule(extension.group("schedule")),
        metadata=_metadata(extension),
    )


def _schedule(fields: Fields) -> Schedule:
    modes: dict[str, Any] = {key: fields.text(key) for key in ("input", "bias", "stop")}
    steps = fields.integer("steps") if "steps" in fields else None
    start_delay = fields.integer("start_delay") if "start_delay" in fields else 0
    return Schedule(window=fields.integer("window"), steps=steps, start_delay=start_delay, **modes)


def _metadata(fields: Fields) -> dict[str, str]:
    text = fields.text("metadata")
    data = json_of(text, fields.where, "text of 'metadata'")
    if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
        raise fields.wrong("metadata", text[:40], "a JSON object of strings")
    return data


def _first_difference(graph: SpikingGraph, copy: SpikingGraph) -> str | None:
    if copy == graph:
        return None
    for node, other in zip(graph.nodes, copy.nodes, strict=True):
        for field in dataclasses.fields(node):
            given: Any = getattr(node, field.name)
            stored: Any = getattr(other, field.name, None)
            same = np.array_equal(given, stored) if isinstance(given, np.ndarray) else given == stored
            if not same or type(given) is not type(stored):
                return f"{field.name} of '{node.name}' is {given!r} ({type(given).__name__}), stored as {stored!r}"
    return "its nodes, outputs, schedule or metadata are not of the declared types"
