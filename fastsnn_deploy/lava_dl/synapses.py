"""Synapses of stock layers: what a layer receives (Lava's Conv, Dense and DelayDense), and what leaves each neuron."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph.arithmetic import exact_matmul
from fastsnn_deploy.graph.ranges import STATE_BITS
from fastsnn_deploy.graph.synapses.conv2d import correlate
from fastsnn_deploy.lava_dl.network import StockConv, StockDense

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

CHUNK_VALUES = 2**24
"""Window elements of a convolution that are held at a time, 256 MiB as int64 and float64."""


def at_once(layer: StockConv | StockDense, messages: Int32) -> Int32:
    """Synaptic input without any delay: int32 [T, N, *shape] of both sides."""
    if isinstance(layer, StockConv):
        return _convolved(layer, messages)
    return _multiplied(layer.weight, messages)


def delayed(layer: StockConv | StockDense, messages: Int32) -> Int32:
    """Synaptic input in the step in which it arrives, one later than its messages: int32 [T, N, *shape] of both sides.

    A delay of d steps in a dense layer comes on top of the one step that every synapse takes (dense/models.py:248-342).
    """
    delay = layer.delay if isinstance(layer, StockDense) else None
    if delay is None:
        return _later(at_once(layer, messages))
    if delay.ndim == 1:
        synaptic_input = _multiplied(layer.weight, messages)
        total = np.empty_like(synaptic_input)
        for steps in np.unique(delay):
            total[..., delay == steps] = _later(synaptic_input[..., delay == steps], int(steps))
        return _later(total)
    total = np.zeros((*messages.shape[:2], *layer.shape), dtype=np.int32)
    for steps in np.unique(delay):
        total += _later(_multiplied(np.where(delay == steps, layer.weight, 0), messages), int(steps))
    return _later(total)


def _convolved(layer: StockConv, messages: Int32) -> Int32:
    """A convolution over all frames, wrapped to 24 bits (conv/models.py:34-84)."""
    steps, batch = messages.shape[:2]
    frames = messages.reshape(steps * batch, *messages.shape[2:])
    geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)
    taps = layer.weight[0].size * layer.groups * int(np.prod(layer.shape[1:]))
    size = max(1, CHUNK_VALUES // max(1, taps))
    synaptic_input = np.empty((len(frames), *layer.shape), dtype=np.int32)
    half = 2 ** (STATE_BITS - 1)
    for start in range(0, len(frames), size):
        part = slice(start, start + size)
        exact = correlate(frames[part].astype(np.int64), layer.weight, *geometry)
        # Lava casts the sum to 32 bits before it wraps it
        _require_int32(exact, 2**31 - 2**STATE_BITS)
        synaptic_input[part] = (exact + half) % (2 * half) - half
    return synaptic_input.reshape(steps, batch, *layer.shape)


def _multiplied(weight: Int64, messages: Int32) -> Int32:
    """A dense layer (dense/models.py:77-107): int32 [T, N, O] from [T, N, I]."""
    synaptic_input = exact_matmul(messages, weight.T)
    _require_int32(synaptic_input, 2**31)
    return synaptic_input.astype(np.int32)


def _later(series: Int32, steps: int = 1) -> Int32:
    """The series `steps` later, with nothing before it."""
    result = np.zeros_like(series)
    result[steps:] = series[: max(len(series) - steps, 0)]
    return result


def _require_int32(synaptic_input: Int64, limit: int) -> None:
    reached = max(synaptic_input.max(initial=0), -synaptic_input.min(initial=0))
    if reached >= limit:
        raise InputError(
            f"a synaptic input reaches {reached}, beyond the 32 bits of stock Lava. Use smaller inputs or weights"
        )


def fan_out(layer: StockConv | StockDense, source: tuple[int, ...], *, zeros: bool = False) -> Int64:
    """Synapses that leave each source neuron, those on padding left out: int64 of shape `source`.

    zeros: count weights of 0 as well, which no chip has to store.
    """
    used = (layer.weight != 0) | zeros
    if isinstance(layer, StockDense):
        return np.asarray(used.sum(0, dtype=np.int64))
    outputs, per_group, height, width = used.shape
    taps = used.reshape(layer.groups, outputs // layer.groups, per_group, height, width).sum(1)
    rows, columns = (_reached(layer, axis, source[1 + axis]) for axis in (0, 1))
    return np.asarray(np.einsum("ckl,kh,lw->chw", taps.reshape(-1, height, width), rows, columns), dtype=np.int64)


def _reached(layer: StockConv, axis: int, size: int) -> Int64:
    """How many outputs read each position through each tap of one axis, 0 or 1: int64 [taps, size]."""
    stride, padding, dilation = layer.stride[axis], layer.padding[axis], layer.dilation[axis]
    hits = np.zeros((layer.weight.shape[2 + axis], size), dtype=np.int64)
    for tap, row in enumerate(hits):
        positions = np.arange(layer.shape[1 + axis]) * stride - padding + tap * dilation
        row[positions[(positions >= 0) & (positions < size)]] = 1
    return hits
