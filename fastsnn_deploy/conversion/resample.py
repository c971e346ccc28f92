"""Averages whose borders count less, and bilinear upsampling: one regular kernel, and what differs from it.

Along one axis such a layer is a matrix of fractions. Times their common denominator it is T + E: T a convolution (or a
transposed one), E what single outputs at the borders have more or less, each a place times a sum over a window. On
maps that makes T T + T E + E T + E E: the first is one synapse, every other one relay population, which sums the
window, and a synapse that puts the sum in its place. All weights are integers, so nothing is rounded here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import lcm

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.conversion import quant_graph as q
from fastsnn_deploy.conversion.context import Context
from fastsnn_deploy.conversion.expression import Arm, CannotLowerError, Expression, Value
from fastsnn_deploy.conversion.rules import lowers, per_part
from fastsnn_deploy.graph import Conv2d, ConvTranspose2d
from fastsnn_deploy.graph.synapses import zero_exponent

Int64 = npt.NDArray[np.int64]
DENOMINATOR = 4096
"""Largest denominator that a weight may have."""
LIMB = 64
"""Weights beyond 8 bits are split into digits of this base, a synapse each."""


@dataclass(frozen=True)
class _Axis:
    """whole = divisor * matrix, int64 [outputs, inputs]; taps int64 [k], with stride and padding, give T.

    edges: (window int64 [inputs] of zeros and ones, place int64 [outputs]) whose products sum to E.
    """

    divisor: int
    inputs: int
    outputs: int
    taps: Int64
    stride: int
    padding: int
    edges: tuple[tuple[Int64, Int64], ...]


def _axis(matrix: q.Float64, regular: q.Taps | None, up: bool) -> _Axis:
    fractions = [Fraction(float(x)).limit_denominator(DENOMINATOR) for x in np.unique(matrix)]
    divisor = lcm(*(fraction.denominator for fraction in fractions))
    whole = np.rint(matrix * divisor).astype(np.int64)
    if divisor > DENOMINATOR or np.abs(matrix * divisor - whole).max() > 1e-6:
        raise CannotLowerError("has weights without a common denominator", "Use sizes that divide")
    outputs, inputs = whole.shape
    if regular is None:
        return _Axis(divisor, inputs, outputs, np.zeros(0, np.int64), 1, 0, tuple(_edges(whole)))
    taps = np.rint(np.array(regular.taps) * divisor).astype(np.int64)
    padding = regular.padding
    if not up:  # windows beyond the end, of ceil_mode: taps of zero in front make room behind
        while (inputs + 2 * padding - len(taps)) // regular.stride + 1 < outputs:
            taps, padding = np.concatenate([[0], taps]), padding + 1
    rows, columns = (inputs, outputs) if up else (outputs, inputs)
    place = np.arange(columns) - np.arange(rows)[:, None] * regular.stride + padding
    inside = (place >= 0) & (place < len(taps))
    steady = np.where(inside, taps[place.clip(0, len(taps) - 1)], 0)
    rest = whole - (steady.T if up else steady)
    return _Axis(divisor, inputs, outputs, taps, regular.stride, padding, tuple(_edges(rest)))


def _edges(rest: Int64) -> Iterator[tuple[Int64, Int64]]:
    """Rows of `rest` as places of windows; rows with one window are one edge."""
    places: dict[bytes, Int64] = {}
    for row, values in enumerate(rest):
        if not values.any():
            continue
        weight = values[np.abs(values).argmax()]
        window = (values != 0).astype(np.int64)
        if (values != weight * window).any():
            raise CannotLowerError("has borders with weights of more than one kind", "Use sizes that divide")
        places.setdefault(window.tobytes(), np.zeros(len(rest), np.int64))[row] = weight
    for window_bytes, place in places.items():
        yield np.frombuffer(window_bytes, np.int64), place


@dataclass(frozen=True)
class _Kernel:
    """One kernel for every channel, int64 [kh, kw]."""

    weight: Int64
    stride: q.Pair = (1, 1)
    padding: q.Pair = (0, 0)

    def turned(self) -> _Kernel:
        """The same with rows and columns swapped."""
        return _Kernel(self.weight.T, self.stride[::-1], self.padding[::-1])


@lowers(q.Resampling)
@per_part
def _resampling(context: Context, node: q.Resampling, inputs: list[Value]) -> Value:
    """A synapse for all places alike; relays and synapses for the borders."""
    signal = context.signal(inputs[0], node)
    rows, columns = (_axis(m, r, node.up) for m, r in zip((node.rows, node.columns), node.regular, strict=True))
    unit = signal.scale / (rows.divisor * columns.divisor)
    arms: list[Arm] = []
    if len(rows.taps) and len(columns.taps):
        steady = _Kernel(
            np.outer(rows.taps, columns.taps), (rows.stride, columns.stride), (rows.padding, columns.padding)
        )
        arms += _arms(node, signal.source, ConvTranspose2d if node.up else Conv2d, steady, unit)
    for i, (window, place) in enumerate(_borders(rows, columns, node.up)):
        named = dataclasses.replace(node, name=f"{node.name}.border{i}")
        (arm,) = _arms(named, signal.source, Conv2d, window, signal.scale)
        shape = arm.synapse.output_shape(signal.shape)
        arm = Arm(dataclasses.replace(arm.synapse, shape=shape), arm.scale)
        relay = context.signal(Expression((arm,), np.zeros(shape[0]), shape), named)
        arms += _arms(named, relay.source, ConvTranspose2d, place, unit)
    return Expression(tuple(arms), np.zeros(node.shape[0]), node.shape)


def _borders(rows: _Axis, columns: _Axis, up: bool) -> Iterator[tuple[_Kernel, _Kernel]]:
    """(the convolution that sums a window, the transposed one that puts the sum in its place)."""
    yield from _sides(rows, columns, up)
    for window, place in _sides(columns, rows, up):
        yield window.turned(), place.turned()
    for (window_rows, place_rows), (window_columns, place_columns) in product(rows.edges, columns.edges):
        yield _Kernel(np.outer(window_rows, window_columns)), _Kernel(np.outer(place_rows, place_columns))


def _sides(edged: _Axis, steady: _Axis, up: bool) -> Iterator[tuple[_Kernel, _Kernel]]:
    """Edges of one axis, with what lies between the edges of the other."""
    if not len(steady.taps):
        return
    stride, padding = (1, steady.stride), (0, steady.padding)
    for window, place in edged.edges:
        if up:
            yield _Kernel(window[:, None]), _Kernel(np.outer(place, steady.taps), stride, padding)
        else:  # the taps of an average are all alike
            yield (
                _Kernel(np.outer(window, steady.taps > 0).astype(np.int64), stride, padding),
                _Kernel(place[:, None] * steady.taps.max()),
            )


def _arms(
    node: q.QuantNode, source: str, kind: type[Conv2d] | type[ConvTranspose2d], kernel: _Kernel, unit: float
) -> list[Arm]:
    """unit * kernel on every channel of `source`; weights beyond 8 bits become several arms."""
    channels, left, factor = node.shape[0], kernel.weight, 1
    arms: list[Arm] = []
    while left.any() or not arms:
        digits = left if np.abs(left).max() <= 127 else left % LIMB
        weight = np.broadcast_to(digits.astype(np.int8), (channels, 1, *digits.shape))
        synapse = kind(
            name=node.name if not arms else f"{node.name}.limb{len(arms)}", inputs=(source,), shape=node.shape,
            module=node.module, weight=weight, exponent=zero_exponent(channels), stride=kernel.stride,
            padding=kernel.padding, groups=channels,
        )  # fmt: skip
        arms.append(Arm(synapse, np.full(channels, unit * factor)))
        left, factor = (left - digits) // LIMB, factor * LIMB
    return arms
