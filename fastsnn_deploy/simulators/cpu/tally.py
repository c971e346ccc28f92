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
    # sums of so few bytes fit 16 bits, of which a register holds twice as many
    short = series.rows.dtype == np.uint8 and series.rows.shape[1] < 128
    scratch = np.empty((2, BLOCK), dtype=np.int16 if short else np.int32)
    _of_rows(series.rows, series.rows.dtype.type(series.zero), series.spikes, weights, scratch, net, total)
    for events in series.tail:
        _of_events(events.image, events.neuron, events.value, weights, net, total)
    return total, net


@njit(**OPTIONS)
def _of_rows(rows, zero, spikes, weights, scratch, net, total):
    images, steps, neurons = rows.shape
    sent, value = scratch[0], scratch[1]
    one, nothing, silence = scratch.dtype.type(1), scratch.dtype.type(0), scratch.dtype.type(zero)
    for image in range(images):
        for begin in range(0, neurons, BLOCK):
            size = min(BLOCK, neurons - begin)
            sent[:] = nothing
            value[:] = nothing
            for t in range(steps):
                if spikes[image, t] == 0:
                    continue
                row = rows[image, t, begin : begin + size]
                for j in range(size):
                    value[j] += scratch.dtype.type(row[j]) - silence
                    sent[j] += one if row[j] != zero else nothing
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


@njit(**OPTIONS)
def nonzero(net):
    """Images in which each neuron's sum is not 0: int32 [B, neurons] -> int64 [neurons]."""
    count = np.zeros(net.shape[1], np.int32)
    for image in range(len(net)):
        for j in range(net.shape[1]):
            count[j] += np.int32(net[image, j] != 0)
    return count.astype(np.int64)
