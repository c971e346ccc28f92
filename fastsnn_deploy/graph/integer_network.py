"""The integer quantised network (no time): the right answer that every spiking run must settle to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph.arithmetic import Int64
from fastsnn_deploy.graph.nodes import Input, Population, Readout
from fastsnn_deploy.graph.spike_trains import SpikeTrains
from fastsnn_deploy.graph.spiking_graph import SpikingGraph


def integer_values(graph: SpikingGraph, images: Any) -> Mapping[str, Int64]:
    """Value of every node for a batch: counts of spike sources, synaptic input of synapses, potentials of readouts.

    Args:
        graph: any graph.
        images: raw or Encoded (`SpikingGraph.encode`), or SpikeTrains, whose value is that of their frame.

    Returns:
        int64 [N, *node shape] by node name; of the input what enters in a window (`Schedule.repeats`).
    """
    encoded = graph.encode(images)
    whole = encoded.total() if isinstance(encoded, SpikeTrains) else encoded
    emitted = np.asarray(whole) * graph.schedule.repeats
    values: dict[str, Int64] = {}
    for node in graph.nodes:
        inputs = [values[name] for name in node.inputs]
        values[node.name] = emitted if isinstance(node, Input) else node.value(*inputs)
    return values


def answer_scales(graph: SpikingGraph) -> dict[str, npt.NDArray[np.float64]]:
    """Real value of one unit of each output's integers, by name in order: float64, broadcasts to [N, *shape]."""
    scales = {}
    for node in map(graph.__getitem__, graph.outputs):
        scale = np.asarray(node.scale if isinstance(node, (Readout, Population)) else 1.0, dtype=np.float64)
        scales[node.name] = scale.reshape((-1,) + (1,) * (len(node.shape) - 1)) if scale.ndim else scale
    return scales


def logits(graph: SpikingGraph, values: Mapping[str, npt.NDArray[np.integer]], output: str | None = None) -> np.ndarray:
    """Real-valued answer, float64 [N, *shape]: the output's integers times their scale."""
    name = output or graph.outputs[0]
    return np.asarray(values[name].astype(np.float64) * answer_scales(graph)[name])
