"""The linear nodes of NIR as maps of integers: convolutions, matrices, pools, and how they flatten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import numpy.typing as npt

from fastsnn_deploy.formats.nir.compose import Linear, RefusedError
from fastsnn_deploy.graph.synapses.conv2d import output_size
from fastsnn_deploy.lava_dl.limits import FLOAT32_EXACT

Int64 = npt.NDArray[np.int64]
Shape = tuple[int, ...]

MAX_SIZE = 2**26
"""Elements of an input or of the kernel of a pool; such sizes cost a file nothing, but us memory."""


def _conv(node: nir.Conv2d, shape: Shape, refused: list[str]) -> Linear:
    weight = _integers(node.weight, "weight", refused)
    groups = int(node.groups)
    if weight.ndim != 4 or 0 in weight.shape or groups < 1 or len(shape) != 3 or shape[0] != weight.shape[1] * groups:
        raise RefusedError(f"weight of shape {weight.shape} in {groups} groups cannot read {shape}")
    stride, dilation = _pair(node.stride, "stride", 1), _pair(node.dilation, "dilation", 1)
    kernel = (weight.shape[2], weight.shape[3])
    padding = _padding(node.padding, kernel, stride, dilation)
    bias = _bias(node.bias, len(weight), refused)
    made = _window_shape(weight.shape[0], shape, kernel, stride, padding, dilation)
    return Linear(weight, bias, made, 1, stride, padding, dilation, groups)


def _dense(node: nir.Affine | nir.Linear, shape: Shape, refused: list[str]) -> Linear:
    weight = _integers(node.weight, "weight", refused)
    if weight.ndim != 2 or weight.shape[1:] != shape:
        raise RefusedError(f"weight of shape {weight.shape} cannot read {shape}")
    bias = _bias(np.zeros(len(weight)) if isinstance(node, nir.Linear) else node.bias, len(weight), refused)
    return Linear(weight, bias, (len(weight),))


def _pool(node: nir.SumPool2d | nir.AvgPool2d, shape: Shape, refused: list[str]) -> Linear:
    """A pool as a depthwise convolution of ones; an average keeps its divisor for the threshold."""
    if len(shape) != 3:
        raise RefusedError(f"cannot read {shape}")
    kernel, stride = _pair(node.kernel_size, "kernel_size", 1), _pair(node.stride, "stride", 1)
    padding = _pair(node.padding, "padding", 0)
    average = isinstance(node, nir.AvgPool2d)
    if average and any(padding):
        raise RefusedError("padding: NIR does not say whether an average counts it")
    if shape[0] * kernel[0] * kernel[1] > MAX_SIZE:
        raise RefusedError(f"window {kernel} over {shape[0]} channels is too large")
    made = _window_shape(shape[0], shape, kernel, stride, padding, (1, 1))
    weight, bias = np.ones((shape[0], 1, *kernel), dtype=np.int64), np.zeros(shape[0], dtype=np.int64)
    divisor = kernel[0] * kernel[1] if average else 1
    return Linear(weight, bias, made, divisor, stride, padding, (1, 1), shape[0], pool=True)


WEIGHTS: dict[type, Callable[[Any, Shape, list[str]], Linear]] = {
    nir.Conv2d: _conv,
    nir.Affine: _dense,
    nir.Linear: _dense,
    nir.SumPool2d: _pool,
    nir.AvgPool2d: _pool,
}


def _window_shape(
    channels: int,
    shape: Shape,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Shape:
    made = [output_size(shape[1 + i], kernel[i], stride[i], padding[i], dilation[i]) for i in (0, 1)]
    if min(made) < 1:
        raise RefusedError(f"window {kernel} does not fit into {shape}")
    return channels, made[0], made[1]


def _padding(
    padding: Any, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int]:
    if isinstance(padding, bytes):
        padding = padding.decode("utf-8")
    if not isinstance(padding, str):
        return _pair(padding, "padding", 0)
    if padding == "valid":
        return 0, 0
    spans = [dilation[i] * (kernel[i] - 1) for i in (0, 1)]
    if padding != "same" or stride != (1, 1) or any(span % 2 for span in spans):
        raise RefusedError(f"padding '{padding}' with stride {stride} and kernel {kernel} is not symmetric")
    return spans[0] // 2, spans[1] // 2


def _pair(value: Any, name: str, least: int) -> tuple[int, int]:
    values = np.asarray(value).reshape(-1)
    if values.dtype.kind not in "iu" or len(values) not in (1, 2) or values.min() < least:
        raise RefusedError(f"{name} is {value}, must be one or two integers of at least {least}")
    return int(values[0]), int(values[-1])


def flattened(node: nir.Flatten, shape: Shape) -> Shape:
    """Shape behind a flatten of all axes. Raises RefusedError for any other."""
    last = len(shape) - 1
    if len(shape) != 3 or int(node.start_dim) != 0 or int(node.end_dim) not in (-1, last):
        raise RefusedError(
            f"flattens axes {node.start_dim} to {node.end_dim} of {shape}, must flatten all of (C, H, W)"
        )
    return (int(np.prod(shape)),)


def _integers(values: Any, name: str, refused: list[str]) -> Int64:
    """The values as int64; zeros, and a line in `refused`, if they are not integers."""
    values = np.asarray(values)
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all() or (values != np.floor(values)).any():
        refused.append(f"{name} holds values that are not integers. Quantise the network first")
        return np.zeros(values.shape, dtype=np.int64)
    if np.abs(values).max(initial=0) > FLOAT32_EXACT:
        refused.append(f"{name} reaches beyond 2**24")
        return np.zeros(values.shape, dtype=np.int64)
    return np.asarray(values.astype(np.int64))


def _bias(values: Any, channels: int, refused: list[str]) -> Int64:
    bias = _integers(values, "bias", refused)
    if bias.shape != (channels,):
        refused.append(f"bias has shape {bias.shape}, must be ({channels},)")
        return np.zeros(channels, dtype=np.int64)
    return bias
