"""Target `population`: stock LIF neurons only, exact, loaded by unmodified lava-dl."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fastsnn_deploy import netx, nir_format
from fastsnn_deploy.graph import Population, Readout, SpikingGraph
from fastsnn_deploy.population import to_population
from fastsnn_deploy.stock import StockConv, StockDense, StockLayer
from fastsnn_deploy.targets.base import Exported, Format, Int64, target


@target("population")
def population(graph: SpikingGraph, path: Path, format: Format, calibration: Int64 | None) -> Exported:
    """Each count as a thermometer code of memoryless LIF neurons; weights and thresholds rounded to stock ranges."""
    converted = to_population(graph)
    network = replace(converted.network, metadata=dict(converted.network.metadata) | _metadata(converted.graph))
    notes = [f"one inference a step when frames stream, latency {converted.depth} steps"]
    report = None
    if format == "nir":
        report = nir_format.export_population(network, path)
    else:
        netx.write_stock(network, path)
    if converted.graph != graph:
        notes.append("weights were rounded to fit stock neurons: `verify` says how many predictions that changes")
    weights, nonzero = converted.weights
    totals = {
        "neurons": converted.neurons,
        "parameters": weights,
        "nonzero parameters": nonzero,
        "depth": converted.depth,
    }
    return Exported(path, tuple(stock_row(layer) for layer in network.layers), totals, tuple(notes), report)


def _metadata(graph: SpikingGraph) -> dict[str, str]:
    """How images become messages and answers become real values, as text that stock lava-dl ignores."""
    source, output = graph.input, graph[graph.outputs[0]]
    scale = output.scale if isinstance(output, (Population, Readout)) else 1.0
    described = {"low": source.low, "high": source.high, "offset": source.offset.tolist()}
    return dict(graph.metadata) | {
        "input": json.dumps(described),
        "output_scale": json.dumps(np.broadcast_to(scale, output.channels).tolist()),
    }


def stock_row(layer: StockLayer) -> dict[str, Any]:
    """A layer of a stock network as plain values."""
    row: dict[str, Any] = {"layer": layer.name, "type": type(layer).__name__, "shape": list(layer.shape)}
    if isinstance(layer, (StockConv, StockDense)):
        row["parameters"] = int(layer.weight.size)
        row["weights"] = [int(layer.weight.min()), int(layer.weight.max())]
        row["nonzero"] = int(np.count_nonzero(layer.weight))
    return row
