"""The integer quantised network (no time): the right answer that every spiking run must settle to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import Concat, Flatten, Input, MaxPool2d, Node, Population, Readout, SpikingGraph, Synapse
from fastsnn_deploy.graph.arithmetic import per_channel, quantise

Int64 = npt.NDArray[np.int64]


def integer_values(graph: SpikingGraph, images: Any) -> Mapping[str, Int64]:
    """Value of every node for a batch: counts of spike sources, synaptic input of synapses, potentials of readouts.

    images: raw or Encoded (`SpikingGraph.encode`). Returns int64 [N, *node shape] by node name.
    """
    emitted = graph.encode(images)
    values: dict[str, Int64] = {}
    for node in graph.nodes:
        values[node.name] = _value(node, [values[name] for name in node.inputs], emitted)
    return values


def _value(node: Node, inputs: list[Int64], emitted: Int64) -> Int64:
    if isinstance(node, Input):
        return np.asarray(emitted)
    if isinstance(node, (Synapse, MaxPool2d)):
        return node.apply(inputs[0])
    if isinstance(node, (Population, Readout)):
        dimensions = len(node.shape)
        synaptic_input = np.sum(inputs, axis=0, dtype=np.int64) + per_channel(node.bias, dimensions)
        if isinstance(node, Readout):
            return np.asarray(synaptic_input)
        threshold, initial = per_channel(node.threshold, dimensions), per_channel(node.initial, dimensions)
        return quantise(synaptic_input, threshold, initial, node.floor, node.ceiling)
    return route(node, inputs)


def route(node: Node, inputs: list[Int64]) -> Int64:
    """Routing nodes: flatten in C, H, W order; concatenate on the channel axis. Shapes are [N, ...]."""
    if isinstance(node, Flatten):
        return inputs[0].reshape(len(inputs[0]), *node.shape)
    if isinstance(node, Concat):
        return np.concatenate(inputs, axis=1)
    raise TypeError(f"{type(node).__name__} does not route spikes")


def logits(graph: SpikingGraph, values: Mapping[str, npt.NDArray[np.integer]], output: str | None = None) -> np.ndarray:
    """Real-valued answer, float64 [N, *shape]: the output's integers times their scale."""
    node = graph[output or graph.outputs[0]]
    integers = values[node.name].astype(np.float64)
    scale = node.scale if isinstance(node, (Readout, Population)) else 1.0
    if isinstance(scale, np.ndarray):
        scale = scale.reshape((-1,) + (1,) * (len(node.shape) - 1))
    return np.asarray(integers * scale)
