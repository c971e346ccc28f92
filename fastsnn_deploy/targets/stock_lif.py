"""Target `stock-lif`: stock LIF neurons only, exact, loaded by unmodified lava-dl."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from fastsnn_deploy.graph import Population, Readout, SpikingGraph
from fastsnn_deploy.targets.base import Converted, Int64, target
from fastsnn_deploy.targets.stock_notes import described_input, wide_layers
from fastsnn_deploy.targets.thermometer.network import to_thermometer


@target("stock-lif")
def stock_lif(graph: SpikingGraph, calibration: Int64 | None) -> Converted:
    """Stock LIF neurons only, loads in unmodified lava-dl.

    Each count is a thermometer code of memoryless neurons; weights and thresholds are rounded to stock ranges.
    """
    converted = to_thermometer(graph)
    network = replace(converted.network, metadata=dict(converted.network.metadata) | _metadata(converted.graph))
    notes = [f"one inference a step when frames stream, latency {converted.depth} steps"]
    if converted.graph != graph:
        notes.append("weights were rounded to fit stock neurons: `verify` says how many predictions that changes")
    notes += wide_layers(network)
    weights, nonzero = converted.weights
    totals = {
        "neurons": converted.neurons,
        "parameters": weights,
        "nonzero parameters": nonzero,
        "depth": converted.depth,
    }
    return Converted(network, converted.graph, totals, tuple(notes))


def _metadata(graph: SpikingGraph) -> dict[str, str]:
    """How images are encoded and answers become real values, as text that stock lava-dl ignores."""
    source, output = graph.input, graph[graph.outputs[0]]
    scale = output.scale if isinstance(output, (Population, Readout)) else 1.0
    return dict(graph.metadata) | {
        "input": json.dumps(described_input(source)),
        "output": json.dumps({"scale": np.broadcast_to(scale, output.channels).tolist()}),
    }
