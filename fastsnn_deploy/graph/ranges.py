"""Static range analysis: how large synaptic input and potential can become, at any time, for any image.

Net counts stay in [floor, ceiling] at all times, so what has been received so far always lies between the sums of the
negative and of the positive contributions. Both are bounds for every partial sum as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from fastsnn_deploy.graph.arithmetic import Int64

if TYPE_CHECKING:
    from fastsnn_deploy.graph.node import Node

STATE_BITS = 24
"""Width of potential and accumulator: Loihi's signed state; stock Lava's Conv wraps there (conv/utils.py:67)."""

STATE_MAX = 2 ** (STATE_BITS - 1) - 1


@dataclass(frozen=True)
class Range:
    """Least and greatest value of each channel, int64 [C]."""

    low: Int64
    high: Int64

    @property
    def magnitude(self) -> int:
        """Greatest absolute value over all channels."""
        return int(max(-self.low.min(initial=0), self.high.max(initial=0)))

    @property
    def bits(self) -> int:
        """Bits that hold every value, sign included."""
        return self.magnitude.bit_length() + 1


def ranges(nodes: tuple[Node, ...], gain: Fraction = Fraction(1), repeats: int = 1) -> Mapping[str, Range]:
    """Range of what each node emits in total (net counts, or synaptic input); `nodes` in topological order.

    gain: what enters in all as a share of image and bias (`Schedule.gain`). repeats: of the image
    (`Schedule.repeats`).
    For populations and readouts the range of their *potential* is under the key `name + ".potential"`.
    """
    found: dict[str, Range] = {}
    for node in nodes:
        extend_ranges(found, node, gain if node.inputs else gain * repeats)
    return found


def extend_ranges(found: dict[str, Range], node: Node, gain: Fraction = Fraction(1)) -> None:
    """Add the ranges of one node whose inputs are in `found` already."""
    sources = [found[name] for name in node.inputs]
    potential = node.potential_range(sources, gain)
    if potential is not None:
        found[node.name + ".potential"] = potential
    found[node.name] = node.range(sources, gain)


def entered(total: Int64, gain: Fraction) -> Int64:
    """What has entered of a total at the end of a schedule with this gain."""
    return total * gain.numerator // gain.denominator


def input_range(sources: list[Range], bias: Int64) -> Range:
    """Range of the sum of synaptic inputs and a bias."""
    low = sum((s.low for s in sources), np.zeros_like(bias)) + np.minimum(bias, 0)
    high = sum((s.high for s in sources), np.zeros_like(bias)) + np.maximum(bias, 0)
    return Range(low, high)
