"""Targets `signed-if` and `graded`: the spiking graph itself, as NetX with the extension, or as NIR with losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastsnn_deploy import netx, nir_format
from fastsnn_deploy.graph import Input, MaxPool2d, Population, Readout, SpikingGraph, Synapse, with_code
from fastsnn_deploy.targets.base import Exported, Format, Int64, target


@target("signed-if")
def signed_if(graph: SpikingGraph, path: Path, format: Format, calibration: Int64 | None) -> Exported:
    """Signed integrate-and-fire neurons that send -1, 0 or 1."""
    return _write(with_code(graph, "unary"), path, format)


@target("graded")
def graded(graph: SpikingGraph, path: Path, format: Format, calibration: Int64 | None) -> Exported:
    """Signed integrate-and-fire neurons whose messages carry a whole count."""
    return _write(with_code(graph, "graded"), path, format)


def _write(graph: SpikingGraph, path: Path, format: Format) -> Exported:
    report = None
    if format == "nir":
        report = nir_format.export_graph(graph, path)
    else:
        netx.write(graph, path)
    rows = layer_rows(graph)
    totals = {
        "neurons": sum(node.size for node in graph.nodes if isinstance(node, (Population, Readout))),
        "synapses": sum(row["synapses"] for row in rows),
        "parameters": sum(row["parameters"] for row in rows),
        "depth": graph.depth,
        "window": graph.schedule.window,
    }
    return Exported(path, rows, totals, loss_report=report)


def layer_rows(graph: SpikingGraph) -> tuple[dict[str, Any], ...]:
    """A row for the input and for each population, max pool and readout, with the synapses it reads."""
    return tuple(_row(graph, node) for node in graph.nodes if isinstance(node, (Input, Population, MaxPool2d, Readout)))


def _row(graph: SpikingGraph, node: Input | Population | MaxPool2d | Readout) -> dict[str, Any]:
    synapses = [synapse for name in node.inputs if isinstance(synapse := graph[name], Synapse)]
    return {
        "layer": node.name,
        "module": node.module,
        "type": type(node).__name__,
        "shape": list(node.shape),
        "synapses": sum(int(s.fan_out(graph[s.inputs[0]].shape).sum()) for s in synapses),
        "parameters": sum(s.parameters for s in synapses),
        "reads": [_reads(s) for s in synapses] or list(node.inputs),
        "exponents": [_span(s.exponent) for s in synapses],
        "threshold": _span(node.threshold) if isinstance(node, Population) else None,
        "counts": [node.floor, node.ceiling] if isinstance(node, Population) else None,
    }


def _reads(synapse: Synapse) -> str:
    late = f", {synapse.delay - 1} steps later" if synapse.delay > 1 else ""
    return f"{synapse.inputs[0]} by {synapse.name} ({type(synapse).__name__}{late})"


def _span(values: Any) -> list[int]:
    return [int(values.min()), int(values.max())]
