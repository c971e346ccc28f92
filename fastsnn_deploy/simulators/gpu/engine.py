"""The engine "gpu": tiles of images one after another, their results put together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property

import numpy as np
import torch

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import SpikeTrains, SpikingGraph
from fastsnn_deploy.graph.spike_trains import Emitted
from fastsnn_deploy.simulators.engine import BatchRun, Engine, Int32, Recording, Tallies, engine
from fastsnn_deploy.simulators.gpu.kernels import load_kernels
from fastsnn_deploy.simulators.gpu.plan import Plan, make_plan
from fastsnn_deploy.simulators.gpu.products import exact_on
from fastsnn_deploy.simulators.gpu.series import Trace, store_type
from fastsnn_deploy.simulators.gpu.statistics import activity, fold
from fastsnn_deploy.simulators.gpu.tile import Tile, TileRun

HOST_BYTES = 1 << 29
"""Memory for one tile on a processor."""

SHARE = 0.4
"""Part of the free device memory that a tile may take; fragments and cuBLAS need room too."""

MOST = {"cuda": 4096, "cpu": 64}
"""Images of one tile from which on larger tiles are no faster."""

STEP_ELEMENTS = 1 << 30
"""Elements of one node in one step of a tile: the kernels index them with int32."""

SYNAPTIC_INPUT_BYTES = 24
"""Bytes a neuron and step while a population is computed: synaptic input and the copies that adding to it makes."""


@engine("gpu")
class GpuEngine(Engine):
    """All integers equal `simulate.simulate`; see `engine.base` for the interface.

    threads: not used. device: a torch device, default "cuda"; "cpu" runs the same steps in PyTorch on the processor
    (with TRITON_INTERPRET=1 the Triton kernels in their interpreter), which is meant for tests. Raises InputError
    if there is no GPU.
    """

    def __init__(self, graph: SpikingGraph, threads: int | None = None, device: str | None = None) -> None:
        super().__init__(graph, threads)
        if device is None and not torch.cuda.is_available():
            raise InputError("engine 'gpu' finds no GPU that PyTorch can use. Use the engine 'cpu'")
        self.device = torch.device(device or "cuda")
        with exact_on(self.device):
            self.plan: Plan = make_plan(graph, self.device, load_kernels(self.device))

    @cached_property
    def bytes_per_image(self) -> int:
        """Memory of one image, estimated high: every series kept, and the synaptic input of the largest population."""
        schedule = self.graph.schedule
        unary = max((p.ceiling - p.floor for p in self.graph.populations if p.payload == 1), default=0)
        at_once = schedule.input == "once" and schedule.bias != "spread"
        rows = 8 + 2 * unary + schedule.start_delay + (1 if at_once else schedule.duration)
        sent = sum(
            node.size * store_type(int(self.plan.payloads[node.name].max())).itemsize
            for node in self.graph.nodes
            if node.name in self.plan.payloads
        )
        return rows * (sent + SYNAPTIC_INPUT_BYTES * max(node.size for node in self.graph.nodes))

    @property
    def batch_size(self) -> int:
        indexed = STEP_ELEMENTS // max(node.size for node in self.graph.nodes)
        return int(max(1, min(MOST[self.device.type], indexed, self._free_bytes() // self.bytes_per_image)))

    def _free_bytes(self) -> int:
        if self.device.type != "cuda":
            return HOST_BYTES
        cached = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return int((torch.cuda.mem_get_info(self.device)[0] + cached) * SHARE)

    def run(
        self, emitted: Emitted, steps: int | None = None, record: Collection[str] = (),
        tallies: Tallies | None = None,
    ) -> BatchRun:  # fmt: skip
        self.check(emitted, steps, record)
        each = self.batch_size
        if isinstance(emitted, SpikeTrains):  # all layers work for as long as events enter
            each = max(1, each * self.graph.schedule.duration // max(emitted.steps, self.graph.schedule.duration))
        tiles: list[TileRun] = []
        with exact_on(self.device):
            for first in range(0, max(1, len(emitted)), each):
                for tile in self._tiles(emitted[first : first + each], steps, record, tallies):
                    if tiles:
                        tile.sent = {name: fold(tiles[0].sent[name], sent) for name, sent in tile.sent.items()}
                    tiles.append(tile)
            return self._merge(tiles, steps, record)

    def _tiles(
        self, emitted: Emitted, steps: int | None, record: Collection[str], tallies: Tallies | None
    ) -> list[TileRun]:
        """One tile, or the results of its halves if the device has not enough memory for it."""
        try:
            return [Tile(self.plan, emitted, steps, record, tallies).run()]
        except torch.OutOfMemoryError:
            if len(emitted) < 2:
                raise
        torch.cuda.empty_cache()
        half = len(emitted) // 2
        halves = (emitted[:half], emitted[half:])
        return [tile for part in halves for tile in self._tiles(part, steps, record, tallies)]

    def _merge(self, tiles: list[TileRun], steps: int | None, record: Collection[str]) -> BatchRun:
        settle = np.concatenate([tile.last_change for tile in tiles]) + 1
        end = int(settle.max(initial=0)) if steps is None else steps

        def joined(traces: Sequence[Trace]) -> Int32:
            return np.concatenate([trace.over(end) for trace in traces], axis=1)

        def kept(name: str, kind: str) -> Int32 | None:
            return joined([t.recorded[name][kind] for t in tiles]) if kind in tiles[0].recorded[name] else None

        return BatchRun(
            steps=end,
            settle_steps=settle,
            outputs={name: joined([tile.outputs[name] for tile in tiles]) for name in self.graph.outputs},
            activity={name: activity([tile.sent[name] for tile in tiles], end) for name in tiles[0].sent},
            recorded={
                name: Recording(kept(name, "spikes"), kept(name, "counts"), kept(name, "potentials")) for name in record
            },
        )
