"""Time series on the device. Channels are the last axis: a map (C, H, W) lies in memory as (H, W, C).

A node is simulated in its own time: a series says in which global step its first row happened, and has rows only
while something may happen. Before and after there is silence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastsnn_deploy.simulators.engine import Int32


@dataclass(frozen=True)
class Series:
    """What one node sent. start: global step of the first row. rows: int8, int16 or int32 [T, B, *inner]."""

    start: int
    rows: Tensor

    @property
    def end(self) -> int:
        """Global step after the last row."""
        return self.start + len(self.rows)

    def trimmed(self, active: npt.NDArray[np.bool_]) -> Series:
        """Without silent rows at either end. active: bool [T], in which rows something was sent."""
        steps = np.flatnonzero(active)
        if not len(steps):
            return Series(0, self.rows[:0])
        return Series(self.start + int(steps[0]), self.rows[int(steps[0]) : int(steps[-1]) + 1])


def arrive(series: Series, delay: int, steps: int | None) -> Series:
    """A series `delay` steps later, without what would arrive in step `steps` or after."""
    start = series.start + delay
    kept = len(series.rows) if steps is None else max(0, min(len(series.rows), steps - start))
    return Series(start, series.rows[:kept])


def span(parts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """First step and the step after the last one of all parts (start, end) that hold a step; (0, 0) if none does."""
    held = [part for part in parts if part[1] > part[0]]
    if not held:
        return 0, 0
    return min(start for start, _ in held), max(end for _, end in held)


def inner_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(C, H, W) -> (H, W, C); (N,) stays."""
    return (*shape[1:], shape[0])


def to_inner(values: Tensor) -> Tensor:
    """[..., C, H, W] -> [..., H, W, C] for a batch of maps [N, C, H, W]; [N, features] stays."""
    return values.movedim(1, -1).contiguous()


def to_outer(values: Tensor, lead: int) -> npt.NDArray[np.generic]:
    """Channels back to the front of the node's own axes, as NumPy. lead: number of axes before them."""
    return values.movedim(-1, lead).contiguous().cpu().numpy()


def store_type(payload: int) -> torch.dtype:
    """Smallest integer type for payloads of magnitude up to `payload`, its lowest value unused."""
    if payload <= 127:
        return torch.int8
    return torch.int16 if payload <= 32767 else torch.int32


@dataclass(frozen=True)
class Trace:
    """A series on the host, for outputs and records.

    start: global step of the first row. values: int32 [T, B, *shape]. before: int32 [*shape] (or broadcast to it),
    the value in earlier steps. holds: the last value stays afterwards; otherwise 0 follows.
    """

    start: int
    values: Int32
    before: Int32
    holds: bool

    def over(self, steps: int) -> Int32:
        """The value of every global step: int32 [steps, B, *shape]."""
        full = np.zeros((steps, *self.values.shape[1:]), dtype=np.int32)
        first = min(self.start, steps) if len(self.values) else steps
        full[:first] = self.before
        last = min(first + len(self.values), steps)
        full[first:last] = self.values[: last - first]
        if self.holds and last > first:
            full[last:] = full[last - 1]
        return full


def host_trace(start: int, rows: Tensor, before: Int32, holds: bool) -> Trace:
    """A trace of device rows [T, B, *inner]."""
    return Trace(start, to_outer(rows.to(torch.int32), 2).astype(np.int32, copy=False), before, holds)
