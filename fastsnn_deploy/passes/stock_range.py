"""Bring a graph's integers into the range of stock neurons; what is rounded here becomes the network's truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import GraphError, Problem
from fastsnn_deploy.graph import Node, Population, Readout, SpikingGraph, Synapse
from fastsnn_deploy.graph.arithmetic import round_half_up
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.graph.ranges import Range, ranges
from fastsnn_deploy.graph.synapses import MAX_EXPONENT
from fastsnn_deploy.lava_dl.limits import BIAS_MAX, BIAS_MIN, CURRENT_MAX, WEIGHT_MAX
from fastsnn_deploy.passes.levels import common_unit, cutoffs
from fastsnn_deploy.passes.routes import Routes

Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def to_stock_range(graph: SpikingGraph, *, replicas: int = 8) -> SpikingGraph:
    """The same graph with weights, thresholds and biases that a chain of stock LIF neurons can hold.

    A channel's weights are rounded to multiples of a power of two, just coarse enough that, in units of their common
    divisor, weights fit 8 bits (times `replicas`, how many copies of a neuron may share a weight), synaptic inputs
    fit 17 bits and all cutoffs of the population fit one window of 13-bit biases. Where a sum needs copies, its other
    weights are first rounded to the unit of the largest synapse: a finer shortcut would cost copies of every neuron
    it reads. Thresholds and biases of populations stay
    as they are: dividing them by the unit is exact for integers. Readouts are divided altogether, by one power of
    two that goes into their scale. A graph that fits is returned as it is. Raises GraphError with every channel
    that cannot be brought into range.
    """
    routes = Routes(graph)
    bounds = dict(ranges(graph.nodes))
    nodes: dict[str, Node] = dict(graph.by_name)
    problems: list[Problem] = []
    for unit in routes.units:
        if isinstance(unit, (Population, Readout)):
            try:
                changed = _Unit(routes, unit, bounds, replicas).fitted()
            except GraphError as error:
                problems += error.problems
            else:
                nodes.update({node.name: node for node in changed})
    if problems:
        raise GraphError("the network does not fit stock neurons", problems)
    after = tuple(nodes[node.name] for node in graph.nodes)
    return graph if after == graph.nodes else dataclasses.replace(graph, nodes=after)


def changed_counts(before: SpikingGraph, after: SpikingGraph, emitted: Int64) -> Mapping[str, float]:
    """Share of counts that rounding changed, by population name; for readouts, share of different first classes.

    emitted: int64 [N, *input shape], what the input emits. Both graphs have the same node names.
    """
    old, new = integer_values(before, emitted), integer_values(after, emitted)
    shares = {p.name: float((old[p.name] != new[p.name]).mean()) for p in before.populations if old[p.name].size}
    for name in before.outputs:
        if isinstance(before[name], Readout) and old[name].size:
            shares[name] = float((old[name].argmax(1) != new[name].argmax(1)).mean())
    return shares


class _Unit:
    """One population or readout with its synapses."""

    def __init__(self, routes: Routes, unit: Population | Readout, bounds: Mapping[str, Range], replicas: int) -> None:
        self.unit = unit
        self.arms = [node for node in routes.readers(unit) if isinstance(node, Synapse)]
        self.bounds = bounds
        image = routes.graph.input.name
        # an image that several units read is a thermometer code for most of them
        alone = sum(image in routes.sources(other) for other in routes.units) == 1
        self.graded = [alone and image in routes.pieces(arm.inputs[0]) for arm in self.arms]
        self.limits = [WEIGHT_MAX if graded else WEIGHT_MAX * replicas for graded in self.graded]
        self.signed = any(bounds[arm.inputs[0]].low.min() < 0 for arm in self.arms) and not all(self.graded)

    def fitted(self) -> list[Node]:
        """The nodes that replace this unit and its synapses."""
        exponent = self._first_exponent()
        while True:
            arms = [_rounded(arm, exponent) for arm in self.arms]
            too_fine = self._readout(arms, exponent) if isinstance(self.unit, Readout) else self._population(arms)
            if not too_fine.any():
                break
            if (exponent[too_fine] >= MAX_EXPONENT).any():
                raise GraphError("", [self._problem(int(np.flatnonzero(too_fine)[0]))])
            exponent = exponent + too_fine
        gone = _silenced(self.arms, arms)
        if gone.any():
            raise GraphError("", [self._problem(int(np.flatnonzero(gone)[0]))])
        if isinstance(self.unit, Readout):
            return _divided(self.unit, arms, int(exponent[0])) if exponent[0] else []
        return [new for new, old in zip(arms, self.arms, strict=True) if not _same_weights(new, old)]

    def _first_exponent(self) -> Int64:
        """Zero, and the exponent of the arm with the most weights where several need copies: int64 [C]."""
        zero = np.zeros(self.unit.channels, dtype=np.int64)
        if isinstance(self.unit, Readout) or len(self.arms) < 2:
            return zero
        unit = common_unit([arm.effective_weight for arm in self.arms])
        most = max(self.arms, key=lambda arm: arm.weight[0].size)
        return np.where(self._too_heavy(self.arms, unit, copies=False), most.exponent, zero)

    def _population(self, arms: list[Synapse]) -> Bools:
        """Channels whose integers are out of range."""
        assert isinstance(self.unit, Population)
        unit = common_unit([arm.effective_weight for arm in arms])
        low, high = self._synaptic_input(arms)
        low, high = low // unit, high // unit
        too_fine = self._too_heavy(arms, unit) | (self._reach(low, high) > CURRENT_MAX)
        steps = self.unit.ceiling - self.unit.floor
        channel = np.repeat(np.arange(self.unit.channels), steps)
        level = np.tile(np.arange(1, steps + 1), self.unit.channels)
        cut = cutoffs(self.unit, channel, level, unit[channel]).reshape(-1, steps)
        cut = np.clip(cut, low[:, None], high[:, None] + 1)
        for each in (cut, cut - (self._constant(arms) // unit)[:, None]):
            least, most = min(int(each.min()), 1), max(int(each.max()), 1)
            if most - least > BIAS_MAX - BIAS_MIN or 1 - least > BIAS_MAX:
                farthest = np.abs(each).max(1)
                too_fine = too_fine | (farthest > 0.75 * farthest.max())
        return np.asarray(too_fine)

    def _readout(self, arms: list[Synapse], exponent: Int64) -> Bools:
        """All channels, if one is out of range: they keep one unit."""
        assert isinstance(self.unit, Readout)
        unit = 2**exponent
        low, high = self._synaptic_input(arms)
        bias = round_half_up(self.unit.bias / unit) + self._constant(arms) // unit
        reach = self._reach(low // unit, high // unit) + np.abs(bias)
        too_fine = self._too_heavy(arms, unit) | (reach > CURRENT_MAX) | (bias < BIAS_MIN) | (bias > BIAS_MAX)
        return np.full(self.unit.channels, too_fine.any())

    def _synaptic_input(self, arms: list[Synapse]) -> tuple[Int64, Int64]:
        ends = [arm.input_bounds(self.bounds[arm.inputs[0]].low, self.bounds[arm.inputs[0]].high) for arm in arms]
        return np.sum([low for low, _ in ends], axis=0), np.sum([high for _, high in ends], axis=0)

    def _constant(self, arms: list[Synapse]) -> Int64:
        """Synaptic input of all levels at their floor, which goes into the bias of a dense stage: int64 [C]."""
        constant = np.zeros(self.unit.channels, dtype=np.int64)
        for arm, graded in zip(arms, self.graded, strict=True):
            if not graded:
                floor = self.bounds[arm.inputs[0]].low
                constant += arm.input_bounds(floor, floor)[0]
        return constant

    def _reach(self, low: Int64, high: Int64) -> Int64:
        # signed counts are carried as levels above their floor, which shifts the range of the synaptic input
        return high - low if self.signed else np.maximum(high, -low)

    def _too_heavy(self, arms: list[Synapse], unit: Int64, copies: bool = True) -> Bools:
        heavy = np.zeros(self.unit.channels, dtype=np.bool_)
        for arm, limit in zip(arms, self.limits, strict=True):
            largest = np.abs(arm.effective_weight).reshape(self.unit.channels, -1).max(1)
            heavy |= largest // unit > (limit if copies else WEIGHT_MAX)
        return heavy

    def _problem(self, channel: int) -> Problem:
        largest = [int(np.abs(arm.effective_weight[channel]).max()) for arm in self.arms]
        bias = int(self.unit.bias[channel])
        threshold = int(self.unit.threshold[channel]) if isinstance(self.unit, Population) else 0
        what = (
            f"channel {channel} with weights up to {largest}, threshold {threshold} and bias {bias} does not fit 8-bit "
            f"weights, inputs of {CURRENT_MAX} and biases of {BIAS_MIN}..{BIAS_MAX} in any scale that leaves a "
            "weight"
        )
        where = f"{type(self.unit).__name__} '{self.unit.name}'"
        return Problem(where, what, "Use fewer weight or activation bits in this layer")


def _rounded(arm: Synapse, exponent: Int64) -> Synapse:
    """Weights as multiples of 2**exponent, rounded half up. Coarser ones stay."""
    shift = np.maximum(exponent - arm.exponent, 0)
    if not shift.any():
        return arm
    column = (2.0**shift).reshape((-1,) + (1,) * (arm.weight.ndim - 1))
    weight = np.clip(round_half_up(arm.weight / column), -WEIGHT_MAX - 1, WEIGHT_MAX).astype(np.int8)
    return dataclasses.replace(arm, weight=weight, exponent=np.maximum(arm.exponent, exponent))


def _divided(readout: Readout, arms: list[Synapse], exponent: int) -> list[Node]:
    """A readout and its synapses in units of 2**exponent. The arms are multiples of it already."""
    nodes: list[Node] = [dataclasses.replace(arm, exponent=arm.exponent - exponent) for arm in arms]
    bias = round_half_up(readout.bias / 2**exponent)
    nodes.append(dataclasses.replace(readout, bias=bias, scale=readout.scale * 2.0**exponent))
    return nodes


def _silenced(arms: list[Synapse], rounded: list[Synapse]) -> Bools:
    """Channels that had a weight and have none left."""
    before, after = (np.stack([_any_weight(arm) for arm in each]).any(0) for each in (arms, rounded))
    return np.asarray(before & ~after)


def _any_weight(arm: Synapse) -> Bools:
    return np.asarray(arm.weight.reshape(arm.channels, -1).any(1), dtype=np.bool_)


def _same_weights(arm: Synapse, other: Synapse) -> bool:
    return np.array_equal(arm.effective_weight, other.effective_weight)
