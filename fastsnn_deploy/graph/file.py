"""One file for a spiking graph: safetensors for the arrays, JSON in its header for everything else. No pickle."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as bytes_of

from fastsnn_deploy.errors import InputError, unknown
from fastsnn_deploy.files import existing_file, write_file
from fastsnn_deploy.graph.node import NODE_TYPES, Node
from fastsnn_deploy.graph.schedule import Schedule
from fastsnn_deploy.graph.spiking_graph import SpikingGraph

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
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: is not a safetensors file or is damaged ({error})") from error
    if header.get("format") != FORMAT:
        raise InputError(f"{path}: is a safetensors file, but not a spiking graph. Write it with `export`")
    if header.get("version") != str(VERSION):
        raise InputError(f"{path}: format version {header.get('version')}, this program reads version {VERSION}")
    try:
        return from_plain(json.loads(header["graph"]), tensors)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise InputError(f"{path}: {error}") from error
        raise InputError(f"{path}: the graph in it is damaged ({type(error).__name__}: {error})") from error


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
    """Inverse of `plain`, with the arrays under `node name|field`. Raises KeyError, TypeError or GraphError."""
    nodes = [_node(dict(entry), tensors) for entry in data["nodes"]]
    return SpikingGraph(
        nodes=tuple(nodes),
        outputs=tuple(data["outputs"]),
        schedule=Schedule(**data["schedule"]),
        metadata={str(key): str(value) for key, value in data["metadata"].items()},
    )


def _node(entry: dict[str, Any], tensors: dict[str, np.ndarray]) -> Node:
    kind = entry.pop("type")
    if kind not in NODE_TYPES:
        raise unknown("node type", kind, NODE_TYPES)
    cls = NODE_TYPES[kind]
    plain_fields = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    arrays = {name: tensors[f"{entry['name']}|{name}"] for name in cls.array_dtypes}
    return cls(**plain_fields, **arrays)  # type: ignore[arg-type]
