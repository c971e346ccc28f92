"""Synaptic input that spikes cause: of steps with many spikes by a product, of steps with few by following each one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.simulators.cpu.kernels import add_rows, list_events, scatter
from fastsnn_deploy.simulators.cpu.plan import SynapsePlan
from fastsnn_deploy.simulators.cpu.products import NO_SHIFT
from fastsnn_deploy.simulators.cpu.series import Events, Series

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
        """First step in which synaptic input may arrive."""
        return self.series.start + self.delay

    @property
    def end(self) -> int:
        """First step from which on none arrives."""
        return self.series.end + self.delay

    def dense(self, step: int, density: float) -> bool:
        """So many spikes arrive in this step that a product is faster than following them."""
        if self.series.followed:
            return False
        sent = self.series.sent(step - self.delay)
        return sent > density * self.series.images * self.series.neurons

    def rows_end(self, density: float) -> int:
        """First step from which on all arriving spikes are few, or `start`."""
        steps = range(self.end - 1, self.start - 1, -1)
        return next((step + 1 for step in steps if self.dense(step, density)), self.start)

    def events(self, step: int, images: slice) -> Events:
        """Spikes that arrive in a step for a slice of images, which count from its start."""
        row = self.series.row(step - self.delay)
        if row >= 0:
            part = self.series.rows[images, row]
            room = int(self.series.spikes[images, row].sum())
            return Events(*list_events(part, part.dtype.type(self.series.zero), room))
        events = self.series.events(step - self.delay)
        chosen = (events.image >= images.start) & (events.image < images.stop)
        return Events(events.image[chosen] - np.int32(images.start), events.neuron[chosen], events.value[chosen])

    def products(self, steps: list[int], images: slice) -> Float32:
        """Synaptic input of whole steps for a slice of images, plus `shift`: float32 [images, steps, neurons]."""
        chosen = self.rows(steps, images)
        synaptic_input = self.plan.product.call(chosen.reshape(len(chosen) * len(steps), -1), self.series.zero)
        return synaptic_input.reshape(len(chosen), len(steps), -1)

    def rows(self, steps: list[int], images: slice) -> npt.NDArray[np.generic]:
        """Spikes that arrive in some steps for a slice of images, [images, steps, source neurons]."""
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
        return chosen

    @property
    def shift(self) -> Float32:
        """What every row of `products` is too large by: float32 [neurons], or [0] for nothing."""
        return self.plan.product.shift(self.series.rows.dtype, self.series.zero)

    def follow(self, events: Events, image: npt.NDArray[np.integer], target: Float32) -> None:
        """Add the synaptic input of events to target [rows, neurons]; image: the row of each event."""
        self.mark(events, image, target, NOWHERE, 0, NOWHERE, 0, marking=False)

    def mark(
        self, events: Events, image: npt.NDArray[np.integer], target: Float32, stamp: Int64, tick: int, where: Int64,
        found: int, marking: bool = True,
    ) -> int:  # fmt: skip
        """`follow`, listing the positions touched (see `kernels.scatter`)."""
        if not len(events):
            return found
        return int(
            scatter(
                image, events.neuron, events.value, self.plan.weight, self.plan.geometry, target, marking, stamp, tick,
                where, found,
            )
        )  # fmt: skip


class Sources:
    """Which steps of which synapse go through products, and which are followed.

    apart: steps that someone else takes care of, by the id of their arrivals.
    """

    def __init__(self, arrivals: list[Arrivals], start: int, end: int, density: float,
                 apart: Mapping[int, set[int]] | None = None) -> None:  # fmt: skip
        self.arrivals, self.start, self.end = arrivals, start, end
        apart = apart or {}
        steps = [
            [t for t in range(max(a.start, start), min(a.end, end)) if t not in apart.get(id(a), ())] for a in arrivals
        ]
        self.dense = [[t for t in ts if a.dense(t, density)] for a, ts in zip(arrivals, steps, strict=True)]
        self.sparse = [
            [t for t in ts if t not in set(dense) and a.series.sent(t - a.delay)]
            for a, ts, dense in zip(arrivals, steps, self.dense, strict=True)
        ]
        self.followed = sorted(set().union(*self.sparse))
        self.steps = sorted(set(self.followed).union(*self.dense))

    def synaptic_input(self, images: slice) -> tuple[Float32, Float32, Int64]:
        """Synaptic input float32 [images, rows, neurons], its shift (see `Arrivals`), and the row of each step, -1
        for none."""
        rows = np.full(max(self.end - self.start, 0), -1, dtype=np.int64)
        steps = self.steps
        rows[np.asarray(steps, dtype=np.int64) - self.start] = np.arange(len(steps))
        products = [(a, dense) for a, dense in zip(self.arrivals, self.dense, strict=True) if dense]
        if len(products) == 1 and products[0][1] == steps and not self.followed:
            return products[0][0].products(steps, images), products[0][0].shift, rows
        neurons = self.arrivals[0].plan.synapse.size if self.arrivals else 0
        total: Float32 | None = None
        # one whose synaptic input can start the sum as it is, then the others
        products.sort(key=lambda each: each[1] != steps or bool(len(each[0].shift)))
        for arrivals, dense in products:
            synaptic_input = arrivals.products(dense, images)
            if total is None and dense == steps and not len(arrivals.shift):
                total = synaptic_input
                continue
            if total is None:
                total = np.zeros((images.stop - images.start, len(steps), neurons), dtype=np.float32)
            at = np.asarray(np.searchsorted(steps, dense), dtype=np.int64)
            add_rows(total, at, synaptic_input, arrivals.shift)
        if total is None:
            total = np.zeros((images.stop - images.start, len(steps), neurons), dtype=np.float32)
        self._follow(images, steps, total)
        return total, NO_SHIFT, rows

    def _follow(self, images: slice, steps: list[int], total: Float32) -> None:
        count, rows, neurons = total.shape
        for arrivals, followed in zip(self.arrivals, self.sparse, strict=True):
            for step in followed:
                events = arrivals.events(step, images)
                at = events.image.astype(np.int64) * rows + steps.index(step)
                arrivals.follow(events, at, total.reshape(count * rows, neurons))


def add_synaptic_input(arrivals: Arrivals, synaptic_input: Float32, density: float) -> None:
    """Add all synaptic input of a synapse to float32 [B, steps, neurons]."""
    images = slice(0, len(synaptic_input))
    steps = range(arrivals.start, min(arrivals.end, synaptic_input.shape[1]))
    dense = [step for step in steps if arrivals.dense(step, density)]
    if dense:
        whole = arrivals.products(dense, images)
        synaptic_input[:, dense] += whole - arrivals.shift if len(arrivals.shift) else whole
    flat = synaptic_input.reshape(-1, synaptic_input.shape[2])
    for step in sorted(set(steps) - set(dense)):
        events = arrivals.events(step, images)
        arrivals.follow(events, events.image.astype(np.int64) * synaptic_input.shape[1] + step, flat)
