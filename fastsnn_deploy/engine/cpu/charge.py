"""Charge that spikes cause: of steps with many messages by a product, of steps with few by following each one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.engine.cpu.kernels import list_events, repeat, scatter
from fastsnn_deploy.engine.cpu.plan import SynapsePlan
from fastsnn_deploy.engine.cpu.series import Events, Series

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

NOWHERE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Arrivals:
    """The spikes of one synapse's source, seen `delay` steps later."""

    plan: SynapsePlan
    series: Series
    delay: int

    @property
    def start(self) -> int:
        """First step in which charge may arrive."""
        return self.series.start + self.delay

    @property
    def end(self) -> int:
        """First step from which on none arrives."""
        return self.series.end + self.delay

    def dense(self, step: int, density: float) -> bool:
        """So many messages arrive in this step that a product is faster than following them."""
        sent = self.series.sent(step - self.delay)
        return sent > density * self.series.images * self.series.neurons

    def rows_end(self, density: float) -> int:
        """First step from which on all arriving messages are few, or `start`."""
        steps = range(self.end - 1, self.start - 1, -1)
        return next((step + 1 for step in steps if self.dense(step, density)), self.start)

    def events(self, step: int, images: slice) -> Events:
        """Messages that arrive in a step for a slice of images, which count from its start."""
        row = self.series.row(step - self.delay)
        if row >= 0:
            part = self.series.rows[images, row]
            room = int(self.series.messages[images, row].sum())
            return Events(*list_events(part, part.dtype.type(self.series.zero), room))
        events = self.series.events(step - self.delay)
        chosen = (events.image >= images.start) & (events.image < images.stop)
        return Events(events.image[chosen] - np.int32(images.start), events.neuron[chosen], events.value[chosen])

    def products(self, steps: list[int], images: slice) -> Float32:
        """Charge of whole steps for a slice of images, plus `shift`: float32 [images, steps, neurons]."""
        series = self.series
        rows = [series.row(step - self.delay) for step in steps]
        count = images.stop - images.start
        if rows == list(range(series.rows.shape[1])):
            chosen = series.rows[images]
        elif min(rows) >= 0:
            chosen = np.ascontiguousarray(series.rows[images][:, rows])
        else:
            chosen = np.full((count, len(rows), series.neurons), series.zero, dtype=series.rows.dtype)
            for at, (step, row) in enumerate(zip(steps, rows, strict=True)):
                if row >= 0:
                    chosen[:, at] = series.rows[images, row]
                else:
                    events = self.events(step, images)
                    chosen[events.image, at, events.neuron] = (events.value + series.zero).astype(chosen.dtype)
        charge = self.plan.product.call(chosen.reshape(count * len(rows), -1), series.zero)
        return charge.reshape(count, len(rows), -1)

    @property
    def shift(self) -> Float32:
        """What every row of `products` is too large by: float32 [neurons], or [0] for nothing."""
        return self.plan.product.shift(self.series.rows.dtype, self.series.zero)

    def follow(self, events: Events, image: npt.NDArray[np.integer], target: Float32) -> None:
        """Add the charge of events to target [rows, neurons]; image: the row of each event."""
        self.mark(events, image, target, NOWHERE, 0, NOWHERE, 0, marking=False)

    def mark(
        self, events: Events, image: npt.NDArray[np.integer], target: Float32, stamp: Int64, tick: int, where: Int64,
        found: int, marking: bool = True,
    ) -> int:  # fmt: skip
        """`follow`, listing the positions touched (see `kernels.scatter`)."""
        if not len(events):
            return found
        loop = repeat if self.plan.repeats else scatter
        return int(
            loop(
                image, events.neuron, events.value, self.plan.weight, self.plan.geometry, target, marking, stamp, tick,
                where, found,
            )
        )  # fmt: skip


def add_charge(arrivals: Arrivals, charge: Float32, density: float) -> None:
    """Add all charge of a synapse to float32 [B, steps, neurons]."""
    images = slice(0, len(charge))
    steps = range(arrivals.start, min(arrivals.end, charge.shape[1]))
    dense = [step for step in steps if arrivals.dense(step, density)]
    if dense:
        whole = arrivals.products(dense, images)
        charge[:, dense] += whole - arrivals.shift if len(arrivals.shift) else whole
    flat = charge.reshape(-1, charge.shape[2])
    for step in sorted(set(steps) - set(dense)):
        events = arrivals.events(step, images)
        arrivals.follow(events, events.image.astype(np.int64) * charge.shape[1] + step, flat)
