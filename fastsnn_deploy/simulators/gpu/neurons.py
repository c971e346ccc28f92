"""Neurons over many steps: their parameters on the device, their state, and the plain PyTorch time loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastsnn_deploy.graph import Population
from fastsnn_deploy.graph.arithmetic import per_channel
from fastsnn_deploy.simulators.engine import Int64
from fastsnn_deploy.simulators.gpu.series import inner_shape, store_type

TAIL = 6
"""Steps that a unary network usually takes to settle after its last input, run with the others."""

CHUNK = 8
"""Further steps until the next look at whether all neurons have settled."""

SLACK = 10_000
"""Steps beyond the count range after which a population that still fires breaks the settling theorem."""


@dataclass(frozen=True)
class Cell:
    """Neurons of one population on the device.

    threshold, initial: int32 [C]. inner: shape without the batch. tail: steps worth running after the last input.
    dtype: of stored spikes. restless: a neuron fires at rest, before anything arrived.
    """

    threshold: Tensor
    initial: Tensor
    floor: int
    ceiling: int
    min_spike: int
    max_spike: int
    inner: tuple[int, ...]
    tail: int
    dtype: torch.dtype
    restless: bool

    def emit(self, potential: Tensor, count: Tensor) -> Tensor:
        """Spikes of one step: int32, from int32 potential and count [B, *inner]."""
        due = (potential // self.threshold + count).clamp(self.floor, self.ceiling) - count  # `//` of tensors floors
        return due.clamp(self.min_spike, self.max_spike)

    @property
    def single(self) -> bool:
        """Every spike is 1 or -1."""
        return max(-self.min_spike, self.max_spike) == 1


def make_cell(node: Population, payload: Int64, device: torch.device) -> Cell:
    """The neurons of a population. payload: greatest |spike|, int64 [C]."""
    at_rest = node.emit(per_channel(node.initial, len(node.shape)), np.zeros((), dtype=np.int64))
    most = node.ceiling - node.floor
    return Cell(
        threshold=torch.from_numpy(node.threshold.astype(np.int32)).to(device),
        initial=torch.from_numpy(node.initial.astype(np.int32)).to(device),
        floor=node.floor,
        ceiling=node.ceiling,
        min_spike=max(node.min_spike, -most),
        max_spike=min(node.max_spike, most),
        inner=inner_shape(node.shape),
        tail=min(TAIL, -(-most // node.payload) - 1),
        dtype=store_type(int(payload.max(initial=0))),
        restless=bool(at_rest.any()),
    )


@dataclass
class State:
    """potential, count: int32 [B, *inner], contiguous; changed by every step."""

    potential: Tensor
    count: Tensor


def rest(cell: Cell, batch: int) -> State:
    """The state before the first step."""
    potential = cell.initial.expand(batch, *cell.inner).clone(memory_format=torch.contiguous_format)
    return State(potential, torch.zeros_like(potential))


@dataclass(frozen=True)
class Drive:
    """What arrives: synaptic input int32 [T, B, *inner], or None for silence; bias int32 [T, C], its share of each
    step."""

    synaptic_input: Tensor | None
    bias: Tensor


Advance = Callable[[Cell, State, "Drive | None", Tensor], bool]
"""advance(cell, state, drive, spikes) fills spikes [R, B, *inner], R >= T; true if a neuron would go on firing."""


def torch_advance(cell: Cell, state: State, drive: Drive | None, spikes: Tensor) -> bool:
    """One step after another in PyTorch: works on every device."""
    for step in range(len(spikes)):
        if drive is not None and step < len(drive.bias):
            state.potential += drive.bias[step]
            if drive.synaptic_input is not None:
                state.potential += drive.synaptic_input[step]
        sent = cell.emit(state.potential, state.count)
        state.potential -= cell.threshold * sent
        state.count += sent
        spikes[step] = sent
    return bool(cell.emit(state.potential, state.count).any())


def settle(
    cell: Cell, batch: int, rows: int, limit: int | None, first: Callable[[State, Tensor], bool], advance: Advance
) -> Tensor:
    """Run neurons until none would fire, or for `limit` steps: spikes [R, B, *inner].

    rows: steps in which something arrives. first: advances the state through all of them, as an `Advance` does.
    advance: for the steps after them. Raises AssertionError if neurons never rest.
    """
    state = rest(cell, batch)
    last = rows + SLACK + cell.ceiling - cell.floor if limit is None else limit
    spikes = torch.empty(
        (min(rows + cell.tail, last), batch, *cell.inner), dtype=cell.dtype, device=cell.initial.device
    )
    pending = first(state, spikes)
    pieces, done = [spikes], len(spikes)
    while pending and done < last:
        more = torch.empty((min(CHUNK, last - done), *spikes.shape[1:]), dtype=cell.dtype, device=spikes.device)
        pending = advance(cell, state, None, more)
        pieces.append(more)
        done += len(more)
    if pending and limit is None:
        raise AssertionError(f"not settled after {done} steps: the settling theorem is violated")
    return torch.cat(pieces) if len(pieces) > 1 else spikes
