"""One stage of a chain as one stock layer: its kernels or matrix, and the synaptic input at which each neuron fires."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import GraphError, Problem
from fastsnn_deploy.graph import Population, Readout
from fastsnn_deploy.lava_dl.limits import MAX_WEIGHTS, WEIGHT_MAX
from fastsnn_deploy.lava_dl.thermometer import ONE, Code
from fastsnn_deploy.passes.chain import Chain, Copied, Pair, Part, Stage, Target, Weighted
from fastsnn_deploy.passes.levels import common_unit, count_range, cutoffs

Int64 = npt.NDArray[np.int64]

Slot = tuple[Part, Pair | None]
"""A part of the boundary before and the tap through which it is read; no tap in a dense stage."""


@dataclass(frozen=True, eq=False)
class Layer:
    """weight: int64 [O, I, kh, kw] or [O, I]. cutoff: least synaptic input with which a neuron fires, or a readout's
    bias."""

    weight: Int64
    cutoff: Int64
    padding: Pair


class Weights:
    """The weighted links of one stage, in units of every target row's common divisor.

    sums[i]: for target i the weight of every slot, int64 [rows, part channels(, positions)].
    units[i]: int64 [rows]. Readouts keep their unit, since their potential is the answer.
    """

    def __init__(self, chain: Chain, stage: Stage) -> None:
        self.sums = [_summed(target) for target in stage.targets]
        self.units = [
            np.ones(target.part.channels, dtype=np.int64)
            if isinstance(chain.graph[target.part.source], Readout) or not sums
            else common_unit(list(sums.values()))
            for target, sums in zip(stage.targets, self.sums, strict=True)
        ]
        for sums, unit in zip(self.sums, self.units, strict=True):
            for slot, weight in sums.items():
                sums[slot] = weight // unit.reshape((-1,) + (1,) * (weight.ndim - 1))

    def replicas(self, part: Part) -> Int64:
        """Copies of every row of a part so that no weight leaves 8 bits, int64 [part.channels]."""
        needed = np.ones(part.channels, dtype=np.int64)
        for weight in self._of(part):
            largest = np.abs(weight).max(axis=tuple(i for i in range(weight.ndim) if i != 1))
            needed = np.maximum(needed, -(-largest // WEIGHT_MAX))
        return needed

    def ones(self, part: Part, floor: Int64) -> int:
        """The same for the neuron that marks the map of a signed part with these least counts."""
        largest = max((int(np.abs(weight @ floor).max()) for weight in self._of(part)), default=0)
        return max(1, -(-largest // WEIGHT_MAX))

    def _of(self, part: Part) -> list[Int64]:
        return [weight for sums in self.sums for (source, _), weight in sums.items() if source == part]


def _summed(target: Target) -> dict[Slot, Int64]:
    sums: dict[Slot, Int64] = {}
    for link in target.links:
        if isinstance(link, Weighted):
            slot = (link.part, link.tap)
            sums[slot] = sums[slot] + link.weight if slot in sums else link.weight
    return sums


class Assembly:
    """Builds the layer of one stage.

    before, after: code of every part on both sides. silent: whether each side ends with a neuron that never fires.
    """

    def __init__(
        self,
        chain: Chain,
        stage: Stage,
        weights: Weights,
        before: Mapping[Part, Code],
        after: Mapping[Part, Code],
        silent: tuple[bool, bool],
    ) -> None:
        self.chain, self.stage, self.weights = chain, stage, weights
        self.before, self.after, self.silent = before, after, silent
        self.inputs = sum(code.size for code in before.values()) + silent[0]
        self.outputs = sum(code.size for code in after.values()) + silent[1]
        self.starts = _starts(before)

    def layer(self) -> Layer:
        """The stock layer's integers. Raises GraphError if it is too large to build."""
        shape = (self.outputs, self.inputs, *self.stage.window.kernel)
        if np.prod(shape, dtype=np.float64) > MAX_WEIGHTS:
            names = ", ".join(f"'{t.part.source}'" for t in self.stage.targets if t.computed)
            what = f"needs a layer with {' x '.join(map(str, shape))} weights, more than {MAX_WEIGHTS}"
            raise GraphError(
                "the network is too large", [Problem(names or "input", what, "Use fewer bits or channels")]
            )
        weight: Int64 = np.zeros(shape, dtype=np.int64)
        cutoff = np.ones(self.outputs, dtype=np.int64)
        starts = _starts(self.after)
        for index, target in enumerate(self.stage.targets):
            code = self.after[target.part]
            rows = slice(starts[target.part], starts[target.part] + code.size)
            for (part, tap), values in self.weights.sums[index].items():
                self._add(weight[rows], part, tap, values, code, target)
            for link in target.links:
                if isinstance(link, Copied):
                    self._copy(weight[rows], link, code, target)
            cutoff[rows] = self._cutoff(index, target, code)
        if self.stage.stride is None:
            weight = weight.reshape(self.outputs, -1)
        return Layer(weight, cutoff, self.stage.window.padding)

    def _add(self, out: Int64, part: Part, tap: Pair | None, values: Int64, code: Code, target: Target) -> None:
        """Spread weights over levels (the same weight) and replicas (at most 8 bits each)."""
        source = self.before[part]
        start, made = self.starts[part], code.row != ONE
        columns = np.flatnonzero(source.row != ONE)
        spread = values[code.row[made]][:, source.row[columns]]
        shares = (source.replica[columns], source.copies[columns])
        spread = _shares(spread, *(s.reshape((-1,) + (1,) * (values.ndim - 2)) for s in shares))
        where = self._position(tap)
        if tap is not None:
            out[np.flatnonzero(made)[:, None], start + columns, where[0], where[1]] += spread
        else:
            out[np.flatnonzero(made)[:, None], start + columns, :, 0] += spread
        if tap is not None and source.ones:
            marks = (values @ self._floor(part))[code.row[made]]
            ones = np.flatnonzero(source.row == ONE)
            marks = _shares(np.repeat(marks[:, None], len(ones), axis=1), np.arange(len(ones)), np.array(len(ones)))
            out[np.flatnonzero(made)[:, None], start + ones, where[0], where[1]] += marks

    def _copy(self, out: Int64, link: Copied, code: Code, target: Target) -> None:
        """Level to level, from the first replica to all."""
        source, start = self.before[link.part], self.starts[link.part]
        levels = code.levels[link.target]
        for level in range(1, int(levels.max(initial=0)) + 1):
            for replica in range(int(code.replicas.max())):
                mask = (levels >= level) & (code.replicas[link.target] > replica)
                made, read = link.target[mask], link.channel[mask]
                row = code.first[made] + (level - 1) * code.replicas[made] + replica
                step = 0 if source.graded else (level - 1) * source.replicas[read]
                column = start + source.first[read] + step
                if link.tap is not None:
                    where = self._position(link.tap)
                    out[row, column, where[0], where[1]] = 1
                else:
                    assert link.position is not None
                    out[row, column, link.position[mask], 0] = 1
        if link.tap is not None and source.ones and not target.computed:
            where = self._position(link.tap)
            out[np.flatnonzero(code.row == ONE), start + source.size - source.ones, where[0], where[1]] = 1

    def _position(self, tap: Pair | None) -> Pair:
        padding = self.stage.window.padding
        return (0, 0) if tap is None else (tap[0] + padding[0], tap[1] + padding[1])

    def _floor(self, part: Part) -> Int64:
        low, _ = count_range(self.chain.graph, part.source)
        return low[self.chain.rows(part, self.stage.before.size)]

    def _cutoff(self, index: int, target: Target, code: Code) -> Int64:
        """Least synaptic input with which each neuron of a target fires; for readouts their bias."""
        node = self.chain.graph[target.part.source]
        channel = self.chain.rows(target.part, self.stage.after.size)
        if isinstance(node, Readout):
            return np.asarray(node.bias[channel] + self._constant(index))
        one = code.row == ONE
        cut = np.ones(code.size, dtype=np.int64)
        row, level = code.row[~one], code.level[~one]
        if target.computed:
            cut[one] = 0
            if isinstance(node, Population):
                unit = self.weights.units[index][row]
                cut[~one] = cutoffs(node, channel[row], level, unit) - self._constant(index)[row]
        elif any(self.before[link.part].graded for link in target.links):
            cut[one] = 0
            cut[~one] = count_range(self.chain.graph, node.name)[0][channel[row]] + level
        return cut

    def _constant(self, index: int) -> Int64:
        """Synaptic input that least counts below zero would have given, where no neuron marks the map: int64 [rows]."""
        total = np.zeros(len(self.weights.units[index]), dtype=np.int64)
        for (part, _), values in self.weights.sums[index].items():
            source = self.before[part]
            if self.stage.stride is None and not source.graded:
                held = values.sum(2) if values.ndim == 3 else values
                total += held @ self._floor(part)
        return total


def _starts(codes: Mapping[Part, Code]) -> dict[Part, int]:
    starts, start = {}, 0
    for part, code in codes.items():
        starts[part] = start
        start += code.size
    return starts


def _shares(weight: Int64, replica: Int64, copies: Int64) -> Int64:
    """The part of each weight that one of its copies carries; a single copy carries all of it."""
    carried = np.sign(weight) * np.clip(np.abs(weight) - WEIGHT_MAX * replica, 0, WEIGHT_MAX)
    return np.asarray(np.where(copies > 1, carried, weight))
