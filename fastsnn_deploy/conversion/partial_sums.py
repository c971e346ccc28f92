"""Layers too wide for one potential: their weights keep every bit, and their sum is made in two stages.

A sum of thousands of products can need 28 bits where a potential has 24. Neurons for parts of the sum then send what
they have received, in units of many, in graded spikes, and the layer adds them up. What is rounded is a part of the
sum, by half a unit, which is far finer than the step of an activation; the trained integers are not touched. From here
on the parts are populations of the integer network like any other.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from fastsnn_deploy.conversion.expression import Arm, Float64
from fastsnn_deploy.conversion.quant_graph import QuantNode
from fastsnn_deploy.graph import Identity, Population, Synapse
from fastsnn_deploy.graph.arithmetic import Int64
from fastsnn_deploy.graph.neurons import spike_bounds
from fastsnn_deploy.graph.ranges import Range
from fastsnn_deploy.graph.synapses import zero_exponent

SUFFIX = ".sum"
"""What names of partial sums end with, before their number."""

CANDIDATES, OCTAVES, MOST_OCTAVE = 64, 16, 22
"""Units that are tried: so many in each octave, of so many octaves, none beyond the last, which fits a potential."""

TYPICAL = 1 / 32
"""What a sum of many products is, against the most that it can be."""

MOST_PARTS = 32
"""More would make a file many times as large as the network: such a layer is refused, or loses bits if allowed."""


def units_of_parts(scale: Float64, unit: Float64, reach: int, reference: bool) -> Int64:
    """What one spike of an arm's partial sums stands for, in the arm's integers: int64 [C].

    The sum adds such a spike as what it stands for times scale / unit, as an integer. A large one makes parts round
    more; with a small one this integer is far from the ratio of the two scales. Of CANDIDATES in each of OCTAVES those
    are taken that are least off, in units of the sum. All channels take theirs from one octave, for their counts have
    the same bounds.

    Args:
        scale: Real value of one of the arm's integers, float64 [C].
        unit: Real value of one of the sum's integers, or a power of two as much, float64 [C].
        reach: Largest magnitude of the arm's integers.
        reference: Whether the unit is the arm's scale times a power of two, so that it is exact in any case.
    """
    ratio = np.where(scale != 0, np.abs(scale) / unit, 1.0)
    if reference:
        return np.asarray(np.maximum(np.rint(1 / ratio), 1), dtype=np.int64)
    first = int(np.clip(np.floor(np.log2(1 / ratio.max())), 0, MOST_OCTAVE - 1))
    found: list[tuple[float, Int64]] = []
    for octave in range(first, min(first + OCTAVES, MOST_OCTAVE)):
        units = np.unique(np.linspace(2**octave, 2 ** (octave + 1), CANDIDATES).astype(np.int64))[:, None]
        weights = units * ratio
        off = np.hypot(weights, (np.rint(weights) / weights - 1) * ratio * reach * TYPICAL)
        found.append((float(off.min(0).mean()), units[off.argmin(0), 0]))
    return min(found, key=lambda each: each[0])[1]


def in_parts(
    arm: Arm, source: Range, node: QuantNode, state_max: int, unit: Int64
) -> list[tuple[Synapse, Population, Arm]] | None:
    """A trained arm as partial sums: for each its synapse, its population, and the arm that reads it.

    Args:
        arm: Of an expression that one potential cannot hold.
        source: Range of the integers that the arm reads.
        node: What the arm belongs to, for names.
        state_max: Greatest potential.
        unit: What one spike stands for, int64 [C]; see `units_of_parts`.

    Returns:
        None if even a single weight leaves no room.
    """
    room = state_max // 4  # a potential can be as far from its count's share as the sum itself
    pieces = _pieces(arm.synapse, source, room)
    if pieces is None:
        return None
    return [_part(arm, piece, source, f"{node.name}{SUFFIX}{i}", node, unit) for i, piece in enumerate(pieces)]


def reach(synapse: Synapse, source: Range) -> int:
    """The greatest sum that a synapse can make, either sign."""
    low, high = synapse.input_bounds(source.low, source.high)
    return int(max(high.max(), -low.min()))


def _pieces(synapse: Synapse, source: Range, room: int) -> list[Synapse] | None:
    """The synapse cut into several, each with some of the weights of every output channel and zeros elsewhere."""
    columns = synapse.weight.reshape(synapse.channels, -1)
    count = -(-reach(synapse, source) // room)
    while count <= min(columns.shape[1], MOST_PARTS):
        pieces = []
        for chosen in np.array_split(np.arange(columns.shape[1]), count):
            weight = np.zeros_like(columns)
            weight[:, chosen] = columns[:, chosen]
            pieces.append(dataclasses.replace(synapse, weight=weight.reshape(synapse.weight.shape)))
        bounds = [piece.input_bounds(source.low, source.high) for piece in pieces]
        if max(max(int(high.max()), -int(low.min())) for low, high in bounds) <= room:
            return pieces
        count *= 2
    return None


def _part(
    arm: Arm, piece: Synapse, source: Range, name: str, node: QuantNode, unit: Int64
) -> tuple[Synapse, Population, Arm]:
    low, high = piece.input_bounds(source.low, source.high)
    half = unit // 2
    floor, ceiling = min(int(((low + half) // unit).min()), 0), max(int(((high + half) // unit).max()), 1)
    least, most = spike_bounds("graded", floor, ceiling)
    scale = np.where(arm.scale != 0, np.abs(arm.scale), 1.0)
    synapse = dataclasses.replace(piece, name=f"{name}.synapse")
    population = Population(
        name=name, inputs=(synapse.name,), shape=piece.shape, module=piece.module, threshold=unit, bias=unit * 0,
        initial=half, input_scale=scale, floor=floor, ceiling=ceiling, min_spike=least, max_spike=most,
        scale=float((scale * unit).max()),
    )  # fmt: skip
    reader = Identity(
        name=f"{name}.from", inputs=(name,), shape=piece.shape, module=node.module,
        weight=np.ones(piece.channels, dtype=np.int8), exponent=zero_exponent(piece.channels),
    )  # fmt: skip
    return synapse, population, Arm(reader, arm.scale * unit)
