"""The nodes that are not synapses: input, population, max pool, routing (flatten, concat), readout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph.arithmetic import per_channel
from fastsnn_deploy.graph.encoded import Encoded
from fastsnn_deploy.graph.images import levels_of
from fastsnn_deploy.graph.neurons import emit, preset_name
from fastsnn_deploy.graph.node import Node, Signal, register
from fastsnn_deploy.graph.synapses.conv2d import Pair, windows

Int64 = npt.NDArray[np.int64]


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Input(Node):
    """Where images enter, as signed integers: level - offset.

    step: real value of one level of the raw image (1/255 for 8-bit pixels in [0, 1]).
    low, high: least and greatest level. offset: int64 [C], subtracted from the level, so that zero padding of the
    first convolution is padding with the mean. scale: real value of one emitted unit inside the network.
    """

    emits: ClassVar[Signal] = "spikes"
    array_dtypes: ClassVar[dict[str, type]] = {"offset": np.int64}

    step: float
    low: int
    high: int
    offset: Int64
    scale: float

    def encode(self, images: Any) -> Encoded:
        """What the input emits for raw images.

        Args:
            images: raw images as `images.levels_of` takes them, NumPy or torch, a batch or one; or Encoded, which is
                checked and handed back.

        Raises:
            InputError: a wrong shape or channel order, NaN, values outside the grid, images that seem normalised.
        """
        if isinstance(images, Encoded):
            return self._checked(images)
        where = f"input '{self.name}'"
        level = levels_of(images, shape=self.shape, step=self.step, low=self.low, high=self.high, name=where)
        return Encoded(level - per_channel(self.offset, len(self.shape)))

    def _checked(self, encoded: Encoded) -> Encoded:
        if encoded.shape[1:] != self.shape:
            raise InputError(f"encoded images have shape {encoded.shape}, input '{self.name}' is {self.shape}")
        return encoded


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Population(Node):
    """Integrate-and-fire neurons with soft reset; reads one or several synapses, whose synaptic inputs add.

    threshold (>= 1), bias, initial: int64 [C], in synaptic input units; bias is the total over the whole run, initial
    the potential at the start (threshold // 2 rounds half up). floor <= 0 <= ceiling: bounds of the net count.
    min_spike <= 0 < max_spike: bounds of one spike (`graph.neurons`). scale: real activation of one count. input_scale:
    float64 [C], real pre-activation of one unit of synaptic input.
    """

    emits: ClassVar[Signal] = "spikes"
    reads: ClassVar[Signal] = "synaptic input"
    array_dtypes: ClassVar[dict[str, type]] = {
        "threshold": np.int64,
        "bias": np.int64,
        "initial": np.int64,
        "input_scale": np.float64,
    }

    threshold: Int64
    bias: Int64
    initial: Int64
    input_scale: npt.NDArray[np.float64]
    ceiling: int
    floor: int = 0
    min_spike: int = -1
    max_spike: int = 1
    scale: float

    @property
    def neurons(self) -> str:
        """Name of the spike bounds: unary, graded, unsigned, burst4, or the bounds."""
        return preset_name(self.floor, self.ceiling, self.min_spike, self.max_spike)

    @property
    def payload(self) -> int:
        """Greatest magnitude of one spike."""
        return min(max(-self.min_spike, self.max_spike), self.ceiling - self.floor)

    @property
    def settles(self) -> bool:
        """Whether every run ends with the integer network's counts: a neuron can take back what it sent."""
        return self.min_spike < 0

    def emit(self, potential: Int64, count: Int64) -> Int64:
        """Spikes of one step, int64 [..., *shape], from potential and count of that shape."""
        threshold = per_channel(self.threshold, len(self.shape))
        bounds = self.floor, self.ceiling, self.min_spike, self.max_spike
        return emit(potential, count, threshold, *bounds)


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class MaxPool2d(Node):
    """Event-based max pool: keeps the net counts of its inputs and emits every change of their maximum.

    Positions outside the map never win. Source: QFFS (10.3389/fnins.2022.918793) Algorithm 2.
    """

    emits: ClassVar[Signal] = "spikes"
    reads: ClassVar[Signal] = "spikes"

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    ceil_mode: bool = False
    delay: int = 1

    def output_shape(self, source: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the pooled map; PyTorch's rule, ceil_mode included."""
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


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Flatten(Node):
    """(C, H, W) -> (C * H * W,) in that order. Routing only: no delay, no state."""

    emits: ClassVar[Signal] = "spikes"
    reads: ClassVar[Signal] = "spikes"


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Concat(Node):
    """Spike sources side by side on the channel axis. delays: extra steps for each input, to align their waves."""

    emits: ClassVar[Signal] = "spikes"
    reads: ClassVar[Signal] = "spikes"

    delays: tuple[int, ...]


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Readout(Node):
    """Non-spiking accumulator: its potential, the sum of all synaptic input plus bias, is the answer.

    bias: int64 [C]. scale: float64 [C], real value of one unit, so logits = potential * scale.
    """

    reads: ClassVar[Signal] = "synaptic input"
    array_dtypes: ClassVar[dict[str, type]] = {"bias": np.int64, "scale": np.float64}

    bias: Int64
    scale: npt.NDArray[np.float64]
