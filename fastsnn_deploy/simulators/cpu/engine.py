"""The CPU engine: tiles of images, each through the whole network, side by side in threads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import Node, SpikeTrains, SpikingGraph
from fastsnn_deploy.graph.spike_trains import Emitted
from fastsnn_deploy.processes import available_cores
from fastsnn_deploy.simulators.batched import ReferenceEngine
from fastsnn_deploy.simulators.cpu.tally import narrow
from fastsnn_deploy.simulators.cpu.tile import Sums, Tile
from fastsnn_deploy.simulators.cpu.trial import tried
from fastsnn_deploy.simulators.cpu.workers import workers
from fastsnn_deploy.simulators.engine import Activity, BatchRun, Engine, Recording, Tallies, engine

TILE_BYTES = 64 * 2**20
"""Memory that the spikes of one tile may take."""

MOST_IMAGES = 128
"""Images of a tile: more gain nothing, fewer pay for the calls of every layer too often."""

CACHE_BYTES = 2**20
"""Synaptic input that is computed at a time: what stays in a core's second-level cache."""

DENSITY = 0.01
"""Share of neurons that must send in a step for a product to be faster than following each spike."""


@engine("cpu")
class CpuEngine(Engine):
    """See `engine.cpu`. private: use oneDNN's int8 convolution where it works; otherwise PyTorch's public one. seconds:
    what each node has taken so far of all processors, in all runs."""

    def __init__(
        self, graph: SpikingGraph, threads: int | None = None, *, private: bool = True, density: float = DENSITY,
        cache_bytes: int = CACHE_BYTES, tile: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(graph, threads)
        self.workers = threads or available_cores()
        self.density, self.cache_bytes = density, cache_bytes
        with workers(1) as pool:  # PyTorch as in a run
            self.plan = pool.submit(tried, graph, private, cache_bytes).result()
        self.tile = tile or _tile_images(graph)
        self.seconds: Counter[str] = Counter()

    @property
    def batch_size(self) -> int:
        return self.tile * self.workers * 2

    def run(
        self, emitted: Emitted, steps: int | None = None, record: Collection[str] = (),
        tallies: Tallies | None = None,
    ) -> BatchRun:  # fmt: skip
        entering = emitted.steps if isinstance(emitted, SpikeTrains) else 0
        emitted = emitted if isinstance(emitted, SpikeTrains) else np.asarray(emitted)
        self.check(emitted, steps, record)
        if not len(emitted):
            return ReferenceEngine(self.graph).run(emitted, steps, record, tallies)
        most = min(self.tile, _tile_images(self.graph, entering)) if entering else self.tile
        count = -(-len(emitted) // most)
        if count < self.workers or count % self.workers:  # no worker waits for the others' last tile
            count = min(len(emitted), -(-count // self.workers) * self.workers)
        ends = [len(emitted) * part // count for part in range(count + 1)]
        parts = [emitted[start:stop] for start, stop in pairwise(ends)]
        if tallies is not None:  # neurons in memory order
            orders = {name: self.plan.order[name] for name in tallies.weights}
            placed = {name: x if orders[name] is None else x[:, orders[name]] for name, x in tallies.weights.items()}
            tallies = replace(tallies, weights={name: narrow(x) for name, x in placed.items()})

        def one(part: Emitted) -> Tile:
            tile = Tile(self.plan, part, steps, record, self.density, self.cache_bytes, tallies)
            tile.run()
            tile.series.clear()
            return tile

        with workers(self.workers) as pool:
            tiles = list(pool.map(one, parts))
        for tile in tiles:
            self.seconds.update(tile.seconds)
        return self._merge(tiles, steps, record)

    def _merge(self, tiles: list[Tile], steps: int | None, record: Collection[str]) -> BatchRun:
        settle = np.concatenate([tile.last_change for tile in tiles]) + 1
        end = int(settle.max(initial=0)) if steps is None else steps
        graph = self.graph
        sums = {name: [tile.sums[name] for tile in tiles] for name in tiles[0].sums}
        recordings = {name: [tile.recording(graph[name], end) for tile in tiles] for name in record}
        return BatchRun(
            steps=end,
            settle_steps=settle,
            outputs={
                name: np.concatenate([tile.output(graph[name], end) for tile in tiles], axis=1)
                for name in graph.outputs
            },
            activity={name: self._activity(graph[name], each, end) for name, each in sums.items()},
            recorded={name: _joined(parts) for name, parts in recordings.items()},
        )

    def _activity(self, node: Node, sums: list[Sums], steps: int) -> Activity:
        per_step = np.zeros(steps, dtype=np.int64)
        for each in sums:
            sent = each.per_image[:steps].sum(1)  # what lies beyond is silent
            per_step[: len(sent)] += sent

        def canonical(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            """[neurons, ...] -> [*shape, ...]."""
            if len(node.shape) < 3:
                return values.reshape(*node.shape, *values.shape[1:])
            channels, height, width = node.shape  # moving axes makes a view: copies take longer than adding
            return np.moveaxis(values.reshape(height, width, channels, *values.shape[1:]), 2, 0)

        tallies = [each.tallies for each in sums if each.tallies is not None]
        nonzero = [each.nonzero for each in sums if each.nonzero is not None]
        net = [np.moveaxis(canonical(each.net.T), -1, 0) for each in sums if each.net is not None]
        return Activity(
            spikes=canonical(reduce(np.add, [each.spikes for each in sums])),
            payload=canonical(reduce(np.add, [each.payload for each in sums])),
            positive=sum(each.positive for each in sums),
            negative=sum(each.negative for each in sums),
            per_step=per_step,
            most_in_step=max(int(each.per_image.max(initial=0)) for each in sums),
            largest=max(each.largest for each in sums),
            by_image=np.concatenate([each.per_image.sum(0) for each in sums]),
            tallies=np.concatenate(tallies) if tallies else None,
            nonzero=canonical(reduce(np.add, nonzero)) if nonzero else None,
            net=np.concatenate(net) if net else None,
        )


def _tile_images(graph: SpikingGraph, entering: int = 0) -> int:
    """Images whose widest layers fit TILE_BYTES, at one byte a neuron and step of the window, or of the `entering`
    steps of events."""
    steps = max(graph.schedule.duration, entering) + graph.schedule.start_delay + 2
    widest = max(node.size for node in graph.nodes) * steps
    return int(np.clip(TILE_BYTES // (4 * widest), 1, MOST_IMAGES))


def _joined(parts: list[Recording]) -> Recording:
    def join(series: list[npt.NDArray[np.int32] | None]) -> npt.NDArray[np.int32] | None:
        kept = [each for each in series if each is not None]
        return np.concatenate(kept, axis=1) if len(kept) > 1 else next(iter(kept), None)

    return Recording(
        join([part.spikes for part in parts]),
        join([part.counts for part in parts]),
        join([part.potentials for part in parts]),
    )
