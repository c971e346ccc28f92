"""A spiking graph to a file, for a target and in a format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats import netx, nir
from fastsnn_deploy.formats.base import FORMATS, Network, register
from fastsnn_deploy.formats.nir import LossReport
from fastsnn_deploy.graph import Input, MaxPool2d, Population, Readout, SpikingGraph, Synapse
from fastsnn_deploy.lava_dl import Sdnn, StockConv, StockDense, StockLayer
from fastsnn_deploy.targets import to_target
from fastsnn_deploy.targets.base import Int64


@dataclass(frozen=True)
class Exported:
    """What was written. layers: one row of plain values each; totals: numbers by name; notes: lines for the user.
    loss_report: what a NIR file does not say."""

    file: Path
    layers: tuple[dict[str, Any], ...]
    totals: dict[str, int]
    notes: tuple[str, ...] = ()
    loss_report: LossReport | None = None


@register("netx", ".net")
def _write_netx(network: Network, path: Path) -> None:
    if isinstance(network, SpikingGraph):
        netx.write(network, path)
    else:
        netx.write_stock(network, path)


@register("nir", ".nir")
def _write_nir(network: Network, path: Path) -> LossReport:
    if isinstance(network, SpikingGraph):
        return nir.export_graph(network, path)
    if any(isinstance(getattr(layer, "neuron", None), Sdnn) for layer in network.layers):
        raise InputError("target 'sigma-delta' has no NIR form: NIR has no sigma-delta neuron. Use --format netx")
    return nir.export_thermometer(network, path)


def export(
    graph: SpikingGraph,
    path: str | Path,
    target: str = "signed-if",
    format: str = "netx",
    calibration: Int64 | None = None,
) -> Exported:
    """Write `graph` for a target.

    calibration: int64 [N, *input shape], encoded typical images, for targets that are not exact.
    Raises InputError for an unknown target or format, GraphError if the target cannot hold the graph.
    """
    if format not in FORMATS:
        raise InputError(f"format '{format}' is not known. Known formats: {', '.join(sorted(FORMATS))}")
    converted = to_target(graph, target, calibration)
    report = FORMATS[format].write(converted.network, Path(path))
    return Exported(Path(path), layer_rows(converted.network), converted.totals, converted.notes, report)


def layer_rows(network: Network) -> tuple[dict[str, Any], ...]:
    """A row for each layer: of a graph its input, populations, max pools and readouts, with the synapses they read."""
    if not isinstance(network, SpikingGraph):
        return tuple(_stock_row(layer) for layer in network.layers)
    kinds = (Input, Population, MaxPool2d, Readout)
    return tuple(_row(network, node) for node in network.nodes if isinstance(node, kinds))


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


def _stock_row(layer: StockLayer) -> dict[str, Any]:
    row: dict[str, Any] = {"layer": layer.name, "type": type(layer).__name__, "shape": list(layer.shape)}
    if isinstance(layer, (StockConv, StockDense)):
        row["parameters"] = int(layer.weight.size)
        row["weights"] = [int(layer.weight.min()), int(layer.weight.max())]
        row["nonzero"] = int(np.count_nonzero(layer.weight))
    return row
