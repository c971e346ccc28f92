"""A population over all its steps: first the rows, fused into one pass over the synaptic input, then the sparse
tail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import Population
from fastsnn_deploy.simulators.cpu.convolution import Fired
from fastsnn_deploy.simulators.cpu.fused import fusion
from fastsnn_deploy.simulators.cpu.kernels import BLOCK, add_payload, fire_places, fire_rows, mark_rows
from fastsnn_deploy.simulators.cpu.series import Events, Series
from fastsnn_deploy.simulators.cpu.synaptic_input import Arrivals, Sources

if TYPE_CHECKING:
    from fastsnn_deploy.simulators.cpu.tile import Tile

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@dataclass
class State:
    """potential, count: float32 [B, neurons], or [0, neurons]; trace: recorded potentials, one [B, neurons] a step."""

    potential: Float32
    count: Float32
    trace: list[Float32]


def fire(tile: Tile, node: Population) -> Series:
    """All spikes of a population of a tile."""
    arrivals = tile.arrivals(node)
    rows, state = rows_of(tile, node, arrivals)
    tail = _tail(tile, node, arrivals, rows, state)
    series = Series(rows.start, rows.rows, rows.zero, rows.spikes, tail)
    if node.name in tile.record:
        shape = (tile.images, node.size)
        trace = np.asarray(state.trace, dtype=np.int32).reshape(-1, *shape)
        initial = np.tile(node.initial, node.size // node.channels).astype(np.int32)
        tile.traces[node.name] = np.concatenate([np.broadcast_to(initial, (rows.start, *shape)), trace])
    return series


def rows_of(
    tile: Tile, node: Population, arrivals: list[Arrivals], fused: bool = True, density: float | None = None
) -> tuple[Series, State]:
    """The steps in which much happens, and what neurons are in after them.

    fused: synapse and neurons may run in one loop. density: share of neurons beyond which a product takes a step, where
    it is not the tile's.
    """
    bias = _bias_steps(tile, node)
    starts = [a.start for a in arrivals if a.end > a.start] + [step for step, _ in bias]
    unsettled = bool(((node.initial >= node.threshold) | (node.initial < 0)).any())
    start = min([*starts, 0] if unsettled else starts, default=0)
    start = min(start, tile.limit)
    ends = [a.rows_end(tile.density) for a in arrivals] + [step + 1 for step, _ in bias]
    busy = node.busy_steps if starts else 1
    if tile.graph.schedule.stop == "window":  # held before its window and silent after it
        start, ends, busy = min(start, tile.graph.depths[node.name]), [a.end for a in arrivals], 0
        ends.append(tile.graph.depths[node.name] + tile.graph.schedule.duration)
    elif tile.graph.schedule.start_delay and (starts or unsettled):  # the tail is of neurons that may fire
        ends.append(tile.graph.depths[node.name] + busy)
    end = min(max([*ends, start + (busy if starts or unsettled else 0)]), tile.limit)
    # nobody looks at the neurons after a window
    kept = (tile.images, node.size) if tile.graph.schedule.stop == "settled" else (0, node.size)
    state = State(np.empty(kept, dtype=np.float32), np.empty(kept, dtype=np.float32), [])
    density = tile.density if density is None else density
    fused = fused and tile.plan.private and node.name not in tile.record and node.name not in tile.plan.unfused
    return _rows(tile, node, arrivals, bias, start, end, state, fused, density), state


def _bias_steps(tile: Tile, node: Population) -> list[tuple[int, Int64]]:
    """Steps in which bias arrives, with its share for each channel."""
    begin, injection = tile.graph.bias_start(node), tile.graph.schedule.bias_injection
    shares = ((begin + i, injection.share(node.bias, i)) for i in range(injection.steps))
    return [(step, share) for step, share in shares if share.any()]


def _rows(
    tile: Tile, node: Population, arrivals: list[Arrivals], bias: list[tuple[int, Int64]], start: int, end: int,
    state: State, fused: bool, density: float,
) -> Series:  # fmt: skip
    """Steps start .. end - 1."""
    zero = tile.plan.zero(node.name)
    steps = max(end - start, 0)
    gate = np.asarray([tile.graph.fires(node, start + at) for at in range(steps)], dtype=np.bool_)
    out = np.empty((tile.images, steps, node.size), dtype=np.float32 if zero is None else np.uint8)
    positive = np.zeros((tile.images, steps), dtype=np.int32)
    negative = np.zeros_like(positive)
    sums = tile.sums_of(node)
    spikes = np.zeros(node.size, dtype=np.int32)
    fired = Fired(out, positive, negative, spikes, state.potential, state.count)
    recorded = node.name in tile.record
    loop = fusion(node, arrivals, bias, gate, start, density, zero) if fused else None
    if loop is not None:
        loop.run(tile.budget, fired)
        if node.payload > 1:
            add_payload(out, out.dtype.type(zero or 0), sums.payload)
    else:
        trace = np.empty((tile.images, steps, node.size) if recorded else (0, 0, 0), dtype=np.float32)
        sources = Sources(arrivals, start, end, density)
        _through_synaptic_input(node, sources, bias, gate, fired, zero or 0, sums.payload, trace, tile.budget)
        state.trace += list(trace.swapaxes(0, 1)) if recorded else []
    sums.spikes += spikes
    sums.positive += int(positive.sum())
    sums.negative += int(negative.sum())
    if node.payload == 1:
        sums.payload += spikes
        sums.largest = int(spikes.any())
    elif out.size:
        sums.largest = max(sums.largest, int(out.max()) - (zero or 0), (zero or 0) - int(out.min()))
    return Series(start, out, zero or 0, positive + negative)


def limits_of(node: Population) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """floor, ceiling, min_spike, max_spike; no spike is larger than the range of counts."""
    most = node.ceiling - node.floor
    bounds = max(node.min_spike, -most), min(node.max_spike, most)
    return np.float32(node.floor), np.float32(node.ceiling), np.float32(bounds[0]), np.float32(bounds[1])


def _through_synaptic_input(
    node: Population, sources: Sources, bias: list[tuple[int, Int64]], gate: npt.NDArray[np.bool_], fired: Fired,
    zero: int, payload: Int64, trace: Float32, budget: int,
) -> None:  # fmt: skip
    """The synaptic input of all steps, then the neurons, in slices of images whose synaptic input stays in the
    cache."""
    length = node.channels * max(1, BLOCK // node.channels)
    repeats = length // node.channels

    def block(values: npt.NDArray[np.integer]) -> Float32:
        return np.tile(values.astype(np.float32), repeats)

    images, steps, _ = fired.out.shape
    shares = np.asarray([block(share) for _, share in bias], dtype=np.float32).reshape(-1, length)
    bias_row = np.full(steps, -1, dtype=np.int64)
    for at, (step, _) in enumerate(bias):
        if sources.start <= step < sources.end:
            bias_row[step - sources.start] = at
    kernel, threshold, initial = fire_rows(node.payload == 1), block(node.threshold), block(node.initial)
    together = max(1, budget // max(1, 4 * node.size * max(steps, 1)))
    for first in range(0, images, together):
        chosen = slice(first, min(first + together, images))
        synaptic_input, shift, rows = sources.synaptic_input(chosen)
        part = fired.images(chosen)
        kernel(
            synaptic_input, shift, rows, gate, shares, bias_row, threshold, initial,
            *limits_of(node), fired.out.dtype.type(zero),
            part.potential, part.count, part.out, part.positive, part.negative, fired.sent, payload,
            trace[chosen] if len(trace) else trace,
        )  # fmt: skip


def _tail(tile: Tile, node: Population, arrivals: list[Arrivals], rows: Series, state: State) -> tuple[Events, ...]:
    """Steps after the rows: only positions that synaptic input reaches or that have just fired can change."""
    if tile.graph.schedule.stop == "window":
        return ()
    positions = node.size // node.channels
    stamp = np.full(tile.images * positions, -1, dtype=np.int64)
    where, again = np.empty((2, tile.images * positions), dtype=np.int64)
    found = 0
    # neurons that send all of a count at once have nothing left to send
    whole = min(node.max_spike, -node.min_spike) >= node.ceiling - node.floor
    if rows.rows.shape[1] and not whole and rows.spikes[:, -1].any():
        last = np.ascontiguousarray(rows.rows[:, -1])
        found = mark_rows(last, last.dtype.type(rows.zero), node.channels, stamp, rows.tail_start, where)
    threshold = node.threshold.astype(np.float32)
    sums = tile.sums_of(node)
    kernel = fire_places(node.payload == 1)
    last_input = max((a.end for a in arrivals), default=0)
    tail: list[Events] = []
    images = slice(0, tile.images)
    step = rows.tail_start
    while step < tile.limit and (found or step < last_input):
        for arrival in arrivals:
            events = arrival.events(step, images)
            found = arrival.mark(events, events.image, state.potential, stamp, step, where, found)
        room = found * node.channels
        image, neuron, value = np.empty((3, room), dtype=np.int32)
        sent, repeated = kernel(
            where, found, state.potential, state.count, threshold, *limits_of(node), sums.spikes,
            sums.payload, image, neuron, value, again,
        )  # fmt: skip
        tail.append(Events(image[:sent].copy(), neuron[:sent].copy(), value[:sent].copy()))
        if node.name in tile.record:
            state.trace.append(state.potential.copy())
        step += 1
        where, again, found = again, where, repeated
        stamp[where[:found]] = step
    _count(tile, node, tail)
    while tail and not len(tail[-1]):
        tail.pop()
    return tuple(tail)


def _count(tile: Tile, node: Population, tail: list[Events]) -> None:
    sums = tile.sums_of(node)
    for events in tail:
        sums.positive += int((events.value > 0).sum())
        sums.negative += int((events.value < 0).sum())
        sums.largest = max(sums.largest, int(np.abs(events.value).max(initial=0)))
