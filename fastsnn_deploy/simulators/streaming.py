"""Streaming: a network that stays on and receives only what changes from one frame to the next.

The first frame is injected as an image; of every later frame only x_new - x_old, without a reset. Since a settled
count depends on the sum of all synaptic input and not on its history, every frame settles to the integer network of
that frame, and a frame equal to the one before costs no spike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import Encoded, SpikeTrains, SpikingGraph
from fastsnn_deploy.graph.run import Run
from fastsnn_deploy.simulators.reference import Simulation

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Interval = int | Sequence[int] | npt.NDArray[np.integer]


@dataclass(frozen=True)
class Stream:
    """A run over F frames without a reset in between.

    run: series of one stream, N = 1. starts: int64 [F], the step in which each frame is injected; each lasts until
    the next one, the last until the end of the run.
    """

    run: Run
    starts: Int64

    @property
    def lengths(self) -> Int64:
        """Steps of each frame, int64 [F]."""
        return np.diff(self.starts, append=self.run.steps)

    def values(self, name: str) -> Int32:
        """Value of a node at the end of each frame, int32 [F, *shape]: net count, or potential of a readout."""
        series = self.run.counts[name] if name in self.run.counts else self.run.potentials[name]
        return np.asarray(series[self.starts + self.lengths - 1, 0])

    def spikes(self) -> Int64:
        """Spikes that all nodes, the input included, send in the steps of each frame: int64 [F]."""
        sent = np.zeros(self.run.steps, dtype=np.int64)
        for series in self.run.spikes.values():
            sent += np.count_nonzero(series.reshape(self.run.steps, -1), axis=1)
        return np.add.reduceat(sent, self.starts) if len(self.starts) else sent

    def settle_steps(self) -> Int64:
        """Steps of each frame after which nothing changes any more before the next one: int64 [F]."""
        active = np.zeros(self.run.steps, dtype=bool)
        readouts = [series for name, series in self.run.potentials.items() if name not in self.run.counts]
        for changes in (*self.run.spikes.values(), *(np.diff(series, axis=0, prepend=0) for series in readouts)):
            active |= changes.reshape(self.run.steps, -1).any(1)
        frames = np.split(active, self.starts[1:])
        return np.asarray([int(np.flatnonzero(frame)[-1]) + 1 if frame.any() else 0 for frame in frames])

    def exact(self, expected: Mapping[str, npt.NDArray[np.integer]]) -> Bools:
        """Frames at whose end every recorded node equals the integer network: bool [F].

        expected: the values of `evaluate(graph, frames)`.
        """
        names = [name for name in expected if name in self.run.counts or name in self.run.potentials]
        same = [(self.values(name) == expected[name]).reshape(len(self.starts), -1).all(1) for name in names]
        return np.logical_and.reduce(same) if same else np.ones(len(self.starts), dtype=bool)


def stream(
    graph: SpikingGraph,
    frames: Any,
    interval: Interval | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Stream:
    """Run `graph` on a stream of frames with the reference simulator.

    frames: images, raw or Encoded (`SpikingGraph.encode`), F >= 1. interval: steps from one frame to the next (for
    the last: to the end), one number or one for each frame; None waits after each frame until nothing is in flight.
    With None every frame is exact; a shorter interval may cut frames off, `Stream.exact` tells. progress: called with
    (frames done, frames in all). Raises InputError for frames that the network cannot take, and for an interval
    shorter than the injection of the schedule.
    """
    frames = checked_frames(graph, frames)
    lengths = None if interval is None else frame_lengths(graph, len(frames), interval)
    simulation = _Streaming(graph, frames[:1])
    starts = []
    for index, frame in enumerate(frames):
        starts.append(simulation.time)
        simulation.show(frame)
        if lengths is None:
            simulation.settle()
        else:
            for _ in range(int(lengths[index])):
                simulation.step()
        if progress is not None:
            progress(index + 1, len(frames))
    return Stream(simulation.run(), np.asarray(starts, dtype=np.int64))


def changes(frames: Int64) -> Int64:
    """What a stream injects: the first frame, then the difference of each to the one before. int64 [F, ...]."""
    return np.diff(frames, axis=0, prepend=0)


def injection_steps(graph: SpikingGraph) -> int:
    """Steps over which the schedule spreads the injection of one frame."""
    return graph.schedule.input_injection.steps


def checked_frames(graph: SpikingGraph, frames: Any) -> Encoded:
    """Raw or Encoded frames as the input emits them. Raises InputError unless there is one at least, and for a network
    with a start delay: it is counted from rest, and a stream rests only once."""
    if graph.schedule.start_delay:
        what = f"the network has a start delay of {graph.schedule.start_delay} steps, which holds from rest only"
        raise InputError(f"{what}: a stream goes on from the frame before. Export it without --start-delay")
    encoded: Encoded | SpikeTrains = graph.encode(frames)
    if isinstance(encoded, SpikeTrains):
        raise InputError("a stream takes frames, and events enter without it. Use simulate")
    if not len(encoded):
        raise InputError("a stream needs at least one frame")
    return encoded


def frame_lengths(graph: SpikingGraph, frames: int, interval: Interval) -> Int64:
    """Steps of each frame, int64 [F]. Raises InputError for a wrong number of them or one that is too short."""
    lengths = np.asarray(interval)
    least = injection_steps(graph)
    if lengths.dtype.kind not in "iu" or lengths.shape not in ((), (frames,)) or lengths.min(initial=least) < least:
        raise InputError(
            f"interval {interval} must be one number of steps or one for each of the {frames} frames, each at least "
            f"{least}, the steps over which a frame is injected"
        )
    return np.broadcast_to(lengths, (frames,)).astype(np.int64)


class _Streaming(Simulation):
    """A simulation whose input is a sequence of changes."""

    def __init__(self, graph: SpikingGraph, first: Int64) -> None:
        super().__init__(graph, first)
        self.shown = np.zeros_like(first)
        self.change = np.zeros_like(first)
        self.start = 0
        self.parts = injection_steps(graph)

    def show(self, frame: Int64) -> None:
        """Begin to inject what differs from the frame shown before."""
        self.change, self.shown, self.start = frame[None] - self.shown, frame[None], self.time
        self.last_injection = max(self.last_injection, self.time + self.parts - 1)

    def settle(self) -> None:
        """Advance until nothing is in flight."""
        while not self.quiet():
            self.step()
            if self.time - self.start > self.longest:
                raise AssertionError(f"not settled after {self.longest} steps: the settling theorem is violated")

    def injected(self) -> Int64:
        return self.graph.schedule.input_injection.share(self.change, self.time - self.start)
