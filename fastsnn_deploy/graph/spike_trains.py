"""What an input sends spike by spike, in place of an image: the events of a camera, one spike each.

Since a settled count depends on the sum of all synaptic input and not on its history, a network that has received all
spikes counts what it counts for their frame, whatever their order.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError, real_number, whole_number, wrong_type
from fastsnn_deploy.graph.encoded import Encoded
from fastsnn_deploy.graph.events import POLARITIES, Events
from fastsnn_deploy.graph.schedule import Injection

if TYPE_CHECKING:
    from fastsnn_deploy.graph.nodes.input import Input

Int64 = npt.NDArray[np.int64]

BIN_US = 1000.0
"""Microseconds of a time bin unless the user says otherwise."""

MOST_STEPS = 20_000
"""Time bins of one recording: the series of all neurons over so many steps are what memory can hold."""

NO_EVENTS = "stock neurons take whole frames, not events one by one. Give the frames: trains.total()"


@dataclass(frozen=True, eq=False)
class SpikeTrains:
    """N recordings as the spikes of an input, each of size 1. Made by `spike_trains`.

    Attributes:
        shape: Of the input, (C, H, W).
        recordings: N.
        recording, step, neuron: Of each spike: int64 [S], sorted by step; a neuron, in C, H, W order, sends one spike a
            step at most. Step 0 is that of a recording's first event.
        bin_us: Microseconds of a step.
        late: int64 [N], events that entered after their time bin, because their pixel had sent a spike in it.
        dropped: int64 [N], events that did not enter, because their pixel had sent all that the input can count.
    """

    shape: tuple[int, ...]
    recordings: int
    recording: Int64
    step: Int64
    neuron: Int64
    bin_us: float = BIN_US
    late: Int64 = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    dropped: Int64 = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __len__(self) -> int:
        return self.recordings

    def __repr__(self) -> str:
        return f"SpikeTrains({self.recordings:,} recordings, {len(self.step):,} spikes, {self.steps:,} steps)"

    @cached_property
    def steps(self) -> int:
        """T, steps after which every spike has been sent."""
        return int(self.step[-1]) + 1 if len(self.step) else 0

    @cached_property
    def lengths(self) -> Int64:
        """Steps after which all spikes of a recording have been sent: int64 [N]."""
        last = np.zeros(self.recordings, dtype=np.int64)
        np.maximum.at(last, self.recording, self.step + 1)
        return last

    @cached_property
    def _bounds(self) -> Int64:
        return np.searchsorted(self.step, np.arange(self.steps + 1))

    def at(self, step: int) -> Int64:
        """What is sent in a step: int64 [N, *shape], 0 and 1."""
        sent = np.zeros((self.recordings, math.prod(self.shape)), dtype=np.int64)
        if 0 <= step < self.steps:
            part = slice(self._bounds[step], self._bounds[step + 1])
            sent[self.recording[part], self.neuron[part]] = 1
        return sent.reshape(self.recordings, *self.shape)

    def total(self) -> Encoded:
        """All spikes added up: the frames, as the input would send them at once. int64 [N, *shape]."""
        size = math.prod(self.shape)
        counts = np.bincount(self.recording * size + self.neuron, minlength=self.recordings * size)
        return Encoded(counts.reshape(self.recordings, *self.shape))

    def __getitem__(self, chosen: slice) -> SpikeTrains:
        """Some of the recordings; a slice with step 1."""
        if not isinstance(chosen, slice) or chosen.step not in (None, 1):
            raise wrong_type("spike trains are taken by", chosen, "a slice without a step, as trains[:3]")
        start, stop, _ = chosen.indices(self.recordings)
        kept = (self.recording >= start) & (self.recording < stop)
        return SpikeTrains(
            self.shape, max(stop - start, 0), self.recording[kept] - start, self.step[kept], self.neuron[kept],
            self.bin_us, self.late[start:stop], self.dropped[start:stop],
        )  # fmt: skip

    def shuffled(self, seed: int = 0) -> SpikeTrains:
        """The same spikes at other times, drawn over as many steps: the settled counts stay. Raises InputError for a
        seed that is none."""
        rng = np.random.default_rng(whole_number("seed", seed, 0))
        size = math.prod(self.shape)
        group = self.recording * size + self.neuron
        group, step, _, _ = _queued(group, rng.integers(0, max(self.steps, 1), len(group)))
        order = np.argsort(step, kind="stable")
        recording, neuron = np.divmod(group[order], size)
        return SpikeTrains(self.shape, self.recordings, recording, step[order], neuron, self.bin_us)


class SpikeReader(ABC):
    """Recordings that lie elsewhere: what takes a batch after the other asks for slices, and holds no more."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, chosen: slice) -> SpikeTrains:
        """Some of the recordings as spikes."""


Emitted = npt.NDArray[np.integer] | SpikeTrains
"""What enters a network: integers [N, *input shape], spread over time by its schedule, or spikes with times of their
own."""


def entering(emitted: Emitted, injection: Injection) -> tuple[int, Callable[[int], Int64]]:
    """(steps in which something may enter, what the input sends in a step: int64 [N, *shape])."""
    if isinstance(emitted, SpikeTrains):
        return emitted.steps, emitted.at
    return injection.steps, lambda step: injection.share(emitted, step)


def spike_trains(recordings: Events | Sequence[Events], source: Input, bin_us: float = BIN_US) -> SpikeTrains:
    """Events as the spikes of a network's input: one event is one spike, in its own time bin, at its own pixel.

    Nothing is encoded. A pixel that has two events of a polarity in one bin sends the second spike in the next step,
    as a binary spike must; of more events than the input can count the later ones do not enter, as in a frame. Both
    are counted.

    Args:
        recordings: One `Events` or several.
        source: The network's input, (2, H, W), which counts from 0 and subtracts no mean: `graph.input`.
        bin_us: Microseconds of a time step.

    Returns:
        The spikes; every function that takes images takes them.

    Raises:
        InputError: the input is no camera's, an event lies outside it, or a recording takes too many steps.

    Example:
        >>> import fastsnn_deploy as fd
        >>> import torch
        >>> q = fd.prepare(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8, 3)), input_shape=(2, 2, 2),
        ...                input_step=1.0, input_levels=(0, 15))
        >>> events = fd.Events(t=[0, 500, 5200], x=[1, 1, 0], y=[0, 0, 1], p=[1, 1, 0])
        >>> trains = fd.spike_trains([events], fd.convert(q).input)
        >>> trains.step.tolist(), trains.late.tolist()
        ([0, 1, 5], [1])
    """
    found = [recordings] if isinstance(recordings, Events) else _sequence(recordings)
    bin_us = real_number("bin_us", bin_us)
    require_counting(source)
    if len(source.shape) != 3 or source.shape[0] != POLARITIES:
        raise InputError(
            f"input '{source.name}' has shape {source.shape}; events need (2, H, W), a channel for each polarity. "
            "Train on event frames"
        )
    size = math.prod(source.shape)
    height, width = source.shape[1:]
    group, bins = [], []
    for number, events in enumerate(found):
        try:
            group.append(number * size + events.places((height, width)))
        except InputError as error:
            raise InputError(f"recording {number}: {error}") from error
        bins.append(np.floor((events.t - events.t[:1]) / bin_us).astype(np.int64))
    return _placed(source, len(found), group, bins, bin_us)


def _placed(source: Input, count: int, group: list[Int64], bins: list[Int64], bin_us: float) -> SpikeTrains:
    longest = max((int(each[-1]) + 1 for each in bins if len(each)), default=0)
    if longest > MOST_STEPS:
        raise InputError(
            f"a recording of {longest:,} time bins of {bin_us:g} us takes more than {MOST_STEPS:,} steps. Use longer "
            "bins, or a part of the recording"
        )
    size, none = math.prod(source.shape), np.zeros(0, dtype=np.int64)
    joined, step, rank, late = _queued(np.concatenate([none, *group]), np.concatenate([none, *bins]))
    kept = rank < source.high
    recording, neuron = np.divmod(joined, size)
    late_of = np.bincount(recording[late & kept], minlength=count)
    dropped = np.bincount(recording[~kept], minlength=count)
    recording, neuron, step = recording[kept], neuron[kept], step[kept]
    order = np.argsort(step, kind="stable")
    return SpikeTrains(
        source.shape, count, recording[order], step[order], neuron[order], bin_us, late_of, dropped
    )  # fmt: skip


def _queued(group: Int64, bins: Int64) -> tuple[Int64, Int64, Int64, npt.NDArray[np.bool_]]:
    """Spikes of each group, a pixel of a recording, one a step and none before its bin.

    Returns:
        (group, step, rank within the group, whether the step is after the bin), sorted by group and bin.
    """
    order = np.lexsort((bins, group))
    group, bins = group[order], bins[order]
    new = np.diff(group, prepend=-1) != 0
    number = np.cumsum(new) - 1
    rank = np.arange(len(group)) - np.flatnonzero(new)[number] if len(group) else group
    # step = rank + the greatest (bin - rank) so far in the group; groups lie too far apart to mix
    apart = number * (int(bins.max(initial=0)) + len(bins) + 1)
    step = rank + np.maximum.accumulate(bins - rank + apart) - apart if len(group) else bins
    return group, step, rank, step > bins


def _sequence(recordings: Any) -> list[Events]:
    needs = "Events or a list of them"
    if not isinstance(recordings, Sequence) or isinstance(recordings, (str, bytes)):
        raise wrong_type("the recordings", recordings, needs)
    for each in recordings:
        if not isinstance(each, Events):
            raise wrong_type("a recording", each, needs)
    return list(recordings)


def require_counting(source: Any) -> None:
    """Raise InputError unless the value of an input is the number of its spikes, so that none means 0."""
    if not all(hasattr(source, name) for name in ("shape", "low", "high", "offset")):
        raise wrong_type("the input", source, "a network's input: graph.input")
    if source.low > 0 or source.high < 1 or np.asarray(source.offset).any():
        raise InputError(
            f"input '{source.name}' takes levels {source.low} to {source.high} less {np.asarray(source.offset)}; "
            "events count from 0. Train on event frames, without a mean"
        )
