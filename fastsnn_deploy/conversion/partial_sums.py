"""Layers too wide for one potential: their weights keep every bit, and their sum is made in two stages.

A sum of thousands of products can need 28 bits where a potential has 24. Neurons for parts of the sum then send what
they have received, in units of 2**k, in graded spikes, and the layer adds them up. What is rounded is a part of the
sum, by half a unit, which is far finer than the step of an activation; the trained integers are not touched. From here
on the parts are populations of the integer network like any other.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from fastsnn_deploy.conversion.expression import Arm
from fastsnn_deploy.conversion.quant_graph import QuantNode
from fastsnn_deploy.graph import Identity, Population, Synapse
from fastsnn_deploy.graph.neurons import spike_bounds
from fastsnn_deploy.graph.ranges import Range
from fastsnn_deploy.graph.synapses import zero_exponent

SUFFIX = ".sum"
"""What names of partial sums end with, before their number."""

MOST_PARTS = 32
"""More would make a file many times as large as the network: such a layer is refused, or loses bits if allowed."""


def in_parts(arm: Arm, source: Range, node: QuantNode, state_max: int) -> list[tuple[Synapse, Population, Arm]] | None:
    """A trained arm as partial sums: for each its synapse, its population, and the arm that reads it.

    Args:
        arm: Of an expression that one potential cannot hold.
        source: Range of the integers that the arm reads.
        node: What the arm belongs to, for names.
        state_max: Greatest potential.

    Returns:
        None if even a single weight leaves no room.
    """
    low, high = arm.synapse.input_bounds(source.low, source.high)
    reach = int(max(high.max(), -low.min()))
    room = state_max // 4  # a potential can be as far from its count's share as the sum itself
    shift = max(0, (8 * reach // state_max).bit_length())
    pieces = _pieces(arm.synapse, source, reach, room)
    if pieces is None:
        return None
    return [_part(arm, piece, source, f"{node.name}{SUFFIX}{i}", node, shift) for i, piece in enumerate(pieces)]


def _pieces(synapse: Synapse, source: Range, reach: int, room: int) -> list[Synapse] | None:
    """The synapse cut into several, each with some of the weights of every output channel and zeros elsewhere."""
    columns = synapse.weight.reshape(synapse.channels, -1)
    count = -(-reach // room)
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
    arm: Arm, piece: Synapse, source: Range, name: str, node: QuantNode, shift: int
) -> tuple[Synapse, Population, Arm]:
    low, high = piece.input_bounds(source.low, source.high)
    half = 2**shift // 2
    floor, ceiling = min(int(low.min() + half) >> shift, 0), max(int(high.max() + half) >> shift, 1)
    least, most = spike_bounds("graded", floor, ceiling)
    ones = np.ones(piece.channels, dtype=np.int64)
    unit = np.where(arm.scale != 0, np.abs(arm.scale), 1.0)
    synapse = dataclasses.replace(piece, name=f"{name}.synapse")
    population = Population(
        name=name, inputs=(synapse.name,), shape=piece.shape, module=piece.module, threshold=ones << shift,
        bias=ones * 0, initial=ones * half, input_scale=unit, floor=floor, ceiling=ceiling, min_spike=least,
        max_spike=most, scale=float(unit.max()) * 2**shift,
    )  # fmt: skip
    reader = Identity(
        name=f"{name}.from", inputs=(name,), shape=piece.shape, module=node.module,
        weight=np.ones(piece.channels, dtype=np.int8), exponent=zero_exponent(piece.channels),
    )  # fmt: skip
    return synapse, population, Arm(reader, arm.scale * 2.0**shift)
