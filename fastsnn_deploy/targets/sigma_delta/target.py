"""Target `sigma-delta`: stock sigma-delta neurons with graded spikes. Not exact: the error is measured and said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.targets.base import Converted, Int64, target
from fastsnn_deploy.targets.sigma_delta.convert import convert
from fastsnn_deploy.targets.sigma_delta.measure import compare
from fastsnn_deploy.targets.stock_notes import wide_layers


@target("sigma-delta", exact=False)
def sigma_delta(graph: SpikingGraph, calibration: Int64 | None) -> Converted:
    """Stock sigma-delta neurons, not exact, says by how much.

    Delta, SigmaDelta and Sigma layers; units are chosen from the activations of the calibration images.
    """
    if calibration is None or not len(calibration):
        raise InputError(
            "target 'sigma-delta' is not exact and needs typical images to choose its units. Name a data set"
        )
    converted = convert(graph, calibration)
    notes = ("not exact; on the calibration images:", *str(compare(converted, graph, calibration)).splitlines())
    notes += tuple(wide_layers(converted.network))
    network = replace(converted.network, metadata=dict(graph.metadata) | dict(converted.network.metadata))
    neurons = sum(int(np.prod(converted.network.layers[index].shape)) for index in converted.layers)
    return Converted(network, graph, {"neurons": neurons, "steps": converted.steps}, notes)
