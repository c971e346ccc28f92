"""Reading and writing `nir.NIRGraph`: refusal of hostile files, our own data in the metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.files import existing_file
from fastsnn_deploy.formats.hdf5 import HDF5_ERRORS, unreadable, write_hdf5
from fastsnn_deploy.reading import json_of, require_room

KEY = "fastsnn_deploy"
VERSION = 1
MAX_DEPTH = 12
MOST_TEXTS = 2**16
"""In one dataset, such as the names at the ends of all edges."""

TEXT_BYTES = 16
"""Of a text in a dataset, wherever the text itself is."""


def read_graph(path: str | Path) -> nir.NIRGraph:
    """Read a NIR file without running code from it and without opening anything else.

    Types are not checked by `nir`, whose check has errors for kernels that are not square; whoever uses the graph
    checks shapes. Raises InputError for anything that is not a NIR file.
    """
    path = existing_file(path, "NIR file")
    try:
        with h5py.File(path, "r") as file:
            _Scan(path).group(file, "", 0)
            if "node" not in file or "type" not in file["node"]:
                raise InputError(f"{path}: is an HDF5 file, but not a NIR file: '/node/type' is missing")
        graph = nir.read(path, type_check=False)
    except InputError:
        raise
    except HDF5_ERRORS as error:
        raise unreadable(path, error) from error
    if not isinstance(graph, nir.NIRGraph):
        raise InputError(f"{path}: holds a single {type(graph).__name__} node, not a graph")
    return graph


class _Scan:
    """Goes through a file before `nir` reads all of it: bounded depth and size, hard links to plain data only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = os.path.getsize(path)
        self.bytes = 0
        self.objects = 0

    def group(self, group: Any, where: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise InputError(f"{self.path}: groups are nested more than {MAX_DEPTH} deep")
        for key in group:
            at = f"{where}/{key}"
            self.objects += 1
            # every link takes bytes; more objects than bytes means that groups are linked several times
            if self.objects > self.size:
                raise InputError(f"{self.path}: links of '{at}' form a loop")
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise InputError(f"{self.path}: '{at}' is a link to another place")
            item = group[key]
            if isinstance(item, h5py.Group):
                self.group(item, at, depth + 1)
            elif isinstance(item, h5py.Dataset):
                self.dataset(item, at)
            else:
                raise InputError(f"{self.path}: '{at}' is neither a group nor a dataset")

    def dataset(self, item: Any, at: str) -> None:
        if item.is_virtual or item.external:
            raise InputError(f"{self.path}: the data of '{at}' lie in another file")
        if item.dtype.kind not in "iufbSO" or (item.dtype.kind == "O" and h5py.check_string_dtype(item.dtype) is None):
            raise InputError(f"{self.path}: '{at}' holds {item.dtype}, not numbers or text")
        if item.dtype.kind == "O" and item.size > min(MOST_TEXTS, self.size // TEXT_BYTES):
            raise InputError(
                f"{self.path}: '{at}' claims {item.size:,} texts, too many for a file of {self.size:,} bytes"
            )
        self.take(item.nbytes, at)
        if item.dtype.kind == "O":  # many may be one text, so that each is looked at by itself
            for index in np.ndindex(item.shape):
                self.take(len(item[index]), at)

    def take(self, count: int, at: str) -> None:
        """Count bytes that will be read."""
        self.bytes += count
        require_room(self.path, self.bytes, f"'{at}' and what lies before it")


def pack(kind: str, data: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Metadata of a NIR graph that hold `data` (JSON values) and `arrays`. kind: what they describe."""
    text = json.dumps({"kind": kind, "version": VERSION, "data": dict(data), "arrays": list(arrays)})
    # names of arrays may hold a slash, which HDF5 would take for a group
    return {KEY: {"json": text, "arrays": {str(index): array for index, array in enumerate(arrays.values())}}}


def kind_of(graph: nir.NIRGraph) -> str | None:
    """The kind that `pack` was given, None if the metadata hold nothing of ours. Raises as `unpack`."""
    ours = graph.metadata.get(KEY)
    return None if ours is None else json_of(ours["json"], "the file", "description in its metadata")["kind"]


def unpack(graph: nir.NIRGraph, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """Inverse of `pack`; None if the metadata hold nothing of ours of that kind.

    Raises KeyError, TypeError, AttributeError, ValueError or RecursionError for damaged data, InputError for another
    version.
    """
    ours = graph.metadata.get(KEY)
    if ours is None:
        return None
    content = json_of(ours["json"], "the file", "description in its metadata")
    if content["version"] != VERSION:
        raise InputError(f"metadata of version {content['version']}, this program reads version {VERSION}")
    if content["kind"] != kind:
        return None
    arrays = {name: np.asarray(ours["arrays"][str(index)]) for index, name in enumerate(content["arrays"])}
    return content["data"], arrays


def difference(graph: nir.NIRGraph, other: nir.NIRGraph) -> str | None:
    """The first node, parameter or edge in which two graphs differ, metadata aside; None if they say the same."""
    if set(graph.nodes) != set(other.nodes):
        return f"nodes {sorted(set(graph.nodes) ^ set(other.nodes))}"
    for name, node in graph.nodes.items():
        given, expected = node.to_dict(), other.nodes[name].to_dict()
        for key in sorted((set(given) | set(expected)) - {"metadata"}):
            if key not in given or key not in expected or not _same(given[key], expected[key]):
                return f"'{key}' of node '{name}'"
    edges = {tuple(edge) for edge in graph.edges} ^ {tuple(edge) for edge in other.edges}
    return f"edges {sorted(edges)}" if edges else None


def _same(a: Any, b: Any) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b))


def save(graph: nir.NIRGraph, path: str | Path, difference: Callable[[Path], str | None]) -> None:
    """Write `graph`, whole or not at all. difference: as in `write_file`. Raises InputError if it cannot be written."""
    write_hdf5(path, lambda image: nir.write(image, graph), difference)
