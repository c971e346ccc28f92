# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call, no-any-return"
"""What the spikes of each image add up to, counted in one pass over a series."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from fastsnn_deploy.simulators.cpu.kernels import BLOCK, OPTIONS
from fastsnn_deploy.simulators.cpu.series import Int32, Series

Int64 = npt.NDArray[np.int64]


def tally(series: Series, weights: Int64) -> tuple[Int64, Int32]:
    """Tallies int64 [B, k] of each image, and what its spikes add up to, int32 [B, neurons].

    weights: int64 [k, neurons] in memory order.
    """
    net = np.zeros((series.images, series.neurons), dtype=np.int32)
    total = np.zeros((series.images, len(weights)), dtype=np.int64)
    _of_rows(series.rows, series.rows.dtype.type(series.zero), weights, net, total)
    for events in series.tail:
        _of_events(events.image, events.neuron, events.value, weights, net, total)
    return total, net


@njit(**OPTIONS)
def _of_rows(rows, zero, weights, net, total):
    images, steps, neurons = rows.shape
    sent, value = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int32)
    for image in range(images):
        for begin in range(0, neurons, BLOCK):
            size = min(BLOCK, neurons - begin)
            sent[:] = 0
            value[:] = 0
            for t in range(steps):
                row = rows[image, t, begin : begin + size]
                for j in range(size):
                    value[j] += np.int32(row[j]) - np.int32(zero)
                    sent[j] += np.int32(row[j] != zero)
            for j in range(size):
                net[image, begin + j] = value[j]
            for k in range(len(weights)):
                part = weights[k, begin : begin + size]
                found = np.int64(0)
                for j in range(size):
                    found += np.int64(sent[j]) * part[j]
                total[image, k] += found


@njit(**OPTIONS)
def _of_events(image, neuron, value, weights, net, total):
    for at in range(len(image)):
        net[image[at], neuron[at]] += value[at]
        for k in range(len(weights)):
            total[image[at], k] += weights[k, neuron[at]]
