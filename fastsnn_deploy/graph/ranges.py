"""Static range analysis: how large synaptic input and potential can become, in any code, at any time, for any image.

Net counts stay in [floor, ceiling] at all times, so synaptic input received so far always lies between the sums of the
negative and of the positive contributions. Both are bounds for every partial sum as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph.node import Node
from fastsnn_deploy.graph.nodes import Concat, Flatten, Input, MaxPool2d, Population, Readout
from fastsnn_deploy.graph.synapses import Synapse

STATE_BITS = 24
"""Width of potential and accumulator: Loihi's signed state; stock Lava's Conv wraps there (conv/utils.py:67)."""

STATE_MAX = 2 ** (STATE_BITS - 1) - 1


@dataclass(frozen=True)
class Range:
    """Least and greatest value of each channel, int64 [C]."""

    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]

    @property
    def magnitude(self) -> int:
        """Greatest absolute value over all channels."""
        return int(max(-self.low.min(initial=0), self.high.max(initial=0)))


def ranges(nodes: tuple[Node, ...], gain: Fraction = Fraction(1)) -> Mapping[str, Range]:
    """Range of what each node emits in total (net counts, or synaptic input); `nodes` in topological order.

    gain: what enters in all as a share of image and bias (`Schedule.gain`).

    For populations and readouts the range of their *potential* is under the key `name + ".potential"`.
    """
    found: dict[str, Range] = {}
    for node in nodes:
        extend_ranges(found, node, gain)
    return found


def extend_ranges(found: dict[str, Range], node: Node, gain: Fraction = Fraction(1)) -> None:
    """Add the ranges of one node whose inputs are in `found` already."""
    sources = [found[name] for name in node.inputs]
    if isinstance(node, Input):
        low, high = (_entered(value - node.offset, gain) for value in (node.low, node.high))
        found[node.name] = Range(np.minimum(low, 0), np.maximum(high, 0))
    elif isinstance(node, Synapse):
        found[node.name] = Range(*node.input_bounds(sources[0].low, sources[0].high))
    elif isinstance(node, Population):
        found[node.name + ".potential"] = _potential_range(node, sources, gain)
        ones = np.ones(node.channels, dtype=np.int64)
        found[node.name] = Range(ones * node.floor, ones * node.ceiling)
    elif isinstance(node, Readout):
        found[node.name] = found[node.name + ".potential"] = _input_range(sources, _entered(node.bias, gain))
    elif isinstance(node, MaxPool2d):
        found[node.name] = sources[0]
    elif isinstance(node, Flatten):
        positions = node.channels // len(sources[0].low)
        found[node.name] = Range(sources[0].low.repeat(positions), sources[0].high.repeat(positions))
    elif isinstance(node, Concat):
        low = np.concatenate([source.low for source in sources])
        found[node.name] = Range(low, np.concatenate([source.high for source in sources]))


def _input_range(sources: list[Range], bias: npt.NDArray[np.int64]) -> Range:
    low = sum((s.low for s in sources), np.zeros_like(bias)) + np.minimum(bias, 0)
    high = sum((s.high for s in sources), np.zeros_like(bias)) + np.maximum(bias, 0)
    return Range(low, high)


def _entered(total: npt.NDArray[np.int64], gain: Fraction) -> npt.NDArray[np.int64]:
    return total * gain.numerator // gain.denominator


def _potential_range(node: Population, sources: list[Range], gain: Fraction) -> Range:
    """Potential = initial + synaptic input - threshold * count, with the count anywhere in its bounds."""
    synaptic_input = _input_range(sources, _entered(node.bias, gain))
    return Range(
        synaptic_input.low + np.minimum(node.initial, 0) - node.threshold * node.ceiling,
        synaptic_input.high + np.maximum(node.initial, 0) - node.threshold * node.floor,
    )
