"""The trial of a plan: every population and readout once through the very loops of a run, fused, in tiles, cut into
blocks and after Winograd, against the same spikes followed one by one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import Node, Population, Readout, SpikingGraph
from fastsnn_deploy.simulators.cpu import population as neurons
from fastsnn_deploy.simulators.cpu.plan import Plan
from fastsnn_deploy.simulators.cpu.series import Series
from fastsnn_deploy.simulators.cpu.tile import ADVANCES, Tile

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

IMAGES = 3
"""Images of a trial: of a few steps each, they fill more than one block of rows."""

SENDING = 1
"""Spikes of an image at each position, on average: to follow all of them takes no longer than the loops tried."""

PRODUCTS, FOLLOWED = 0.0, np.inf
"""Share of neurons beyond which a product takes a step: at any spike, and never."""


def tried(graph: SpikingGraph, private: bool, budget: int) -> Plan:
    """A plan of which every node has run on a few images of fresh random spikes; those whose integers were not those of
    followed spikes are slower (see `Plan.rejected`).

    private: as of `Plan`. budget: bytes of synaptic input at a time, as in a run. Raises RuntimeError if no way is left
    for a node.
    """
    plan = Plan(graph, private)
    # never the same values: what is left unwritten may hold the right answer to the values of an earlier trial
    rng = np.random.default_rng()
    series: dict[str, Series] = {}
    for node in plan.graph.nodes:
        if isinstance(node, (Population, Readout)):
            while not (agrees := _agrees(plan, node, series, budget))[0]:
                plan.slow_down(node)
            found = agrees[1]
        else:
            found = _advanced(plan, node, series, budget)
        if found is not None:
            series[node.name] = _random(plan, node, found, rng)
    return plan


def _agrees(
    plan: Plan, node: Population | Readout, series: dict[str, Series], budget: int
) -> tuple[bool, Series | None]:
    """Whether a node does the same both ways, and the spikes of a population."""
    fast, followed = _tile(plan, series, budget), _tile(plan, series, budget)
    if isinstance(node, Readout):
        followed.density = FOLLOWED
        for tile in (fast, followed):
            tile._read(node)
        return np.array_equal(fast.potentials[node.name], followed.potentials[node.name]), None
    arrivals = fast.arrivals(node)
    found, state = neurons.rows_of(fast, node, arrivals)
    expected, right = neurons.rows_of(followed, node, arrivals, fused=False, density=FOLLOWED)
    pairs = [(getattr(found, key), getattr(expected, key)) for key in ("rows", "spikes")]
    pairs += [(getattr(state, key), getattr(right, key)) for key in ("potential", "count")]
    ours, theirs = fast.sums_of(node), followed.sums_of(node)
    pairs.append((ours.spikes, theirs.spikes))
    same = all(np.array_equal(*pair) for pair in pairs)
    return same and (ours.positive, ours.negative) == (theirs.positive, theirs.negative), found


def _tile(plan: Plan, series: dict[str, Series], budget: int) -> Tile:
    nothing = np.zeros((IMAGES, *plan.graph.input.shape), dtype=np.int64)
    tile = Tile(plan, nothing, None, (), PRODUCTS, budget)
    tile.series.update(series)
    return tile


def _advanced(plan: Plan, node: Node, series: dict[str, Series], budget: int) -> Series | None:
    """What an input, a pool or a routing node sends; None of synapses, which act with their population."""
    if type(node) not in ADVANCES:
        return None
    tile = _tile(plan, series, budget)
    ADVANCES[type(node)](tile, node)
    return tile.series[node.name]


def _random(plan: Plan, node: Node, like: Series, rng: np.random.Generator) -> Series:
    """Random spikes in the steps of `like`: each neuron sends once at most, so that counts stay in their range."""
    images, steps, size = like.rows.shape
    zero, (low, high) = like.zero, plan.bounds(node)
    share = SENDING * int(np.prod(node.shape[1:])) / size if steps else 0.0
    image, neuron = (at.astype(np.int32) for at in np.nonzero(rng.random((images, size), dtype=np.float32) < share))
    value = rng.integers(low[neuron], high[neuron]).astype(np.int32)
    value += value >= 0
    step = rng.integers(0, max(steps, 1), len(image))
    rows = np.full_like(like.rows, zero)
    rows[image, step, neuron] = (value + zero).astype(rows.dtype)
    return Series(like.start, rows, zero, np.count_nonzero(rows != zero, axis=2).astype(np.int32))
