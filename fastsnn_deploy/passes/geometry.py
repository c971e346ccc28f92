"""Where parts lie on a grid: strides of stages, and which part and tap give a wanted offset of a source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

from fastsnn_deploy.graph import Node, SpikingGraph
from fastsnn_deploy.passes.routes import Routes, reading_stride

Pair = tuple[int, int]


@dataclass(frozen=True)
class Step:
    """Geometry of one convolution stage: its stride, and the size of the grid after it."""

    stride: Pair
    size: Pair


@dataclass(frozen=True)
class Fit:
    """How a unit can be computed: units of stage stride and of its own stride on the new grid, for each axis.

    A stage that strides by m * step puts the unit on the grid with stride m * own.
    """

    step: Pair
    own: Pair


def fit(routes: Routes, unit: Node, strides: Mapping[str, Pair]) -> Fit | None:
    """The smallest strides with which every reader of a unit reads fixed offsets, or None if there are none."""
    step, own = [0, 0], [0, 0]
    for axis in (0, 1):
        ratios = {
            reading_stride(reader, axis) / strides[source][axis]
            for reader in routes.readers(unit)
            for source in routes.pieces(reader.inputs[0])
        }
        if len(ratios) != 1:
            return None
        ratio: Fraction = ratios.pop()
        step[axis], own[axis] = ratio.numerator, ratio.denominator
    return Fit((step[0], step[1]), (own[0], own[1]))


def group(
    routes: Routes, ready: list[Node], strides: Mapping[str, Pair]
) -> tuple[list[Node], Step, dict[str, Pair]] | None:
    """The first ready unit that one convolution can compute, with all others that fit beside it in the same stage.

    Returns the units, the geometry and each unit's stride on the new grid; None if no unit fits.
    """
    fits = {unit.name: found for unit in ready if (found := fit(routes, unit, strides))}
    for seed in ready:
        if seed.name not in fits or (step := _step(seed, fits[seed.name], fits[seed.name].step)) is None:
            continue
        units = [unit for unit in ready if unit.name in fits and _step(unit, fits[unit.name], step.stride) == step]
        own = {unit.name: _own(fits[unit.name], step.stride) for unit in units}
        return units, step, {name: pair for name, pair in own.items() if pair}
    return None


def _own(found: Fit, stride: Pair) -> Pair | None:
    """A unit's stride on the new grid if the stage has this stride."""
    if any(stride[i] % found.step[i] for i in (0, 1)):
        return None
    rows, columns = (found.own[i] * (stride[i] // found.step[i]) for i in (0, 1))
    return rows, columns


def _step(unit: Node, found: Fit, stride: Pair) -> Step | None:
    own = _own(found, stride)
    # a phase that the map's size cuts off would fire outside the map, where everything reads zero
    if own is None or any(unit.shape[1 + i] % own[i] for i in (0, 1)):
        return None
    return Step(stride, (unit.shape[1] // own[0], unit.shape[2] // own[1]))


@lru_cache(maxsize=65536)
def pick(offset: int, own: int, source: int, grid: int, stride: int, outputs: int) -> tuple[int, int] | None:
    """Offset of the part and tap with which output y reads source position y * stride * own + offset, on one axis.

    `own` is the source's stride on the grid of `grid` positions, `source` its size, `outputs` the
    positions of the stage's output. A tap must not leave the grid where the source has a position. None if
    nothing fits.
    """
    positions = np.arange(outputs) * stride
    held = (positions * own + offset >= 0) & (positions * own + offset < source)
    for tap in _candidates(offset // own, grid, outputs * stride):
        read = positions + tap
        if not (held & ((read < 0) | (read >= grid))).any():
            return offset - tap * own, tap
    return None


def _candidates(first: int, grid: int, reach: int) -> Iterator[int]:
    """Taps to try: the one that reads a part of the source's own phases, then its neighbours."""
    yield first
    for distance in range(1, grid + reach + 1):
        yield first - distance
        yield first + distance


def covering(own: Pair, source: Pair, grid: Pair) -> list[Pair]:
    """Offsets of the parts that together hold every position of a source."""

    def axis(i: int) -> list[int]:
        return [o for r in range(own[i]) for o in range(r, source[i], own[i] * grid[i])]

    return [(y, x) for y in axis(0) for x in axis(1)]


def phases(own: Pair) -> list[Pair]:
    """Offsets of the parts that a unit with this stride is computed in."""
    return [(y, x) for y in range(own[0]) for x in range(own[1])]


def map_size(graph: SpikingGraph, name: str) -> Pair:
    """Height and width of a feature map."""
    return graph[name].shape[1], graph[name].shape[2]
