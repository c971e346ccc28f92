"""Count ranges of sources, and the synaptic input at which each level of a channel is reached."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import Input, MaxPool2d, Population, SpikingGraph
from fastsnn_deploy.passes.routes import Routes

Int64 = npt.NDArray[np.int64]


def count_range(graph: SpikingGraph, source: str) -> tuple[Int64, Int64]:
    """Least and greatest value of each channel of an input, population or max pool: two int64 [C]."""
    node = graph[source]
    if isinstance(node, Population):
        return np.full(node.channels, node.floor), np.full(node.channels, node.ceiling)
    if isinstance(node, Input):
        return node.low - node.offset, node.high - node.offset
    assert isinstance(node, MaxPool2d)
    pieces = [count_range(graph, piece) for piece in Routes(graph).pieces(node.inputs[0])]
    return np.concatenate([low for low, _ in pieces]), np.concatenate([high for _, high in pieces])


def common_unit(weights: Sequence[Int64]) -> Int64:
    """Greatest common divisor of every target's weights, int64 [targets], 1 where all are zero.

    weights: arrays whose first axis is the target.
    """
    unit = np.zeros(len(weights[0]) if weights else 0, dtype=np.int64)
    for weight in weights:
        unit = np.gcd(unit, np.gcd.reduce(weight.reshape(len(weight), -1), axis=1, initial=0))
    return np.maximum(unit, 1)


def cutoffs(population: Population, channel: Int64, level: Int64, unit: Int64) -> Int64:
    """Least sum of weighted counts, in `unit` synaptic inputs, with which the count reaches floor + level.

    channel, level (1 .. ceiling - floor), unit: int64 [n]. The count is at least k iff
    synaptic input + bias + initial >= k * threshold; the weighted sum is a multiple of the unit, so division rounds up.
    """
    count = population.floor + level
    synaptic_input = count * population.threshold[channel] - population.bias[channel] - population.initial[channel]
    return -(-synaptic_input // unit)
