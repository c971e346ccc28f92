"""Which image a process works on, and how far into it: the periodic reset that lets many images share one run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """Image i occupies the Lava steps offset + i * period + [1, active] of a node.

    period: steps from one image to the next. offset: steps by which this node starts later than the input.
    active: steps in which the node works; in the rest of the period it is silent and what is in flight is dropped.
    images: their number; after the last one the node is silent.
    """

    period: int
    offset: int
    active: int
    images: int

    def at(self, time_step: int) -> tuple[int, int] | None:
        """(image, step within it, from 0) of Lava's 1-based time step; None while silent."""
        image, phase = divmod(time_step - 1 - self.offset, self.period)
        return (image, phase) if 0 <= image < self.images and phase < self.active else None
