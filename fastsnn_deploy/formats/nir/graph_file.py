"""Spiking graphs as NIR files: the part that NIR can say as primitives, the whole graph in the metadata."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np

from fastsnn_deploy.errors import GraphError, InputError, Problem
from fastsnn_deploy.formats.hdf5 import HDF5_ERRORS
from fastsnn_deploy.formats.nir.file import difference, pack, read_graph, save, unpack
from fastsnn_deploy.formats.nir.graph_export import to_nir
from fastsnn_deploy.formats.nir.losses import losses_of
from fastsnn_deploy.formats.nir.report import LossReport
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.file import from_plain, plain
from fastsnn_deploy.reading import reason_of

KIND = "spiking graph"

MISSING = {
    nir.Input: "step, low, high, offset, scale",
    nir.IF: "initial, floor, ceiling, min_spike, max_spike, scale, input_scale, and the total bias",
    nir.I: "scale and the total bias",
    nir.Conv2d: "weight exponent, delay",
    nir.Affine: "weight exponent, delay",
    nir.Linear: "weight exponent, delay",
    nir.SumPool2d: "weight, weight exponent, delay",
}
"""Fields of our nodes that the NIR primitive in their place lacks."""


def export_graph(graph: SpikingGraph, path: str | Path) -> LossReport:
    """Write `graph` to `path` as NIR, and `path` + '.loss.json' with what NIR cannot say. Each is whole or not there.

    Every NIR node means what NIR says it means; operations without a primitive (max pool, upsample) are cuts. The
    metadata hold the whole graph: the new file is read back before it is there, `import_graph(path) == graph` holds.
    Raises InputError when a file cannot be written.
    """
    target = Path(path)
    exported = to_nir(graph)
    exported.metadata.update(_metadata(graph))

    def different(copy: Path) -> str | None:
        return None if import_graph(copy) == graph else "a value is not of its declared type"

    save(exported, target, different)
    report = LossReport(target.name, nir.version, losses_of(graph))
    report.write(target)
    return report


def import_graph(path: str | Path) -> SpikingGraph:
    """Read a graph that `export_graph` wrote, from the metadata, and check it against the NIR nodes.

    Raises InputError for files that are not NIR, listing everything that is missing when the metadata are, and when
    nodes and metadata disagree because another program has changed one of them.
    """
    file = read_graph(path)
    try:
        found = unpack(file, KIND)
        if found is None:
            raise InputError(f"{path}: holds no spiking graph of ours in its metadata", _missing(file))
        graph = from_plain(*found)
        changed = difference(file, to_nir(graph))
    except GraphError as error:
        raise GraphError(f"{path}: {error.message}", error.problems) from error
    except InputError as error:
        problems = error.problems
        raise InputError(error.message if problems else f"{path}: {error.message}", problems) from error
    except HDF5_ERRORS as error:
        raise InputError(f"{path}: the metadata are damaged ({reason_of(error)})") from error
    if changed:
        raise InputError(f"{path}: NIR nodes and metadata disagree in {changed}. Export the network again")
    return graph


def _metadata(graph: SpikingGraph) -> dict[str, object]:
    arrays = {f"{node.name}|{name}": getattr(node, name) for node in graph.nodes for name in node.array_dtypes}
    data = plain(graph)
    return pack(KIND, data, {name: np.asarray(array) for name, array in arrays.items()})


def _missing(graph: nir.NIRGraph) -> list[Problem]:
    problems = [Problem("network", "NIR has no schedule of input and bias", "Use `import_nir` for stock LIF networks")]
    for name, node in graph.nodes.items():
        if type(node) in MISSING:
            problems.append(Problem(f"{type(node).__name__} '{name}'", f"lacks {MISSING[type(node)]}"))
        elif not isinstance(node, (nir.Output, nir.Flatten, nir.Scale)):
            problems.append(Problem(f"{type(node).__name__} '{name}'", "is no primitive that our export writes"))
    return problems
