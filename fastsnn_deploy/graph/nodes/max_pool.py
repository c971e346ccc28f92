"""Max pooling of spikes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph.arithmetic import Int64
from fastsnn_deploy.graph.node import Node, Signal, register
from fastsnn_deploy.graph.ranges import Range
from fastsnn_deploy.graph.synapses.base import window_fan_out
from fastsnn_deploy.graph.synapses.conv2d import Pair, windows


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class MaxPool2d(Node):
    """Event-based max pool: keeps the net counts of its inputs and emits every change of their maximum.

    Positions outside the map never win. Source: QFFS (10.3389/fnins.2022.918793) Algorithm 2.
    """

    emits: ClassVar[Signal] = "spikes"
    reads: ClassVar[Signal] = "spikes"
    layer: ClassVar[bool] = True
    spiking: ClassVar[bool] = True
    arity: ClassVar[int | None] = 1

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    ceil_mode: bool = False
    delay: int = 1

    @property
    def edge_delays(self) -> tuple[int, ...]:
        return (self.delay,) * len(self.inputs)

    def output_shape(self, *sources: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the pooled map; PyTorch's rule, ceil_mode included."""
        (source,) = sources
        if len(source) != 3:
            raise ValueError(f"expects a source (C, H, W), got shape {source}")
        return (source[0], *(self._size(source[1 + i], i) for i in (0, 1)))

    def _size(self, size: int, axis: int) -> int:
        extent = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        span = size + 2 * self.padding[axis] - extent
        if span < 0:
            raise ValueError(f"window {self.kernel} does not fit into {size} positions of axis {axis}")
        stride = self.stride[axis]
        outputs = span // stride + 1
        # a window of ceil_mode may hang over the end, but must start inside the map or its left padding
        if self.ceil_mode and span % stride and outputs * stride < size + self.padding[axis]:
            outputs += 1
        return outputs

    def apply(self, counts: npt.NDArray[np.integer]) -> Int64:
        """Maximum over each window: int [N, C, H, W] -> int64 [N, *self.shape]."""
        lowest = np.iinfo(np.int64).min
        extra = [0, 0]
        for i in (0, 1):
            extent = self.dilation[i] * (self.kernel[i] - 1) + 1
            reached = (self.shape[1 + i] - 1) * self.stride[i] + extent
            extra[i] = max(0, reached - counts.shape[2 + i] - 2 * self.padding[i])
        padded = np.pad(counts.astype(np.int64), ((0, 0), (0, 0), (0, extra[0]), (0, extra[1])), constant_values=lowest)
        view = windows(padded, self.kernel, self.stride, self.padding, self.dilation, fill=lowest)
        return np.asarray(view[:, :, : self.shape[1], : self.shape[2]].max((4, 5)))

    def value(self, *inputs: Int64) -> Int64:
        return self.apply(inputs[0])

    def range(self, sources: list[Range], gain: Fraction) -> Range:
        return sources[0]

    def fan_out(self, source: tuple[int, ...]) -> Int64:
        """Windows that hold each element of its source: int64 of shape `source`."""
        return window_fan_out(source, self.shape, self.kernel, self.stride, self.padding, self.dilation)

    def problems(self, sources: list[Node]) -> Iterator[str]:
        if self.apply(np.zeros((1, 1, *sources[0].shape[1:]), dtype=np.int64)).min() < 0:
            yield f"has a window that holds no position of the {sources[0].shape[1:]} map. Use less padding or dilation"
