"""One tile of images through the whole graph, node by node, each node with all its steps at once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastsnn_deploy.graph import Concat, Flatten, Identity, Input, MaxPool2d, Node, Population, Readout, Synapse
from fastsnn_deploy.graph.arithmetic import per_channel
from fastsnn_deploy.graph.spike_trains import Emitted, SpikeTrains
from fastsnn_deploy.simulators.engine import Int64, Tallies
from fastsnn_deploy.simulators.gpu.kernels import Beside
from fastsnn_deploy.simulators.gpu.neurons import Advance, Cell, Drive, State, settle, torch_advance
from fastsnn_deploy.simulators.gpu.plan import Plan
from fastsnn_deploy.simulators.gpu.pool import pool_spikes
from fastsnn_deploy.simulators.gpu.series import (
    Series,
    Trace,
    arrive,
    host_trace,
    inner_shape,
    span,
    store_type,
    to_inner,
)
from fastsnn_deploy.simulators.gpu.statistics import Sent, count_sent
from fastsnn_deploy.simulators.gpu.synaptic_inputs import IdentitySynapticInput


@dataclass
class TileRun:
    """What a tile of B images gave: last_change int64 [B], outputs and records as traces, what was sent."""

    last_change: Int64
    outputs: dict[str, Trace] = field(default_factory=dict)
    sent: dict[str, Sent] = field(default_factory=dict)
    recorded: dict[str, dict[str, Trace]] = field(default_factory=dict)


@dataclass(frozen=True)
class Fused:
    """Positions among a population's arms of those that go into the convolution kernel."""

    conv: int
    identity: int | None


class Tile:
    """A simulation of B images. emitted: int [B, *input shape], or SpikeTrains. steps: global steps, None until all is
    settled."""

    def __init__(
        self, plan: Plan, emitted: Emitted, steps: int | None, record: Collection[str],
        tallies: Tallies | None = None,
    ) -> None:  # fmt: skip
        self.plan = plan
        self.graph = plan.graph
        self.emitted = emitted
        self.batch = len(emitted)
        self.steps = steps
        self.record = frozenset(record)
        self.tallies = tallies
        self.series: dict[str, Series] = {}
        self.result = TileRun(np.full(self.batch, -1, dtype=np.int64))

    def run(self) -> TileRun:
        """Advance every node in topological order."""
        for node in self.graph.nodes:
            if type(node) in ADVANCES:
                ADVANCES[type(node)](self, node)
            for name in self.plan.released.get(node.name, ()):
                del self.series[name]
        return self.result

    def input(self, node: Input) -> None:
        """The shares of the image, or events, from step 0 on."""
        injection = self.graph.schedule.input_injection
        device = self.plan.device
        if isinstance(self.emitted, SpikeTrains):
            shape = (self.emitted.steps, self.batch, *inner_shape(node.shape))
            rows = torch.empty(shape, dtype=store_type(self._payload(node)), device=device)
            for step in range(len(rows)):
                rows[step] = to_inner(torch.from_numpy(self.emitted.at(step)).to(device))
            self._send(node, arrive(Series(0, rows), 0, self.steps))
            return
        total = to_inner(torch.from_numpy(np.ascontiguousarray(self.emitted)).to(device).long())
        shape = (injection.steps, *total.shape)
        rows = torch.empty(shape, dtype=store_type(self._payload(node)), device=device)
        for step in range(injection.steps):  # `Injection.share`
            ends = (torch.div(total * part, injection.window, rounding_mode="floor") for part in (step + 1, step))
            until, before = ends
            rows[step] = until - before
        self._send(node, arrive(Series(0, rows), 0, self.steps))

    def population(self, node: Population) -> None:
        """All neurons through all steps, from the first arrival until they have settled."""
        if self.graph.schedule.stop == "window" or self.graph.schedule.start_delay:
            self._held_back(node)
            return
        cell, bias = self.plan.cells[node.name], self.plan.biases[node.name]
        arms = self._arms(node)
        parts = [(arm.start, arm.end) for _, arm in arms] + [self._clip(bias.start, bias.end)]
        start, end = span([*parts, self._clip(0, int(cell.restless))])
        rows = end - start
        if not rows:
            self._send(node, Series(0, self._silence(node)))
            self._keep_potential(node, 0, torch.zeros((0, self.batch, *cell.inner), dtype=torch.int32))
            return
        limit = None if self.steps is None else self.steps - start
        first, advance, drive = self._first(node, arms, start, end)
        spikes = settle(cell, self.batch, rows, limit, first, advance)
        self._send(node, Series(start, spikes))
        if node.name in self.record:
            self._keep_potential(node, start, self._potential(node, spikes, drive))

    def _held_back(self, node: Population) -> None:
        """All neurons from their depth on, through their window or until they have settled; what came before counts in
        their first step."""
        cell, bias, depth = self.plan.cells[node.name], self.plan.biases[node.name], self.graph.depths[node.name]
        arms, stops = self._arms(node), self.graph.schedule.stop == "window"
        parts = [(arm.start, arm.end) for _, arm in arms] + [self._clip(bias.start, bias.end)]
        last = depth + self.graph.schedule.duration if stops else max(depth + 1, *(end for _, end in parts))
        begin, close = self._clip(depth, last)
        start, end = span([*parts, (begin, close)])
        spikes, drive = self._silence(node), None
        if begin < close:
            first, advance, drive = self._first(node, arms, start, end, alone=start < begin)
            if start < begin:
                first = partial(_held, advance, cell, drive, begin - start)
            limit = close if stops else self.steps
            limit = None if limit is None else limit - begin
            spikes = settle(cell, self.batch, close - begin, limit, first, advance)
        self._send(node, Series(begin if len(spikes) else 0, spikes))
        if node.name in self.record:
            if drive is None:
                drive = Drive(self._synaptic_input(node, arms, start, end), self._bias(node, start, end))
            until = max(end, begin + len(spikes))
            sent = torch.zeros((until - start, *spikes.shape[1:]), dtype=spikes.dtype, device=spikes.device)
            if len(spikes):
                sent[begin - start : begin - start + len(spikes)] = spikes
            self._keep_potential(node, start, self._potential(node, sent, drive))

    def _first(
        self, node: Population, arms: list[tuple[str, Series]], start: int, end: int, alone: bool = False
    ) -> tuple[Callable[[State, Tensor], bool], Advance, Drive]:
        """How to advance neurons through the steps that bring synaptic input, and later ones; what the neuron kernel
        reads.

        alone: the neuron kernel gets all synaptic input, none goes into the convolution kernel.
        """
        cell, kernels = self.plan.cells[node.name], self.plan.kernels
        fused = None if alone else self._fused(node, arms)
        taken = () if fused is None else (fused.conv, fused.identity)
        others = [arm for i, arm in enumerate(arms) if i not in taken]
        drive = Drive(self._synaptic_input(node, others, start, end), self._bias(node, start, end))
        advance = torch_advance if kernels is None else kernels.advance

        def first(state: State, spikes: Tensor) -> bool:
            if kernels is None or fused is None:
                return advance(cell, state, drive, spikes)
            name, arriving = arms[fused.conv]
            form, offset = self.plan.fused[name], arriving.start - start
            beside = None if fused.identity is None else self._beside(*arms[fused.identity], start)
            return kernels.advance_conv(form, cell, state, arriving.rows, offset, drive, spikes, beside)

        return first, advance, drive

    def readout(self, node: Readout) -> None:
        """The running sum of synaptic input."""
        bias, arms = self.plan.biases[node.name], self._arms(node)
        start, end = span([*((arm.start, arm.end) for _, arm in arms), self._clip(bias.start, bias.end)])
        synaptic_input = self._synaptic_input(node, arms, start, end)
        if synaptic_input is None:
            synaptic_input = torch.zeros((end - start, self.batch, *inner_shape(node.shape)), dtype=torch.int32)
            synaptic_input = synaptic_input.to(self.plan.device)
        synaptic_input += per_row(self._bias(node, start, end), synaptic_input)
        self._note_change(start, (synaptic_input != 0).flatten(2).any(2).cpu().numpy())
        trace = host_trace(start, synaptic_input.cumsum(0), np.zeros((), dtype=np.int32), holds=True)
        self._keep(node.name, "potentials", trace, output=True)

    def max_pool(self, node: MaxPool2d) -> None:
        """Changes of the maximum of what has arrived."""
        source = arrive(self.series[node.inputs[0]], node.delay, self.steps)
        kernels = self.plan.kernels
        pool = pool_spikes if kernels is None else kernels.pool_spikes
        self._send(node, Series(source.start, pool(node, source.rows)))

    def flatten(self, node: Flatten) -> None:
        """Maps to vectors in the order C, H, W."""
        source = self.series[node.inputs[0]]
        rows = source.rows.movedim(-1, 2).flatten(2) if source.rows.dim() > 3 else source.rows
        self.series[node.name] = Series(source.start, rows.contiguous())

    def concat(self, node: Concat) -> None:
        """Channels side by side, each arm with its delay."""
        arms = [arrive(self.series[name], d, self.steps) for name, d in zip(node.inputs, node.delays, strict=True)]
        start, end = span((arm.start, arm.end) for arm in arms)
        shape = (end - start, self.batch, *inner_shape(node.shape))
        rows = torch.zeros(shape, dtype=store_type(self._payload(node)), device=self.plan.device)
        channel = 0
        for arm in arms:
            width = arm.rows.shape[-1]
            if len(arm.rows):
                rows[arm.start - start : arm.end - start, ..., channel : channel + width] = arm.rows
            channel += width
        self.series[node.name] = Series(start, rows)

    def _payload(self, node: Node) -> int:
        return int(self.plan.payloads[node.name].max(initial=0))

    def _silence(self, node: Node) -> Tensor:
        dtype = store_type(self._payload(node))
        return torch.zeros((0, self.batch, *inner_shape(node.shape)), dtype=dtype, device=self.plan.device)

    def _clip(self, start: int, end: int) -> tuple[int, int]:
        return (start, end) if self.steps is None else (start, min(end, self.steps))

    def _arms(self, node: Population | Readout) -> list[tuple[str, Series]]:
        """What arrives over each synapse of a node, by synapse name; silent ones left out."""
        names = [name for name in node.inputs if name not in self.plan.joined]
        synapses = [s for s in map(self.graph.by_name.get, names) if isinstance(s, Synapse)]
        arms = [(s.name, arrive(self.series[s.inputs[0]], s.delay, self.steps)) for s in synapses]
        return [(name, arm) for name, arm in arms if len(arm.rows)]

    def _fused(self, node: Population, arms: list[tuple[str, Series]]) -> Fused | None:
        """The arms that the convolution kernel takes. Records need the synaptic input itself."""
        kernels = self.plan.kernels
        if kernels is None or node.name in self.record:
            return None
        convs = [i for i, (name, _) in enumerate(arms) if name in self.plan.fused]
        identities = [i for i, (name, _) in enumerate(arms) if isinstance(self.graph[name], Identity)]
        return Fused(convs[0], identities[0] if identities else None) if convs else None

    def _beside(self, name: str, arm: Series, start: int) -> Beside:
        synaptic_input = self.plan.synaptic_inputs[name]
        assert isinstance(synaptic_input, IdentitySynapticInput)
        return Beside(synaptic_input.weight, arm.rows, arm.start - start)

    def _synaptic_input(self, node: Node, arms: list[tuple[str, Series]], start: int, end: int) -> Tensor | None:
        """Synaptic input of the arms in the steps [start, end): int32 [T, B, *inner]; None without an arm."""
        if not arms:
            return None
        shape = (end - start, self.batch, *inner_shape(node.shape))
        total = torch.zeros(shape, dtype=torch.int32, device=self.plan.device)
        for name, arm in arms:
            into = total[arm.start - start : arm.end - start]
            self.plan.synaptic_inputs[name].add(arm.rows.flatten(0, 1), into.view(-1, *shape[2:]))
        return total

    def _bias(self, node: Population | Readout, start: int, end: int) -> Tensor:
        """Shares of the bias in the steps [start, end): int32 [T, C]."""
        bias = self.plan.biases[node.name]
        rows = torch.zeros((end - start, node.channels), dtype=torch.int32, device=self.plan.device)
        first, last = self._clip(bias.start, bias.end)
        if last > first:
            rows[first - start : last - start] = bias.shares[: last - first]
        return rows

    def _send(self, node: Node, series: Series) -> None:
        """Count, trim, record and keep what a node sent."""
        sent = self.result.sent[node.name] = count_sent(
            series, self._payload(node) <= 1, self.plan.kernels, node.name, self.tallies
        )
        active = sent.per_image > 0
        self._note_change(series.start, active)
        self.series[node.name] = kept = series.trimmed(np.asarray(active.any(1)))
        if node.name not in self.record and node.name not in self.graph.outputs:
            return
        zero = np.zeros((), dtype=np.int32)
        if node.name in self.record:
            self._keep(node.name, "spikes", host_trace(kept.start, kept.rows, zero, holds=False))
        if not isinstance(node, Input):
            counts = kept.rows.cumsum(0, dtype=torch.int32)
            self._keep(node.name, "counts", host_trace(kept.start, counts, zero, holds=True), output=True)

    def _potential(self, node: Population, spikes: Tensor, drive: Drive) -> Tensor:
        """After each step: int32 [T, B, *inner], initial + synaptic input - threshold * count."""
        cell = self.plan.cells[node.name]
        potential = cell.initial - cell.threshold * spikes.cumsum(0, dtype=torch.int32)
        arrived = drive.bias.cumsum(0, dtype=torch.int32)
        potential[: len(arrived)] += per_row(arrived, potential[: len(arrived)])
        if len(arrived):
            potential[len(arrived) :] += arrived[-1]
        if drive.synaptic_input is not None:
            total = drive.synaptic_input.cumsum(0, dtype=torch.int32)
            potential[: len(total)] += total
            potential[len(total) :] += total[-1]
        return potential

    def _keep_potential(self, node: Population, start: int, potential: Tensor) -> None:
        before = np.broadcast_to(per_channel(node.initial, len(node.shape)), node.shape).astype(np.int32)
        self._keep(node.name, "potentials", host_trace(start, potential, before, holds=True))

    def _keep(self, name: str, kind: str, trace: Trace, output: bool = False) -> None:
        if output and name in self.graph.outputs:
            self.result.outputs[name] = trace
        if name in self.record:
            self.result.recorded.setdefault(name, {})[kind] = trace

    def _note_change(self, start: int, active: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
        """The last step in which each image changed. active: bool [T, B]."""
        if len(active):
            last = len(active) - 1 - active[::-1].argmax(0)
            change = np.where(active.any(0), start + last, -1)
            np.maximum(self.result.last_change, change, out=self.result.last_change)


def _held(advance: Advance, cell: Cell, drive: Drive, steps: int, state: State, spikes: Tensor) -> bool:
    """Neurons that may not fire in the first `steps` steps of `drive`, and do so through `spikes` afterwards."""
    synaptic_input = drive.synaptic_input
    state.potential += drive.bias[:steps].sum(0, dtype=torch.int32)
    if synaptic_input is not None:
        state.potential += synaptic_input[:steps].sum(0, dtype=torch.int32)
    late = Drive(
        None if synaptic_input is None else synaptic_input[steps:].contiguous(), drive.bias[steps:].contiguous()
    )
    return advance(cell, state, late, spikes)


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """[T, C] so that it broadcasts over `like`, [T, B, ..., C]."""
    return values.reshape(len(values), *(1,) * (like.dim() - 2), values.shape[1])


ADVANCES: dict[type[Node], Callable[[Tile, Any], None]] = {
    Input: Tile.input,
    Population: Tile.population,
    Readout: Tile.readout,
    MaxPool2d: Tile.max_pool,
    Flatten: Tile.flatten,
    Concat: Tile.concat,
}
"""What a tile does at each type of node; synapses act when their population does."""
