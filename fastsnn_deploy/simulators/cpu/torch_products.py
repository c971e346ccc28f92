"""Products by operators of PyTorch: its public convolutions in float32 or float64, and oneDNN's in int8, which are not
public.

Imported when a product is first asked for: most networks on most processors do without, and importing PyTorch takes
longer than to simulate an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from fastsnn_deploy.graph import Conv2d, ConvTranspose2d
from fastsnn_deploy.graph.synapses.conv_transpose2d import channels_swapped
from fastsnn_deploy.simulators.cpu.products import FLOAT32, FLOAT64, Float32, Rows, Shape, UInt8

_KINDS = {FLOAT32: torch.float32, FLOAT64: torch.float64}


def _images(rows: npt.NDArray[np.generic], shape: Shape) -> Tensor:
    """Rows as a tensor [n, C, H, W] in channels-last layout, without a copy."""
    channels, height, width = shape.source
    return torch.from_numpy(rows.reshape(-1, height, width, channels)).permute(0, 3, 1, 2)


def _rows(synaptic_input: Tensor) -> Float32:
    """[n, C, H, W] in channels-last layout -> float32 [n, neurons], without a copy."""
    flat = synaptic_input.permute(0, 2, 3, 1).contiguous()
    return flat.reshape(len(flat), -1).numpy()


def public(conv: Conv2d, shape: Shape, name: str) -> Callable[[Rows, int], Float32]:
    """PyTorch's public convolution. name: of what it computes in, a key of `_KINDS`."""
    dtype = _KINDS[name]
    weight = torch.from_numpy(conv.weight.astype(np.float64)).to(dtype)
    weight = weight.contiguous(memory_format=torch.channels_last)
    factor = torch.from_numpy(np.exp2(conv.exponent.astype(np.float64))).to(dtype).reshape(-1, 1, 1)
    scaled = bool((conv.exponent != 0).any())

    def call(rows: Rows, zero: int) -> Float32:
        images = _images(rows, shape).to(dtype)
        if zero:
            images = images - zero
        synaptic_input = F.conv2d(images, weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)
        if scaled:
            synaptic_input = synaptic_input * factor
        return _rows(synaptic_input.float())

    return call


def public_transpose(conv: ConvTranspose2d, shape: Shape, name: str) -> Callable[[Rows, int], Float32]:
    """Its transposed convolution, likewise."""
    dtype = _KINDS[name]
    weight = torch.from_numpy(channels_swapped(conv.effective_weight, conv.groups)).to(dtype)
    geometry = conv.stride, conv.padding, conv.output_padding, conv.groups, conv.dilation

    def call(rows: Rows, zero: int) -> Float32:
        images = _images(rows, shape).to(dtype)
        if zero:
            images = images - zero
        return _rows(F.conv_transpose2d(images, weight, None, *geometry).float())

    return call


def private(conv: Conv2d, shape: Shape) -> Callable[[UInt8], Float32]:
    """oneDNN's convolution of uint8 by int8; zero padding adds nothing."""
    weight = torch.from_numpy(conv.weight.copy())
    scales = torch.from_numpy(np.exp2(conv.exponent.astype(np.float32)))
    zeros = torch.zeros(conv.channels, dtype=torch.int32)
    geometry: list[Any] = [list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups]
    packed = torch.ops.onednn.qconv_prepack(weight, scales, 1.0, 0, *geometry, [1, *shape.source])
    end: tuple[Any, ...] = (1.0, 0, torch.float32, "none", [], "")

    def call(rows: UInt8) -> Float32:
        images = _images(rows, shape)
        return _rows(torch.ops.onednn.qconv2d_pointwise(images, 1.0, 0, packed, scales, zeros, None, *geometry, *end))

    return call


def private_matrix(conv: Conv2d, shape: Shape) -> Callable[[UInt8], Float32]:
    """oneDNN's matrix product of uint8 by int8, for linear layers and for convolutions of a few positions."""
    weight = torch.from_numpy(_matrix(conv, shape))
    scales = torch.from_numpy(np.exp2(np.tile(conv.exponent, math.prod(shape.synaptic_input[1:])).astype(np.float32)))
    zeros = torch.zeros(len(scales), dtype=torch.int32)
    packed = torch.ops.onednn.qlinear_prepack(weight, [1, weight.shape[1]])
    end: tuple[Any, ...] = (1.0, 0, torch.float32, "none", [], "")

    def call(rows: UInt8) -> Float32:
        flat = torch.from_numpy(np.ascontiguousarray(rows))
        synaptic_input = torch.ops.onednn.qlinear_pointwise(flat, 1.0, 0, packed, scales, zeros, None, *end)
        return np.asarray(synaptic_input.numpy())

    return call


def _matrix(conv: Conv2d, shape: Shape) -> npt.NDArray[np.int8]:
    """Weight between every neuron and every source neuron, both positions before channels: int8 [neurons, sources]."""
    if math.prod(shape.source[1:]) == 1 and conv.kernel == (1, 1) and conv.groups == 1:
        return conv.weight.reshape(conv.channels, -1).copy()
    plain = replace(conv, exponent=np.zeros_like(conv.exponent), shape=shape.synaptic_input)
    sources = np.eye(math.prod(shape.source), dtype=np.float32)
    synaptic_input = public(plain, shape, FLOAT64)(sources, 0)
    return np.ascontiguousarray(synaptic_input.T, dtype=np.int8)  # oneDNN reads no other layout


@cache
def private_operators_work() -> bool:
    """The int8 operators exist, take the arguments of this version, and give exact sums on this processor."""
    rng = np.random.default_rng(0)
    shape = Shape((32, 5, 5), (16, 3, 3))
    weight = rng.integers(-128, 128, (16, 32, 3, 3)).astype(np.int8)
    conv = Conv2d(name="probe", shape=shape.synaptic_input, weight=weight,
                  exponent=np.zeros(16, dtype=np.int64), stride=(2, 2), padding=(1, 1))  # fmt: skip
    rows = rng.integers(0, 256, (2, 800)).astype(np.uint8)  # large values: some processors saturate their sums
    expected = public(conv, shape, FLOAT64)(rows, 0)
    try:
        found = [private(conv, shape)(rows), private_matrix(conv, shape)(rows)]
    except (AttributeError, RuntimeError, TypeError):
        return False
    return all(np.array_equal(each, expected) for each in found)
