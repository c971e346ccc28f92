"""Rows of a population whose largest synaptic input never leaves the registers: one synapse and the neurons in one
loop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import Population
from fastsnn_deploy.simulators.cpu.assembly import available
from fastsnn_deploy.simulators.cpu.convolution import Convolution, Fired, Neurons, NoConvolution
from fastsnn_deploy.simulators.cpu.launch import ROWS, even
from fastsnn_deploy.simulators.cpu.loops import MOST, Rule
from fastsnn_deploy.simulators.cpu.products import EXACT_FLOAT32
from fastsnn_deploy.simulators.cpu.synaptic_input import Arrivals, Sources

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bias = list[tuple[int, Int64]]


@dataclass(frozen=True)
class Chunk:
    """Steps first .. last - 1 of the rows, at most ROWS.

    fused: synaptic input of the fused synapse arrives, or not, in all of them; extra: steps from the first on in
    which other synaptic input arrives; bias: int32 [b, channels] of the first b steps.
    """

    first: int
    last: int
    fused: bool
    extra: int
    bias: Int32


@dataclass(frozen=True)
class Fusion:
    """How the rows of a population are computed.

    arrivals, steps: of the fused synapse, or None and nothing. sources: all other synaptic input. silent: steps
    before the first chunk, in which neurons are held.
    """

    neurons: Neurons
    arrivals: Arrivals | None
    convolution: Convolution
    steps: list[int]
    sources: Sources
    silent: int
    chunks: list[Chunk]

    def run(self, budget: int, fired: Fired) -> None:
        """All steps of all images; budget: bytes of other synaptic input at a time."""
        images = together = len(fired.out)
        if self.sources.steps:
            most = max(1, self.convolution.rows // max(chunk.last - chunk.first for chunk in self.chunks))
            size = budget // (4 * self.convolution.neurons * len(self.sources.steps))
            together = max(most, size // most * most)
        for first in range(0, images, max(together, 1)):
            chosen = slice(first, min(first + together, images))
            self._run(chosen, fired.images(chosen))

    def _run(self, images: slice, fired: Fired) -> None:
        rows, zero = None, 0
        if self.arrivals is not None:
            rows, zero = self.arrivals.rows(self.steps, images), self.arrivals.series.zero
        extra, shift, at = self.sources.synaptic_input(images)
        if len(shift):
            extra -= shift
        fired.out[:, : self.silent] = self.neurons.limits[2]
        if not len(fired.potential) and len(self.chunks) > 1:  # they continue where they stopped
            state = np.empty((2, len(fired.out), self.convolution.neurons), dtype=np.float32)
            fired = replace(fired, potential=state[0], count=state[1])
        row = 0
        for number, chunk in enumerate(self.chunks):
            length = chunk.last - chunk.first
            arriving = None
            if chunk.fused:
                assert rows is not None
                arriving, row = rows[:, row : row + length].view(np.uint8), row + length
            besides = extra[:, at[chunk.first] : at[chunk.first] + chunk.extra] if chunk.extra else None
            part = fired.steps(chunk.first, chunk.last)
            self.convolution.fire(self.neurons, arriving, zero, chunk.bias, besides, part, number > 0)
            if self._idle(number) and not (part.positive[:, -1].any() or part.negative[:, -1].any()):
                fired.out[:, chunk.last :] = self.neurons.limits[2]
                return

    def _idle(self, number: int) -> bool:
        """Nothing arrives after a chunk."""
        return not any(chunk.fused or chunk.extra or len(chunk.bias) for chunk in self.chunks[number + 1 :])


def fusion(node: Population, arrivals: list[Arrivals], bias: Bias, gate: npt.NDArray[np.bool_], start: int,
           density: float, zero: int | None) -> Fusion | None:  # fmt: skip
    """How to fuse the steps from `start` on, one for each entry of `gate`; None if they cannot be."""
    values = (node.threshold, node.initial, *(share for _, share in bias))
    rule = _rule(node)
    if rule is None or zero is None or any((np.abs(value) >= EXACT_FLOAT32).any() for value in values):
        return None
    end = start + len(gate)
    if not available():
        return None
    found = [_steps(each, start, end, density) for each in arrivals]
    work = [len(steps) * _work(each) for each, steps in zip(arrivals, found, strict=True)]
    chosen = int(np.argmax(work)) if any(work) else None
    main, steps = (arrivals[chosen], found[chosen]) if chosen is not None else (None, [])
    sources = Sources(arrivals, start, end, density, {id(main): set(steps)})
    busy = set(steps).union(sources.steps)
    silent = int(np.argmax(gate)) if gate.any() else len(gate)
    if not gate[silent:].all() or not len(gate[silent:]) or any(step < start + silent for step in busy):
        return None
    chunks = _chunks(node, set(steps), set(sources.steps), bias, start, silent, end)
    neurons = Neurons(
        node.threshold.astype(np.int32), node.initial.astype(np.int32),
        np.asarray((node.floor, node.ceiling, zero), dtype=np.int32), rule,
    )  # fmt: skip
    convolution = main.plan.product.convolution if main is not None else None
    return Fusion(neurons, main, convolution or NoConvolution(node.channels, node.size), steps, sources, silent, chunks)


def _rule(node: Population) -> Rule | None:
    """What the loops do in a step; None where a spike may be a part of a count, or the count is too large for them."""
    span = node.ceiling - node.floor
    if node.payload == 1:
        return Rule(node.min_spike < 0)
    whole = node.max_spike >= span and (node.min_spike == 0 or -node.min_spike >= span)
    return Rule(node.min_spike < 0, span) if whole and span <= MOST else None


def _work(arrivals: Arrivals) -> int:
    """Products of a step, if the synapse can be fused."""
    convolution = arrivals.plan.product.convolution
    if convolution is None or arrivals.series.rows.dtype != np.uint8:
        return 0
    return len(convolution.run_start) * convolution.weights.size


def _steps(arrivals: Arrivals, start: int, end: int, density: float) -> list[int]:
    """The longest run of steps with many spikes."""
    dense = [t for t in range(max(arrivals.start, start), min(arrivals.end, end)) if arrivals.dense(t, density)]
    runs = [[t for _, t in run] for _, run in groupby(enumerate(dense), lambda each: each[1] - each[0])]
    return max(runs, key=len, default=[])


def _chunks(node: Population, fused: set[int], extra: set[int], bias: Bias, start: int, silent: int,
            end: int) -> list[Chunk]:  # fmt: skip
    """Cut steps start + silent .. end - 1 where what arrives changes; held neurons keep the bias of earlier steps."""
    shares = np.zeros((end - start, node.channels), dtype=np.int32)
    for step, share in bias:
        if start <= step < end:
            shares[max(step - start, silent)] += share.astype(np.int32)
    kinds = [(step in fused, step in extra) for step in range(start, end)]
    cuts = [t for t in range(silent + 1, end - start) if kinds[t][0] != kinds[t - 1][0] or kinds[t] > kinds[t - 1]]
    chunks = []
    for first, last in pairwise([silent, *cuts, end - start]):
        for part, following in pairwise(first + at for at in even(last - first, ROWS)):
            biased = int(np.flatnonzero(shares[part:following].any(1)).max(initial=-1)) + 1
            besides = sum(kinds[t][1] for t in range(part, following))
            chunks.append(Chunk(part, following, kinds[part][0], besides, shares[part : part + biased]))
    return chunks
