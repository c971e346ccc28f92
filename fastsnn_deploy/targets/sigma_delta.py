"""Target `sigma-delta`: stock sigma-delta neurons with graded messages. Not exact: the error is measured and said."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastsnn_deploy import netx
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.sigma_delta import compare, convert
from fastsnn_deploy.targets.base import Exported, Format, Int64, target
from fastsnn_deploy.targets.population import stock_row


@target("sigma-delta")
def sigma_delta(graph: SpikingGraph, path: Path, format: Format, calibration: Int64 | None) -> Exported:
    """Delta, SigmaDelta and Sigma layers, units chosen from the activations of the calibration images."""
    if calibration is None or not len(calibration):
        raise InputError(
            "target 'sigma-delta' is not exact and needs typical images to choose its units. Name a data set"
        )
    if format == "nir":
        raise InputError("target 'sigma-delta' has no NIR form: NIR has no sigma-delta neuron. Use --format netx")
    converted = convert(graph, calibration)
    netx.write_stock(converted.network, path)
    notes = ("not exact; on the calibration images:", *str(compare(converted, graph, calibration)).splitlines())
    layers = converted.network.layers
    neurons = sum(int(np.prod(layers[index].shape)) for index in converted.layers)
    totals = {"neurons": neurons, "steps": converted.steps}
    return Exported(path, tuple(stock_row(layer) for layer in layers), totals, notes)
