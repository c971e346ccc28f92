# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call, no-any-return"
"""What the spikes of each image add up to, counted in one pass over a series."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from fastsnn_deploy.simulators.cpu.kernels import OPTIONS
from fastsnn_deploy.simulators.cpu.series import Series

Int64 = npt.NDArray[np.int64]
IntArray = npt.NDArray[np.integer]

BLOCK = 4096
"""Neurons whose sums stay in the first-level cache: the longest run of a row that is read at once."""

APART = BLOCK + 80
"""Distance of two sums of a neuron: not a multiple of 4 KiB, where a load would wait for an unrelated store."""


def narrow(weights: IntArray) -> IntArray:
    """The same weights side by side, in 16 bits if they fit: they are read once for each image."""
    fits = weights.min(initial=0) >= 0 and weights.max(initial=0) < 2**15
    return np.ascontiguousarray(weights, dtype=np.int16 if fits else np.int64)


class Scratch:
    """Room that is used again for each layer of a tile: new memory costs more than what is done with it."""

    def __init__(self) -> None:
        self.room = np.empty(0, dtype=np.int8)

    def of(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> IntArray:
        """An array with any values, until the next call."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if len(self.room) < size:
            self.room = np.empty(size, dtype=np.int8)
        return self.room[:size].view(dtype).reshape(shape)


def tally(series: Series, weights: IntArray, scratch: Scratch) -> tuple[Int64, Int64, IntArray]:
    """Tallies int64 [B, k] of each image, images in which a neuron's spikes do not add up to 0, int64 [neurons], and
    what they add up to, int16 or int32 [B, neurons] in scratch.

    weights: [k, neurons] in memory order, as `narrow` gives them.
    """
    total = np.zeros((series.images, len(weights)), dtype=np.int64)
    nonzero = np.zeros(series.neurons, dtype=np.int32)
    steps = series.rows.shape[1]
    # sums of so few bytes fit 16 bits, of which a register holds twice as many
    short = series.rows.dtype == np.uint8 and series.end - series.start < 128
    state = np.empty(2 * APART, dtype=np.int16 if short else np.int32)
    net = scratch.of((series.images, series.neurons), state.dtype)
    fits = short and weights.dtype == np.int16 and int(weights.max(initial=0)) * steps * BLOCK < 2**31
    product = np.empty(0, dtype=np.int32 if fits else np.int64)
    zero = series.rows.dtype.type(series.zero)
    _of_rows(series.rows, zero, series.spikes, weights, state, product, net, total, nonzero)
    for events in series.tail:
        _of_events(events.image, events.neuron, events.value, weights, net, total, nonzero)
    return total, nonzero.astype(np.int64), net


@njit(**OPTIONS)
def _of_rows(rows, zero, spikes, weights, state, product, net, total, nonzero):
    """state: room for what the spikes of a block add up to, and from APART on for their number; product: of the type
    in which a block's products are added up."""
    sums, products = state.dtype.type, product.dtype.type
    one, nothing = sums(1), sums(0)
    images, steps, neurons = rows.shape
    active = np.empty(steps, np.int64)
    for image in range(images):
        busy = 0
        for t in range(steps):
            if spikes[image, t]:
                active[busy] = t
                busy += 1
        silence = sums(sums(zero) * sums(busy))
        for begin in range(0, neurons, BLOCK):
            size = min(BLOCK, neurons - begin)
            state[:] = nothing
            first = 0
            while first + 4 <= busy:  # four at a time: the sums are loaded and stored once for them
                a = rows[image, active[first], begin : begin + size]
                b = rows[image, active[first + 1], begin : begin + size]
                c = rows[image, active[first + 2], begin : begin + size]
                d = rows[image, active[first + 3], begin : begin + size]
                for j in range(size):
                    state[j] += sums(sums(a[j]) + sums(b[j]) + sums(c[j]) + sums(d[j]))
                    state[APART + j] += sums(
                        (one if a[j] != zero else nothing)
                        + (one if b[j] != zero else nothing)
                        + (one if c[j] != zero else nothing)
                        + (one if d[j] != zero else nothing)
                    )
                first += 4
            for at in range(first, busy):
                a = rows[image, active[at], begin : begin + size]
                for j in range(size):
                    state[j] += sums(a[j])
                    state[APART + j] += one if a[j] != zero else nothing
            own, images_of = net[image, begin : begin + size], nonzero[begin : begin + size]
            for j in range(size):
                own[j] = sums(state[j] - silence)
            for j in range(size):
                images_of[j] = np.int32(images_of[j] + (np.int32(1) if own[j] else np.int32(0)))
            for k in range(len(weights)):
                part = weights[k, begin : begin + size]
                found = products(0)
                for j in range(size):
                    found = products(found + products(products(state[APART + j]) * products(part[j])))
                total[image, k] += found


@njit(**OPTIONS)
def _of_events(image, neuron, value, weights, net, total, nonzero):
    for at in range(len(image)):
        b, j = image[at], neuron[at]
        before = net[b, j]
        net[b, j] = before + value[at]
        nonzero[j] += np.int32(net[b, j] != 0) - np.int32(before != 0)
        for k in range(len(weights)):
            total[b, k] += weights[k, j]
