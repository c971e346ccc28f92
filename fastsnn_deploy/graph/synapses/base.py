"""What a synapse is: a linear integer map from one spike source to one population or readout.

A new synapse type is one new file beside this one: subclass `Synapse`, implement its methods, decorate it with
`@register`, import it in `__init__.py`. Everything downstream (simulation, range analysis, profile, files) uses
only these methods. Backends have tables by type: what is not in one goes through `as_primitive`.
"""

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph.arithmetic import Int64, IntArray
from fastsnn_deploy.graph.node import Node, Signal
from fastsnn_deploy.graph.ranges import Range

MAX_EXPONENT = 13
"""Largest weight exponent: Loihi's weight_exp spans -7..7, 15 steps of which 0 is the smallest used here."""

Pair = tuple[int, int]
Bounds = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Synapse(Node):
    """Weights `weight * 2**exponent` between a spike source and a population.

    weight: int8, the mantissa. exponent: int64 [channels of the output], 0..13, one per output channel.
    delay: steps between a spike and its synaptic input, at least 1 (a spike of step t is synaptic input at t + delay).
    """

    emits: ClassVar[Signal] = "synaptic input"
    reads: ClassVar[Signal] = "spikes"
    arity: ClassVar[int | None] = 1
    array_dtypes: ClassVar[dict[str, type]] = {"weight": np.int8, "exponent": np.int64}

    weight: npt.NDArray[np.int8]
    exponent: npt.NDArray[np.int64]
    delay: int = 1

    @abstractmethod
    def apply(self, spikes: IntArray) -> npt.NDArray[np.int64]:
        """Synaptic input for spikes: int [N, *source shape] -> int64 [N, *self.shape]."""

    @property
    def edge_delays(self) -> tuple[int, ...]:
        return (self.delay,) * len(self.inputs)

    def value(self, *inputs: Int64) -> Int64:
        return self.apply(inputs[0])

    def range(self, sources: list[Range], gain: Fraction) -> Range:
        return Range(*self.input_bounds(sources[0].low, sources[0].high))

    def problems(self, sources: list[Node]) -> Iterator[str]:
        if self.exponent.size and not (self.exponent.min() >= 0 and self.exponent.max() <= MAX_EXPONENT):
            yield f"exponents span [{self.exponent.min()}, {self.exponent.max()}], outside [0, {MAX_EXPONENT}]"

    @abstractmethod
    def fan_out(self, source: tuple[int, ...]) -> npt.NDArray[np.int64]:
        """Synapses that leave each source neuron, borders counted exactly: int64 of shape `source`."""

    @abstractmethod
    def input_bounds(self, low: IntArray, high: IntArray) -> Bounds:
        """Least and greatest synaptic input of each output channel while counts stay in [low, high].

        low, high: int64 [source channels] with low <= 0 <= high. Returns two int64 [channels].
        """

    @abstractmethod
    def as_primitive(self) -> Synapse:
        """The same map as a Conv2d, Linear or ConvTranspose2d, the forms that every backend knows."""

    def padded_fan_in(self, source: tuple[int, ...]) -> int:
        """Values read for all outputs together from a source of this shape, positions outside the map included."""
        return self.size * int(np.prod(self.weight.shape[1:], dtype=np.int64))

    @property
    def multiplies(self) -> bool:
        """It has a weight for each connection; one weight a channel folds into the threshold."""
        return self.weight.ndim > 1

    @property
    def effective_weight(self) -> npt.NDArray[np.int64]:
        """weight * 2**exponent, int64, shaped like `weight` (first axis: output channels)."""
        shape = (-1,) + (1,) * (self.weight.ndim - 1)
        return self.weight.astype(np.int64) << self.exponent.reshape(shape)

    @property
    def parameters(self) -> int:
        """Number of stored weights."""
        return int(self.weight.size)


_SUMS: dict[int, tuple[weakref.ref[npt.NDArray[np.int8]], Bounds]] = {}
"""What `mantissa_sums` has found, by the identity of an array that nobody can change, for as long as it is there."""

BLOCK = 2**22
"""Weights that are taken at a time where they become larger numbers."""


def mantissa_sums(weight: npt.NDArray[np.int8]) -> Bounds:
    """Sums of the negative and of the positive mantissas of each output channel: two int64 [O].

    A graph is made anew many times with the weights that it has, and a network may have 100 million.
    """
    known = _SUMS.get(id(weight))
    if known is not None and known[0]() is weight:
        return known[1]
    flat = weight.reshape(len(weight), -1)
    kind = np.float32 if flat.shape[1] * 128 < 2**24 else np.float64  # sums are exact, and products fast
    ones: npt.NDArray[Any] = np.ones(flat.shape[1], kind)
    total, magnitude = [], []
    for rows in blocks(flat):
        part: npt.NDArray[Any] = flat[rows].astype(kind)
        total.append(part @ ones)
        magnitude.append(np.abs(part, out=part) @ ones)
    both = (np.concatenate([np.zeros(0, kind), *each]).astype(np.int64) for each in (total, magnitude))
    sums, sizes = both
    found = (sums - sizes) // 2, (sums + sizes) // 2
    if not weight.flags.writeable:
        number = id(weight)
        _SUMS[number] = weakref.ref(weight, lambda _: _SUMS.pop(number, None)), found
    return found


def blocks(weight: npt.NDArray[np.generic]) -> Iterator[slice]:
    """Slices of output channels of at most BLOCK weights each, or one channel."""
    step = max(1, BLOCK // max(1, weight[:1].size))
    return (slice(first, first + step) for first in range(0, len(weight), step))


def same_everywhere(*values: IntArray) -> bool:
    """Whether each of these has one value for all channels."""
    return all(bool((value == value[:1]).all()) for value in values)


def zero_exponent(channels: int) -> npt.NDArray[np.int64]:
    """An exponent of 0 for every channel."""
    return np.zeros(channels, dtype=np.int64)


def channel_bounds(weight: IntArray, low: IntArray, high: IntArray) -> Bounds:
    """Bounds for one weight per channel, source channel c to output channel c."""
    ends = np.stack([weight * low, weight * high])
    return ends.min(0), ends.max(0)


def axis_fan_out(size: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int) -> IntArray:
    """How many (output, tap) pairs touch each of `size` positions along one axis: int64 [size]."""
    hits = np.zeros(size, dtype=np.int64)
    for tap in range(kernel):
        positions = np.arange(outputs) * stride - padding + tap * dilation
        np.add.at(hits, positions[(positions >= 0) & (positions < size)], 1)
    return hits


def window_fan_out(
    source: tuple[int, ...], target: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Int64:
    """How many windows of a map hold each element of a source (C, H, W), borders counted exactly: int64 [C, H, W]."""
    rows, columns = (
        axis_fan_out(source[1 + i], target[1 + i], kernel[i], stride[i], padding[i], dilation[i]) for i in (0, 1)
    )
    return np.broadcast_to(np.outer(rows, columns), source).astype(np.int64)
