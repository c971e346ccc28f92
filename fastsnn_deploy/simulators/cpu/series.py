"""Spikes of one source over time for a tile of images, as the CPU engine keeps them.

The neurons of a feature map lie position by position, channels innermost: index = (y * W + x) * C + c. Steps in
which much happens are rows of an array; the few late corrections after them are lists of events.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Events:
    """Spikes of one step: image int32 [n], neuron int32 [n], value int32 [n], never 0."""

    image: Int32
    neuron: Int32
    value: Int32

    def __len__(self) -> int:
        return len(self.image)


def no_events() -> Events:
    """A step in which nothing is sent."""
    empty = np.empty(0, dtype=np.int32)
    return Events(empty, empty, empty)


@dataclass(frozen=True)
class Series:
    """Steps before `start` and after the last of `tail` are silent.

    rows: uint8 or float32 [B, R, neurons], value + zero, of steps start .. start + R - 1. spikes: int32 [B, R],
    how many values of a row are not silent. tail: of the steps that follow. followed: products are made for smaller
    values; every spike is to be followed.
    """

    start: int
    rows: npt.NDArray[np.generic]
    zero: int
    spikes: Int32
    tail: tuple[Events, ...] = ()
    followed: bool = False

    @property
    def images(self) -> int:
        """Images of the tile."""
        return len(self.rows)

    @property
    def neurons(self) -> int:
        """Length of a row."""
        return int(self.rows.shape[2])

    @property
    def tail_start(self) -> int:
        """Step of the first events of the tail."""
        return self.start + int(self.rows.shape[1])

    @property
    def end(self) -> int:
        """The first step from which on all are silent, as far as the layout tells."""
        return self.tail_start + len(self.tail)

    def row(self, step: int) -> int:
        """Row of a step, or -1."""
        row = step - self.start
        return row if 0 <= row < self.rows.shape[1] else -1

    def events(self, step: int) -> Events:
        """The tail's events of a step; none outside the tail."""
        at = step - self.tail_start
        return self.tail[at] if 0 <= at < len(self.tail) else no_events()

    def sent(self, step: int) -> int:
        """Spikes of all images in a step."""
        row = self.row(step)
        return int(self.spikes[:, row].sum()) if row >= 0 else len(self.events(step))

    def values(self, steps: int) -> Int32:
        """All spikes of steps 0 .. steps - 1 as int32 [steps, B, neurons]."""
        series = np.zeros((steps, self.images, self.neurons), dtype=np.int32)
        for step in range(self.start, min(self.end, steps)):
            row = self.row(step)
            if row >= 0:
                series[step] = self.rows[:, row].astype(np.int32) - self.zero
            else:
                events = self.events(step)
                series[step, events.image, events.neuron] = events.value
        return series

    def per_image(self, steps: int) -> Int64:
        """Spikes of each image in each step, int64 [steps, B]."""
        sent = np.zeros((steps, self.images), dtype=np.int64)
        for step in range(self.start, min(self.end, steps)):
            row = self.row(step)
            if row >= 0:
                sent[step] = self.spikes[:, row]
            else:
                sent[step] = np.bincount(self.events(step).image, minlength=self.images)
        return sent


def fill(rows: npt.NDArray[np.generic], zero: int, at: int, events: Events) -> None:
    """Write events into row `at` of a silent array [B, R, neurons]."""
    rows[events.image, at, events.neuron] = (events.value + zero).astype(rows.dtype)
