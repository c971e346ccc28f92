"""Integrate-and-fire neurons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph.arithmetic import Int64, per_channel, quantise
from fastsnn_deploy.graph.neurons import emit, preset_name
from fastsnn_deploy.graph.node import Node, Signal, positive, register, same_shape
from fastsnn_deploy.graph.ranges import Range, entered, input_range


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Population(Node):
    """Integrate-and-fire neurons with soft reset; reads one or several synapses, whose synaptic inputs add.

    threshold (>= 1), bias, initial: int64 [C], in units of synaptic input; bias is the total of a whole run, initial
    the potential at the start (threshold // 2 rounds half up). floor <= 0 <= ceiling: bounds of the net count.
    min_spike <= 0 < max_spike: bounds of one spike (`graph.neurons`). scale: real activation of one count. input_scale:
    float64 [C], real pre-activation of one unit of synaptic input.
    """

    emits: ClassVar[Signal] = "spikes"
    reads: ClassVar[Signal] = "synaptic input"
    layer: ClassVar[bool] = True
    spiking: ClassVar[bool] = True
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
    def busy_steps(self) -> int:
        """Steps that a neuron needs to send its whole range of counts."""
        return -(-(self.ceiling - self.floor) // self.payload)

    @property
    def settles(self) -> bool:
        """Whether every run ends with the integer network's counts: a neuron can take back what it sent."""
        return self.min_spike < 0

    def emit(self, potential: Int64, count: Int64) -> Int64:
        """Spikes of one step, int64 [..., *shape], from potential and count of that shape."""
        threshold = per_channel(self.threshold, len(self.shape))
        bounds = self.floor, self.ceiling, self.min_spike, self.max_spike
        return emit(potential, count, threshold, *bounds)

    def output_shape(self, *sources: tuple[int, ...]) -> tuple[int, ...]:
        return same_shape(sources)

    def value(self, *inputs: Int64) -> Int64:
        bias, threshold, initial = (
            per_channel(each, len(self.shape)) for each in (self.bias, self.threshold, self.initial)
        )
        return quantise(np.sum(inputs, axis=0, dtype=np.int64) + bias, threshold, initial, self.floor, self.ceiling)

    def range(self, sources: list[Range], gain: Fraction) -> Range:
        ones = np.ones(self.channels, dtype=np.int64)
        return Range(ones * self.floor, ones * self.ceiling)

    def potential_range(self, sources: list[Range], gain: Fraction) -> Range:
        """Initial + synaptic input - threshold * count, with the count anywhere in its bounds.

        A count moves towards what has arrived, in thresholds, so that it never lies beyond all that can arrive.
        """
        arriving = input_range(sources, entered(self.bias, gain))
        low, high = arriving.low + np.minimum(self.initial, 0), arriving.high + np.maximum(self.initial, 0)
        least, most = np.clip(low // self.threshold, self.floor, 0), np.clip(high // self.threshold, 0, self.ceiling)
        return Range(low - self.threshold * most, high - self.threshold * least)

    def problems(self, sources: list[Node]) -> Iterator[str]:
        if self.threshold.size and self.threshold.min() < 1:
            channel = int(self.threshold.argmin())
            yield f"threshold {self.threshold[channel]} of channel {channel} is not positive"
        if not (self.floor <= 0 <= self.ceiling and self.floor < self.ceiling):
            yield f"count bounds [{self.floor}, {self.ceiling}] must hold 0 and differ"
        if not self.min_spike <= 0 < self.max_spike:
            yield f"spike bounds [{self.min_spike}, {self.max_spike}] must hold 0 and 1"
        if not (np.isfinite(self.scale) and self.scale > 0 and positive(self.input_scale)):
            yield "scales must be positive and finite"
