"""Synapses with one weight per channel: identity (shortcuts, relays), sum pool, nearest upsample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph.arithmetic import IntArray, per_channel
from fastsnn_deploy.graph.node import register
from fastsnn_deploy.graph.synapses.base import Bounds, Synapse, channel_bounds, window_fan_out
from fastsnn_deploy.graph.synapses.conv2d import Conv2d, Pair, output_size, windows
from fastsnn_deploy.graph.synapses.conv_transpose2d import ConvTranspose2d


def _check_channels(synapse: Synapse, source: tuple[int, ...]) -> None:
    if synapse.weight.shape != (source[0],):
        raise ValueError(f"needs one weight for each of {source[0]} channels, got {synapse.weight.shape}")


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Identity(Synapse):
    """Neuron to neuron. weight: int8 [C]; synaptic input has the shape of the source."""

    def output_shape(self, *sources: tuple[int, ...]) -> tuple[int, ...]:
        (source,) = sources
        _check_channels(self, source)
        return source

    def apply(self, spikes: IntArray) -> npt.NDArray[np.int64]:
        return spikes.astype(np.int64) * per_channel(self.effective_weight, spikes.ndim - 1)

    def fan_out(self, source: tuple[int, ...]) -> npt.NDArray[np.int64]:
        return np.ones(source, dtype=np.int64)

    def input_bounds(self, low: IntArray, high: IntArray) -> Bounds:
        return channel_bounds(self.effective_weight, low, high)

    def as_primitive(self) -> Synapse:
        """A depthwise 1x1 convolution. A vector becomes one pixel of as many channels; the caller reshapes."""
        shape = self.shape if len(self.shape) == 3 else (*self.shape, 1, 1)
        return Conv2d(
            name=self.name,
            inputs=self.inputs,
            shape=shape,
            module=self.module,
            delay=self.delay,
            weight=self.weight.reshape(-1, 1, 1, 1),
            exponent=self.exponent,
            groups=self.channels,
        )


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class SumPool2d(Synapse):
    """Sum over a window, zero outside. weight: int8 [C]; source (C, H, W).

    An average pool is this with its 1 / (kh * kw) in the threshold of the next population.
    """

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)

    def output_shape(self, *sources: tuple[int, ...]) -> tuple[int, ...]:
        (source,) = sources
        if len(source) != 3:
            raise ValueError(f"expects a source (C, H, W), got shape {source}")
        _check_channels(self, source)
        size = [output_size(source[1 + i], self.kernel[i], self.stride[i], self.padding[i], 1) for i in (0, 1)]
        if min(size) < 1:
            raise ValueError(f"window {self.kernel} does not fit into {source[1:]}")
        return source[0], size[0], size[1]

    def apply(self, spikes: IntArray) -> npt.NDArray[np.int64]:
        view = windows(spikes.astype(np.int64), self.kernel, self.stride, self.padding, (1, 1))
        return np.asarray(view.sum((4, 5)) * per_channel(self.effective_weight, 3))

    def fan_out(self, source: tuple[int, ...]) -> npt.NDArray[np.int64]:
        return window_fan_out(source, self.shape, self.kernel, self.stride, self.padding, (1, 1))

    def input_bounds(self, low: IntArray, high: IntArray) -> Bounds:
        return channel_bounds(self.effective_weight * (self.kernel[0] * self.kernel[1]), low, high)

    def padded_fan_in(self, source: tuple[int, ...]) -> int:
        return self.size * self.kernel[0] * self.kernel[1]

    def as_primitive(self) -> Synapse:
        """A depthwise convolution whose kernel holds one value per channel."""
        kernel = np.broadcast_to(self.weight.reshape(-1, 1, 1, 1), (self.channels, 1, *self.kernel))
        return Conv2d(
            name=self.name,
            inputs=self.inputs,
            shape=self.shape,
            module=self.module,
            delay=self.delay,
            weight=kernel,
            exponent=self.exponent,
            stride=self.stride,
            padding=self.padding,
            groups=self.channels,
        )


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Upsample(Synapse):
    """Nearest-neighbour upsampling by whole factors. weight: int8 [C]; (C, H, W) -> (C, fh * H, fw * W)."""

    factor: Pair

    def output_shape(self, *sources: tuple[int, ...]) -> tuple[int, ...]:
        (source,) = sources
        if len(source) != 3:
            raise ValueError(f"expects a source (C, H, W), got shape {source}")
        _check_channels(self, source)
        return source[0], source[1] * self.factor[0], source[2] * self.factor[1]

    def apply(self, spikes: IntArray) -> npt.NDArray[np.int64]:
        repeated = spikes.astype(np.int64).repeat(self.factor[0], axis=2).repeat(self.factor[1], axis=3)
        return np.asarray(repeated * per_channel(self.effective_weight, 3))

    def fan_out(self, source: tuple[int, ...]) -> npt.NDArray[np.int64]:
        return np.full(source, self.factor[0] * self.factor[1], dtype=np.int64)

    def input_bounds(self, low: IntArray, high: IntArray) -> Bounds:
        return channel_bounds(self.effective_weight, low, high)

    def as_primitive(self) -> Synapse:
        """A depthwise transposed convolution whose kernel is one block and holds one value per channel."""
        kernel = np.broadcast_to(self.weight.reshape(-1, 1, 1, 1), (self.channels, 1, *self.factor))
        return ConvTranspose2d(
            name=self.name,
            inputs=self.inputs,
            shape=self.shape,
            module=self.module,
            delay=self.delay,
            weight=kernel,
            exponent=self.exponent,
            stride=self.factor,
            groups=self.channels,
        )
