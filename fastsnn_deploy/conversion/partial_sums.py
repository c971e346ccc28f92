"""Layers too wide for one potential: their weights keep every bit, and their sum is made in two stages.

A sum of thousands of products can need 28 bits where a potential has 24. Neurons for parts of the sum then send what
they have received, in units of many, in graded spikes, and the layer adds them up. What is rounded is a part of the
sum, by half a unit, which is far finer than the step of an activation; the trained integers are not touched. From here
on the parts are populations of the integer network like any other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from fastsnn_deploy.conversion.expression import Arm
from fastsnn_deploy.conversion.quant_graph import QuantNode
from fastsnn_deploy.graph import Identity, Population, Synapse
from fastsnn_deploy.graph.arithmetic import Int64, round_half_up
from fastsnn_deploy.graph.neurons import spike_bounds
from fastsnn_deploy.graph.ranges import Range
from fastsnn_deploy.graph.synapses import zero_exponent

SUFFIX = ".sum"
"""What names of partial sums end with, before their number."""

MOST_PARTS = 32
"""More would make a file many times as large as the network: such a layer is refused, or loses bits if allowed."""


def units_of_parts(arms: Sequence[Arm], sources: Sequence[Range], state_max: int) -> list[Int64]:
    """What one spike of each arm's partial sums stands for, in the arm's integers: int64 [C] for each arm.

    Arms whose scales differ by powers of two keep as many bits as their sum can hold. Others, of a concatenation whose
    branches have steps of their own, get units that are worth the same: a ratio in the weights of the sum would need
    the bits that a potential does not have. Such a unit is off by 1 / (2 * unit), and rounds a part by half of itself.
    """
    if not arms:
        return []
    reaches = [reach(arm.synapse, source) for arm, source in zip(arms, sources, strict=True)]
    shifts = [max(0, (8 * each // state_max).bit_length()) for each in reaches]
    finest = [np.full(len(arm.scale), 1 << shift, dtype=np.int64) for arm, shift in zip(arms, shifts, strict=True)]
    scales = [np.abs(arm.scale) for arm in arms]
    largest = np.max(scales, axis=0)
    ratios = [np.where(scale > 0, scale / np.where(largest > 0, largest, 1.0), 1.0) for scale in scales]
    if all((np.frexp(ratio)[0] == 0.5).all() for ratio in ratios):
        return finest
    bits = [max(shift, each.bit_length() // 2) for shift, each in zip(shifts, reaches, strict=True)]
    common = np.max([scale * 2.0**bit for scale, bit in zip(scales, bits, strict=True)], axis=0)
    wanted = [np.minimum(common / np.where(scale > 0, scale, np.inf), state_max // 2) for scale in scales]
    return [np.maximum(least, round_half_up(unit)) for least, unit in zip(finest, wanted, strict=True)]


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
