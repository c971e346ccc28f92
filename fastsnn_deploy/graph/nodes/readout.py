"""Where answers are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph.arithmetic import Int64, per_channel
from fastsnn_deploy.graph.node import Node, Signal, positive, register, same_shape
from fastsnn_deploy.graph.ranges import Range, entered, input_range


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Readout(Node):
    """Non-spiking accumulator: its potential, the sum of all synaptic input plus bias, is the answer.

    bias: int64 [C]. scale: float64 [C], real value of one unit, so logits = potential * scale.
    """

    reads: ClassVar[Signal] = "synaptic input"
    layer: ClassVar[bool] = True
    array_dtypes: ClassVar[dict[str, type]] = {"bias": np.int64, "scale": np.float64}

    bias: Int64
    scale: npt.NDArray[np.float64]

    def output_shape(self, *sources: tuple[int, ...]) -> tuple[int, ...]:
        return same_shape(sources)

    def value(self, *inputs: Int64) -> Int64:
        return np.asarray(np.sum(inputs, axis=0, dtype=np.int64) + per_channel(self.bias, len(self.shape)))

    def range(self, sources: list[Range], gain: Fraction) -> Range:
        return input_range(sources, entered(self.bias, gain))

    def potential_range(self, sources: list[Range], gain: Fraction) -> Range:
        """Its potential is what it has received."""
        return self.range(sources, gain)

    def problems(self, sources: list[Node]) -> Iterator[str]:
        if not positive(self.scale):
            yield "scales must be positive and finite"
