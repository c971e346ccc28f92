"""One file for a spiking graph: safetensors for the arrays, JSON in its header for everything else. No pickle."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as bytes_of

from fastsnn_deploy.errors import InputError, unknown
from fastsnn_deploy.files import existing_file, write_file
from fastsnn_deploy.graph.node import NODE_TYPES, Node
from fastsnn_deploy.graph.schedule import Schedule
from fastsnn_deploy.graph.spiking_graph import SpikingGraph
from fastsnn_deploy.reading import damaged, json_of

FORMAT = "fastsnn-deploy spiking graph"
VERSION = 2


def save(graph: SpikingGraph, path: str | Path) -> None:
    """Write `graph` to `path`, whole or not at all: `load(path) == graph`, checked before the file is there."""
    tensors: dict[str, np.ndarray] = {}
    for node in graph.nodes:
        tensors.update({f"{node.name}|{name}": getattr(node, name) for name in node.array_dtypes})
    header = {"format": FORMAT, "version": str(VERSION), "graph": json.dumps(plain(graph))}
    try:
        content = bytes_of(tensors, metadata=header)
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path}: cannot be written ({error})") from error
    write_file(path, content, lambda copy: None if load(copy) == graph else "a value is not of its declared type")


def load(path: str | Path) -> SpikingGraph:
    """Read a graph written by `save`. Raises InputError for anything that is not a valid file of this version."""
    path = existing_file(path, "spiking graph file")
    with damaged(path, "safetensors file"), safe_open(path, framework="numpy") as file:
        header = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if header.get("format") != FORMAT:
        raise InputError(f"{path}: is a safetensors file, but not a spiking graph. Write it with `export`")
    if header.get("version") != str(VERSION):
        raise InputError(f"{path}: format version {header.get('version')}, this program reads version {VERSION}")
    with damaged(path, "spiking graph"):
        return from_plain(json_of(header.get("graph"), path, "graph in it"), tensors)


def plain(graph: SpikingGraph) -> dict[str, Any]:
    """The graph without its arrays, as JSON values."""
    return {
        "nodes": [
            {"type": type(node).__name__}
            | {f.name: getattr(node, f.name) for f in dataclasses.fields(node) if f.name not in node.array_dtypes}
            for node in graph.nodes
        ],
        "outputs": graph.outputs,
        "schedule": dataclasses.asdict(graph.schedule),
        "metadata": dict(graph.metadata),
    }


def from_plain(data: dict[str, Any], tensors: dict[str, np.ndarray]) -> SpikingGraph:
    """Inverse of `plain`, with the arrays under `node name|field`. Raises GraphError, or whatever data of another form
    set off."""
    made = _Graph.model_validate(data)
    return SpikingGraph(
        nodes=tuple(_node(dict(entry), tensors) for entry in made.nodes),
        outputs=made.outputs,
        schedule=Schedule(**made.schedule.model_dump()),
        metadata=made.metadata,
    )


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Schedule(_Strict):
    window: int
    input: Literal["once", "spread", "constant"]
    bias: Literal["wave", "spread", "initial"]
    stop: Literal["settled", "window"]
    steps: int | None = None
    start_delay: int = 0


class _Graph(_Strict):
    """What a file says of a graph besides the arrays and the fields of its nodes, which `_fields` checks."""

    nodes: list[dict[str, Any]]
    outputs: Annotated[tuple[str, ...], Field(strict=False)]
    schedule: _Schedule
    metadata: dict[str, str]


@cache
def _fields(cls: type[Node]) -> dict[str, TypeAdapter[Any]]:
    """What each plain field of a node may be, as its class declares it."""
    hints = get_type_hints(cls)
    names = (field.name for field in dataclasses.fields(cls) if field.name not in cls.array_dtypes)
    return {name: TypeAdapter(hints[name], config=ConfigDict(strict=True)) for name in names}


def _node(entry: dict[str, Any], tensors: dict[str, np.ndarray]) -> Node:
    kind = entry.pop("type")
    if kind not in NODE_TYPES:
        raise unknown("node type", kind, NODE_TYPES)
    cls = NODE_TYPES[kind]
    known = _fields(cls)
    if foreign := entry.keys() - known.keys():
        raise InputError(f"node '{entry.get('name')}' has no field {', '.join(sorted(foreign))}")
    plain_fields = {
        key: known[key].validate_python(tuple(value) if isinstance(value, list) else value)
        for key, value in entry.items()
    }
    arrays = {name: tensors[f"{entry['name']}|{name}"] for name in cls.array_dtypes}
    return cls(**plain_fields, **arrays)  # type: ignore[arg-type]
