"""Labelled recordings of event cameras: as frames that a network learns from, and as the spikes that it runs on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError, whole_number
from fastsnn_deploy.graph.events import POLARITIES, Events
from fastsnn_deploy.graph.nodes import Input
from fastsnn_deploy.graph.spike_trains import BIN_US, SpikeReader, SpikeTrains, spike_trains
from fastsnn_deploy.training.stored import Int64, RealValues

if TYPE_CHECKING:
    from fastsnn_deploy.training.stored import Index

MOST = 255
"""Events of one polarity that a pixel counts, unless the user says otherwise."""

AT_ONCE = 64
"""Recordings whose events are in memory at a time."""

OPTIONS = ("most", "downsample", "start_us", "stop_us")
"""What every kind of event data takes in brackets."""

Size = tuple[int, int]
Recordings = Callable[[Int64], list[Events]]
"""Events of some recordings by their numbers."""


class EventFrames(RealValues):
    """How many events of each polarity every pixel had, int [N, 2, H, W], counted when they are read.

    recordings: reads events. size: (H, W). most: a pixel counts no more of one polarity.
    """

    def __init__(
        self, recordings: Recordings, chosen: Int64, size: Size, name: str, most: int = MOST
    ) -> None:  # fmt: skip
        super().__init__(self._frames, chosen, (POLARITIES, *size), name, 1.0, (0, most), at_hand=False)
        self.recordings, self.size = recordings, size

    def _frames(self, numbers: Int64) -> npt.NDArray[Any]:
        frames = np.zeros((len(numbers), *self.shape[1:]), dtype=np.int64)
        for start in range(0, len(numbers), AT_ONCE):
            for place, events in enumerate(self.events(numbers[start : start + AT_ONCE]), start):
                frames[place] = events.frame(self.size)
        return frames

    def events(self, numbers: Int64) -> list[Events]:
        """Recordings by their numbers among all. Raises InputError naming the one that cannot be used."""
        found = self.recordings(numbers)
        for number, events in zip(numbers, found, strict=True):
            try:
                events.places(self.size)
            except InputError as error:
                raise InputError(f"data '{self.name}', recording {number}: {error}") from error
        return found

    def _read(self, numbers: Int64) -> npt.NDArray[Any]:
        return np.asarray(np.minimum(self._frames(numbers), self.levels[1]), dtype=self.kind)

    def _with(self, chosen: Int64, step: float, levels: tuple[int, int]) -> EventFrames:
        if not math.isclose(step, 1) or levels[0] > 0:
            raise InputError(
                f"data '{self.name}': an event counts 1, and the network takes steps of {step:g} from {levels[0]}. "
                "Prepare it with preprocessing=data.preprocessing"
            )
        return EventFrames(self.recordings, chosen, self.size, self.name, levels[1])

    def numbered(self, index: Index) -> Int64:
        """Numbers among all recordings of those that an index takes."""
        return self._numbers(index)


class TrainReader(SpikeReader):
    """Recordings as the spikes of an input, read when a slice is asked for."""

    def __init__(self, frames: EventFrames, target: Input, bin_us: float = BIN_US) -> None:
        self.frames, self.target, self.bin_us = frames, target, bin_us

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, chosen: slice) -> SpikeTrains:
        return spike_trains(self.frames.events(self.frames.numbered(chosen)), self.target, self.bin_us)


def chosen_part(options: dict[str, Any]) -> tuple[int, Callable[[Events], Events]]:
    """(most events a pixel counts, what is done to each recording), from options in brackets."""
    most = whole_number("most", options.get("most", MOST), 1, 2**15 - 1)
    factor = whole_number("downsample", options.get("downsample", 1), 1)
    start, stop = options.get("start_us", 0), options.get("stop_us")
    Events(*np.zeros((4, 0), dtype=np.int64)).between(start, stop)  # as wrong here as for any recording
    whole = start == 0 and stop is None

    def changed(events: Events) -> Events:
        part = events if whole else events.between(start, stop)
        return part.downsampled(factor)

    return most, changed


def smaller(size: Sequence[int], options: dict[str, Any]) -> Size:
    """(H, W) of a sensor after downsampling."""
    factor = whole_number("downsample", options.get("downsample", 1), 1)
    height, width = (-(-side // factor) for side in size)
    return height, width
