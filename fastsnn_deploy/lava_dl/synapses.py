"""Synaptic input of stock layers: Lava's Conv, Dense and DelayDense over whole series, each one step later than its
input."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph.arithmetic import exact_matmul
from fastsnn_deploy.graph.synapses.conv2d import windows
from fastsnn_deploy.lava_dl.network import StockConv, StockDense

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

CONV_BITS = 24
CHUNK_VALUES = 2**24
"""Window elements of a convolution that are held at a time, 256 MiB as int64 and float64."""


def conv_input(layer: StockConv, messages: Int32) -> Int32:
    """Synaptic input of a convolution, wrapped to 24 bits (conv/models.py:34-84): int32 [T, N, *shape] of both
    sides."""
    steps, batch = messages.shape[:2]
    frames = messages.reshape(steps * batch, *messages.shape[2:])
    kernel = layer.weight.shape[2:]
    size = max(1, CHUNK_VALUES // max(1, frames[0].size * kernel[0] * kernel[1])) if len(frames) else 1
    synaptic_input = np.empty((len(frames), *layer.shape), dtype=np.int32)
    half = 2 ** (CONV_BITS - 1)
    for start in range(0, len(frames), size):
        part = slice(start, start + size)
        exact = _convolved(layer, frames[part].astype(np.int64))
        # Lava casts the sum to 32 bits before it wraps it
        _require_int32(exact, 2**31 - 2**CONV_BITS)
        synaptic_input[part] = (exact + half) % (2 * half) - half
    return _later(synaptic_input.reshape(steps, batch, *layer.shape))


def _convolved(layer: StockConv, frames: Int64) -> Int64:
    batch = len(frames)
    outputs, per_group, kh, kw = layer.weight.shape
    _, height, width = layer.shape
    view = windows(frames, (kh, kw), layer.stride, layer.padding, layer.dilation)
    columns = view.transpose(0, 2, 3, 1, 4, 5).reshape(batch, height * width, layer.groups, per_group * kh * kw)
    kernels = layer.weight.reshape(layer.groups, outputs // layer.groups, -1)
    synaptic_input = exact_matmul(columns.transpose(0, 2, 1, 3), kernels.transpose(0, 2, 1))
    return synaptic_input.transpose(0, 1, 3, 2).reshape(batch, *layer.shape)


def dense_input(layer: StockDense, messages: Int32) -> Int32:
    """Synaptic input of a dense layer (dense/models.py:77-107, 248-342): int32 [T, N, O] from [T, N, I].

    A delay of d steps comes on top of the one step that every synapse takes.
    """
    if layer.delay is None:
        return _later(_multiplied(layer.weight, messages))
    if layer.delay.ndim == 1:
        return _later(_delayed(_multiplied(layer.weight, messages), layer.delay))
    total = np.zeros((*messages.shape[:2], *layer.shape), dtype=np.int32)
    for delay in np.unique(layer.delay):
        synaptic_input = _multiplied(np.where(layer.delay == delay, layer.weight, 0), messages)
        total += _later(synaptic_input, int(delay))
    return _later(total)


def _multiplied(weight: Int64, messages: Int32) -> Int32:
    synaptic_input = exact_matmul(messages, weight.T)
    _require_int32(synaptic_input, 2**31)
    return synaptic_input.astype(np.int32)


def _delayed(synaptic_input: Int32, delay: Int64) -> Int32:
    result = np.empty_like(synaptic_input)
    for steps in np.unique(delay):
        result[..., delay == steps] = _later(synaptic_input[..., delay == steps], int(steps))
    return result


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
