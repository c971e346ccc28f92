"""One tile of images through the whole network, node by node, each in its own time.

Synapses delay by at least one step and the graph has no loops, so the whole series of a node follows from the whole
series of its sources. The steps of a layer that hold many spikes go through one product together; a step without
spikes costs nothing; the few late corrections are followed one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from itertools import pairwise
from time import thread_time
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import Concat, Flatten, Input, MaxPool2d, Node, Population, Readout, Synapse
from fastsnn_deploy.graph.spike_trains import Emitted, entering
from fastsnn_deploy.simulators.cpu import population as neurons
from fastsnn_deploy.simulators.cpu.plan import Plan
from fastsnn_deploy.simulators.cpu.pool_kernels import pool_events, pool_rows
from fastsnn_deploy.simulators.cpu.series import Events, Series, fill, no_events
from fastsnn_deploy.simulators.cpu.synaptic_input import Arrivals, add_synaptic_input
from fastsnn_deploy.simulators.cpu.tally import Scratch, tally
from fastsnn_deploy.simulators.engine import Recording, Tallies

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@dataclass
class Sums:
    """Spikes and payload of each neuron in memory order, int64 [neurons]; signs, per step and image; tallies int64
    [B, k], nonzero int64 [neurons] and net int32 [B, neurons] as in `engine.Activity`."""

    spikes: Int64
    payload: Int64
    positive: int = 0
    negative: int = 0
    per_image: Int64 = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    largest: int = 0
    tallies: Int64 | None = None
    nonzero: Int64 | None = None
    net: Int32 | None = None


class Tile:
    """Simulates B images: `run`, then read `potentials`, `sums`, `last_change`, `recorded`, and `seconds`, which each
    node took."""

    def __init__(self, plan: Plan, emitted: Emitted, steps: int | None, record: Collection[str],
                 density: float, budget: int, tallies: Tallies | None = None) -> None:  # fmt: skip
        self.plan, self.graph, self.emitted = plan, plan.graph, emitted
        self.steps = steps
        self.record = record
        self.density, self.budget = density, budget
        self.tallies = tallies
        self.images = len(emitted)
        self.scratch = Scratch()
        self.seconds: dict[str, float] = {}
        self.series: dict[str, Series] = {}
        self.sums: dict[str, Sums] = {}
        self.potentials: dict[str, Int32] = {}  # readouts: [B, T, neurons]
        self.traces: dict[str, Int32] = {}  # recorded potentials of populations: [T, B, neurons]
        self.values: dict[str, Int32] = {}  # spikes of recorded and output sources: [T, B, neurons]
        self.last_change = np.full(self.images, -1, dtype=np.int64)
        self.unread = {name: len(readers) for name, readers in plan.readers.items()}

    @property
    def limit(self) -> int:
        """No step from here on is simulated."""
        return self.steps if self.steps is not None else 2**31

    def run(self) -> None:
        """Every node in order; spikes are dropped once their last reader has seen them."""
        for node in self.graph.nodes:
            if type(node) in ADVANCES:
                start = thread_time()
                ADVANCES[type(node)](self, node)
                self.seconds[node.name] = thread_time() - start
            for name in node.inputs:
                for source in self._spikes_behind(name, node):
                    self.unread[source] -= 1
                    if self.unread[source] == 0:
                        self.series.pop(source, None)

    def _spikes_behind(self, name: str, reader: Node) -> list[str]:
        """Series that `reader` has consumed: of a population, those behind its synapses."""
        if isinstance(reader, Synapse):
            return []
        node = self.graph[name]
        return [node.inputs[0]] if isinstance(node, Synapse) else [name]

    def arrivals(self, node: Node) -> list[Arrivals]:
        """What reaches a population or readout through each of its synapses."""
        return [Arrivals(arm, self.series[arm.source], arm.synapse.delay) for arm in self.plan.arms[node.name]]

    def sums_of(self, node: Node) -> Sums:
        """Accumulators of a source that compiled loops add to."""
        zeros = np.zeros(node.size, dtype=np.int64)
        return self.sums.setdefault(node.name, Sums(zeros, zeros.copy()))

    # --- sources -----------------------------------------------------------------------------------------------------

    def _input(self) -> Series:
        injection = self.graph.schedule.input_injection
        steps, share = entering(self.emitted, injection)
        steps = min(steps, self.limit)
        inner = self.plan.order[self.graph.input.name] is not None  # positions first
        rows = np.empty((self.images, steps, self.graph.input.size), dtype=np.float32)
        for step in range(steps):
            maps = share(step)
            rows[:, step] = (np.moveaxis(maps, 1, -1) if inner else maps).reshape(self.images, -1)
        spikes = np.count_nonzero(rows, axis=2).astype(np.int32)
        zero = self.plan.zero(self.graph.input.name)
        low, high = self.plan.bounds(self.graph.input)
        least, most = rows.min((0, 1), initial=0), rows.max((0, 1), initial=0)
        outside = bool((least < low).any() or (most > high).any())  # encoding never leaves them
        if zero is None or outside:
            return Series(0, rows, 0, spikes, followed=outside)
        return Series(0, (rows + zero).astype(np.uint8), zero, spikes)

    def _keep(self, node: Node, series: Series, counted: bool = False) -> None:
        """Store the spikes of a source, and what is reported of them."""
        self.series[node.name] = series
        sums = self.sums_of(node)
        if not counted:
            values = series.rows.astype(np.int32) - series.zero
            magnitudes = np.abs(values)
            sums.spikes += (magnitudes != 0).sum((0, 1))
            sums.payload += magnitudes.sum((0, 1), dtype=np.int64)
            sums.positive, sums.negative = int(np.count_nonzero(values > 0)), int(np.count_nonzero(values < 0))
            sums.largest = int(magnitudes.max(initial=0))
        sums.per_image = series.per_image(series.end)
        if self.tallies is not None:
            sums.tallies, sums.nonzero, net = tally(series, self.tallies.weights[node.name], self.scratch)
            sums.net = net.astype(np.int32) if node.name in self.tallies.net else None
        for step in range(series.end):
            self.last_change[sums.per_image[step] > 0] = np.maximum(self.last_change[sums.per_image[step] > 0], step)
        if node.name in self.record or node.name in self.graph.outputs:
            self.values[node.name] = series.values(series.end)

    # --- routing -----------------------------------------------------------------------------------------------------

    def _flatten(self, node: Flatten) -> Series:
        source = self.series[node.inputs[0]]
        order = self.plan.order[node.inputs[0]]
        if self.plan.virtual(node) or order is None:
            return source
        place = np.empty_like(order)  # where each neuron in memory goes
        place[order] = np.arange(len(order))
        tail = tuple(Events(e.image, order[e.neuron].astype(np.int32), e.value) for e in source.tail)
        return replace(source, rows=np.ascontiguousarray(source.rows[:, :, place]), tail=tail)

    def _concat(self, node: Concat) -> Series:
        arms = [(self.series[name], delay) for name, delay in zip(node.inputs, node.delays, strict=True)]
        start = min(arm.start + delay for arm, delay in arms)
        rows_end = max(arm.tail_start + delay for arm, delay in arms)
        end = min(max(arm.end + delay for arm, delay in arms), self.limit)
        zero = self.plan.zero(node.name)
        count = max(min(rows_end, self.limit) - start, 0)
        positions = node.size // node.channels
        rows = np.full((self.images, count, positions, node.channels), zero or 0,
                       dtype=np.float32 if zero is None else np.uint8)  # fmt: skip
        tails: list[list[Events]] = [[] for _ in range(max(end - start - count, 0))]
        first = 0
        for arm, delay in arms:
            channels = arm.neurons // positions
            for step in range(arm.start + delay, min(arm.end + delay, end)):
                at, row = step - start, arm.row(step - delay)
                if row >= 0:
                    part = arm.rows[:, row].reshape(self.images, positions, channels)
                    rows[:, at, :, first : first + channels] = part.astype(np.int32) - arm.zero + (zero or 0)
                    continue
                events = arm.events(step - delay)
                neuron = events.neuron // channels * node.channels + events.neuron % channels + first
                moved = Events(events.image, neuron.astype(np.int32), events.value)
                if at < count:
                    fill(rows.reshape(self.images, count, -1), zero or 0, at, moved)
                else:
                    tails[at - count].append(moved)
            first += channels
        flat = rows.reshape(self.images, count, node.size)
        spikes = np.count_nonzero(flat != (zero or 0), axis=2).astype(np.int32)
        return Series(start, flat, zero or 0, spikes, tuple(_joined(events) for events in tails))

    # --- max pool ----------------------------------------------------------------------------------------------------

    def _pool(self, node: MaxPool2d) -> Series:
        source, plan = self.series[node.inputs[0]], self.plan.pools[node.name]
        sums = self.sums_of(node)
        zero = self.plan.zero(node.name)
        start = source.start + node.delay
        count = max(min(source.rows.shape[1], self.limit - start), 0)
        counts = np.zeros((self.images, source.neurons), dtype=np.int32)
        highest = np.zeros((self.images, node.size), dtype=np.int32)
        out = np.empty((self.images, count, node.size), dtype=np.float32 if zero is None else np.uint8)
        positive = np.zeros((self.images, count), dtype=np.int32)
        negative = np.zeros_like(positive)
        quiet = source.spikes.sum(0) == 0
        which = np.where(quiet[:count], -1, np.arange(count))
        pool_rows(source.rows, source.rows.dtype.type(source.zero), which, plan.windows, node.channels, counts, highest,
                  out, np.int32(zero or 0), positive, negative, sums.spikes, sums.payload)  # fmt: skip
        tail = []
        for step in range(start + count, min(source.end + node.delay, self.limit)):
            events = source.events(step - node.delay)
            found = pool_events(events.image, events.neuron, events.value, plan.readers, plan.reader_start,
                                plan.windows, node.channels, counts, highest, sums.spikes, sums.payload)  # fmt: skip
            tail.append(Events(*found))
        series = Series(start, out, zero or 0, positive + negative, tuple(tail))
        count_signs(sums, series, positive, negative)
        return series

    # --- readout -----------------------------------------------------------------------------------------------------

    def _read(self, node: Readout) -> None:
        arrivals = self.arrivals(node)
        begin, injection = self.graph.bias_start(node), self.graph.schedule.bias_injection
        end = min(max([begin + injection.steps, *(a.end for a in arrivals)]), self.limit)
        synaptic_input = np.zeros((self.images, end, node.size), dtype=np.float32)
        for arrival in arrivals:
            add_synaptic_input(arrival, synaptic_input, self.density)
        total = synaptic_input.astype(np.int64)
        positions = node.size // node.channels
        for step in range(begin, min(begin + injection.steps, end)):
            total[:, step] += np.tile(injection.share(node.bias, step - begin), positions)
        for step in range(end):
            changed = total[:, step].any(1)
            self.last_change[changed] = np.maximum(self.last_change[changed], step)
        self.potentials[node.name] = np.cumsum(total, axis=1).astype(np.int32)

    # --- results -----------------------------------------------------------------------------------------------------

    def recording(self, node: Node, steps: int) -> Recording:
        """Series of a recorded node over `steps` steps, in canonical order."""
        if isinstance(node, Readout):
            return Recording(
                potentials=self.canonical(node, _extended(self.potentials[node.name].swapaxes(0, 1), steps))
            )
        spikes = np.zeros((steps, self.images, node.size), dtype=np.int32)
        values = self.values[node.name][:steps]
        spikes[: len(values)] = values
        shown = self.canonical(node, spikes)
        if isinstance(node, Input):
            return Recording(spikes=shown)
        counts = _accumulated(shown.copy())
        if isinstance(node, MaxPool2d):
            return Recording(spikes=shown, counts=counts)
        assert isinstance(node, Population)
        trace = self.traces[node.name]
        if len(trace) == 0:
            initial = np.tile(node.initial, node.size // node.channels).astype(np.int32)
            trace = np.broadcast_to(initial, (1, self.images, node.size))
        return Recording(spikes=shown, counts=counts, potentials=self.canonical(node, _extended(trace, steps)))

    def output(self, node: Node, steps: int) -> Int32:
        """Value of an output node after each step, int32 [steps, B, *shape]."""
        recording = self.recording(node, steps) if isinstance(node, Readout) else None
        if recording is not None:
            assert recording.potentials is not None
            return recording.potentials
        values = np.zeros((steps, self.images, node.size), dtype=np.int32)
        found = self.values[node.name][:steps]
        values[: len(found)] = found
        return _accumulated(self.canonical(node, values))

    def canonical(self, node: Node, series: Int32) -> Int32:
        """[T, B, neurons in memory order] -> [T, B, *shape]."""
        if len(node.shape) == 3:
            channels, height, width = node.shape
            maps = series.reshape(*series.shape[:2], height, width, channels)
            return np.ascontiguousarray(maps.transpose(0, 1, 4, 2, 3))
        return np.ascontiguousarray(series.reshape(*series.shape[:2], *node.shape))


def count_signs(sums: Sums, series: Series, positive: Int32, negative: Int32) -> None:
    """Spikes by sign and the greatest payload, of rows and tail."""
    sums.positive += int(positive.sum()) + sum(int((events.value > 0).sum()) for events in series.tail)
    sums.negative += int(negative.sum()) + sum(int((events.value < 0).sum()) for events in series.tail)
    largest = max((int(np.abs(events.value).max()) for events in series.tail if len(events)), default=0)
    if series.rows.size:
        values = int(series.rows.max()) - series.zero, series.zero - int(series.rows.min())
        largest = max(largest, *values)
    sums.largest = max(sums.largest, largest)


def _joined(parts: list[Events]) -> Events:
    if not parts:
        return no_events()
    return Events(*(np.concatenate([getattr(p, key) for p in parts]) for key in ("image", "neuron", "value")))


def _accumulated(values: Int32) -> Int32:
    """Sums over the first axis, in place; np.cumsum along it takes several times as long."""
    for before, now in pairwise(values):
        now += before
    return values


def _extended(series: Int32, steps: int) -> Int32:
    """Series [T, ...] cut or continued with its last value to `steps` steps."""
    if len(series) >= steps:
        return series[:steps]
    if len(series) == 0:
        return np.zeros((steps, *series.shape[1:]), dtype=np.int32)
    return np.concatenate([series, np.repeat(series[-1:], steps - len(series), axis=0)])


ADVANCES: dict[type[Node], Callable[[Tile, Any], None]] = {
    Input: lambda tile, node: tile._keep(node, tile._input()),
    Population: lambda tile, node: tile._keep(node, neurons.fire(tile, node), counted=True),
    Readout: Tile._read,
    MaxPool2d: lambda tile, node: tile._keep(node, tile._pool(node), counted=True),
    Flatten: lambda tile, node: tile.series.update({node.name: tile._flatten(node)}),
    Concat: lambda tile, node: tile.series.update({node.name: tile._concat(node)}),
}
"""What a tile does at each type of node; synapses act when their population does."""
