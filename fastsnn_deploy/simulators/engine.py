"""What a batched simulator takes and gives. Every engine equals `simulate.simulate` in every integer.

An engine is one class decorated with `@engine(name)`; `open_engine` makes it for a graph.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError, whole_number
from fastsnn_deploy.graph import Input, MaxPool2d, Node, Population, Readout, SpikingGraph
from fastsnn_deploy.graph.arithmetic import per_channel
from fastsnn_deploy.graph.schedule import MOST_STEPS
from fastsnn_deploy.graph.spike_trains import Emitted, SpikeTrains

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Activity:
    """What one input, population or max pool sent, summed over images.

    spikes, payload: int64 [*shape], events and sum of |payload| of each neuron over all steps. positive, negative:
    events by sign. per_step: int64 [T], events in each step. most_in_step: most events of one image in one step.
    largest: greatest |payload|. by_image: int64 [N], events of each image. Where a run was asked for tallies: tallies:
    int64 [N, k]; nonzero: int64 [*shape], images whose spikes of a neuron do not add up to 0; and of the sources named
    in `Tallies.net`, net: int32 [N, *shape], what they add up to, which sums of activities are without.
    """

    spikes: Int64
    payload: Int64
    positive: int
    negative: int
    per_step: Int64
    most_in_step: int
    largest: int
    by_image: Int64
    tallies: Int64 | None = None
    nonzero: Int64 | None = None
    net: Int32 | None = None

    def __add__(self, other: Activity) -> Activity:
        steps = max(len(self.per_step), len(other.per_step))
        per_step = np.zeros(steps, dtype=np.int64)
        for part in (self.per_step, other.per_step):
            per_step[: len(part)] += part
        tallied = self.tallies is not None and other.tallies is not None
        counted = self.nonzero is not None and other.nonzero is not None
        return Activity(
            spikes=self.spikes + other.spikes,
            payload=self.payload + other.payload,
            positive=self.positive + other.positive,
            negative=self.negative + other.negative,
            per_step=per_step,
            most_in_step=max(self.most_in_step, other.most_in_step),
            largest=max(self.largest, other.largest),
            by_image=np.concatenate([self.by_image, other.by_image]),
            tallies=np.concatenate([self.tallies, other.tallies]) if tallied else None,
            nonzero=self.nonzero + other.nonzero if counted else None,  # type: ignore[operator]
        )


@dataclass(frozen=True)
class Tallies:
    """What a run is asked to sum for each image. weights: by source, int [k, neurons], what a spike of each neuron,
    whatever its sign and payload, adds to k tallies. net: names of sources whose spikes are also to be added up."""

    weights: Mapping[str, npt.NDArray[np.integer]]
    net: Collection[str] = ()


def activity_of(spikes: npt.NDArray[np.integer], name: str = "", tallies: Tallies | None = None) -> Activity:
    """Of the whole series of the source `name`, int [T, B, *shape]."""
    shape, flat = spikes.shape[2:], spikes.reshape(*spikes.shape[:2], math.prod(spikes.shape[2:]))
    sent = flat != 0
    per_image = sent.sum(2, dtype=np.int64)
    magnitude = np.abs(flat.astype(np.int64))
    net = None if tallies is None else flat.sum(0, dtype=np.int32).reshape(-1, *shape)
    return Activity(
        spikes=sent.sum((0, 1), dtype=np.int64).reshape(shape),
        payload=magnitude.sum((0, 1)).reshape(shape),
        positive=int((flat > 0).sum()),
        negative=int((flat < 0).sum()),
        per_step=per_image.sum(1),
        most_in_step=int(per_image.max(initial=0)),
        largest=int(magnitude.max(initial=0)),
        by_image=per_image.sum(0),
        tallies=None if tallies is None else sent.sum(0, dtype=np.int64) @ tallies.weights[name].T,
        nonzero=None if net is None else (net != 0).sum(0, dtype=np.int64),
        net=net if tallies is not None and name in tallies.net else None,
    )


@dataclass(frozen=True)
class Recording:
    """Every step of one node: int32 [T, B, *shape] each; None where a node has no such thing.

    The same series as `simulate.Run` holds: counts and potentials after each step.
    """

    spikes: Int32 | None = None
    counts: Int32 | None = None
    potentials: Int32 | None = None


@dataclass(frozen=True)
class BatchRun:
    """A batch of B images over `steps` global steps; step 0 is the step in which the input emits.

    Without a fixed number of steps a run ends when every image has settled: steps is the largest of settle_steps.
    settle_steps: int64 [B], steps after which nothing changes any more. outputs: int32 [steps, B, *shape], value of
    each output node after each step: potential of a readout, net count of a population. activity: of every input,
    population and max pool. recorded: the nodes asked for.
    """

    steps: int
    settle_steps: Int64
    outputs: Mapping[str, Int32]
    activity: Mapping[str, Activity]
    recorded: Mapping[str, Recording] = field(default_factory=dict)

    def final(self, name: str) -> Int32:
        """Value of an output node at the end: int32 [B, *shape]."""
        return np.asarray(self.outputs[name][-1])


class Engine(ABC):
    """A simulator for one graph. Results do not depend on batch size, thread count, or which engine it is."""

    name: str = ""

    def __init__(self, graph: SpikingGraph, threads: int | None = None) -> None:
        self.graph = graph
        self.threads = threads

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """Images of one `run` that keep the engine busy; more only need more memory."""

    @abstractmethod
    def run(
        self, emitted: Emitted, steps: int | None = None, record: Collection[str] = (),
        tallies: Tallies | None = None,
    ) -> BatchRun:  # fmt: skip
        """Simulate until every image has settled, or for exactly `steps` steps.

        emitted: int [B, *input shape], the integers of `graph.encode(images)`, or SpikeTrains; B may be 0. record: of
        inputs, populations, max pools and readouts whose every step is kept. tallies: of every source, to be summed
        over the spikes of each image. Raises InputError for a wrong shape and for unknown names.
        """

    def check(self, emitted: Emitted, steps: int | None, record: Collection[str]) -> None:
        """Raise InputError unless the arguments of `run` fit the graph."""
        if isinstance(emitted, SpikeTrains):
            self.graph.encode(emitted)
        else:
            self._check_integers(emitted)
        if steps is not None:
            whole_number("steps", steps, 0, MOST_STEPS)
        known = [node.name for node in self.graph.nodes if recordable(node)]
        unknown = sorted(set(record) - set(known))
        if unknown:
            raise InputError(f"cannot record {', '.join(unknown)}. Nodes that can be recorded: {', '.join(known)}")

    def _check_integers(self, emitted: npt.NDArray[np.integer]) -> None:
        shape, source = self.graph.input.shape, self.graph.input
        low, high = (per_channel(level - source.offset, len(shape)) for level in (source.low, source.high))
        if emitted.ndim != len(shape) + 1 or emitted.shape[1:] != shape or emitted.dtype.kind not in "iu":
            raise InputError(
                f"the emitted integers are {emitted.dtype} {emitted.shape}, input '{self.graph.input.name}' needs "
                f"integers (B, {', '.join(map(str, shape))}). Use graph.input.encode(images)"
            )
        bound = np.maximum(np.abs(low), np.abs(high))
        if _leave(emitted, bound):  # sums are exact because nothing beyond can enter
            raise InputError(f"emitted integers leave the range of input '{self.graph.input.name}'. Use encode(images)")


def _leave(emitted: npt.NDArray[np.integer], bound: Int64) -> bool:
    """Whether a magnitude is greater than that of its channel. bound: int64 that broadcasts over [B, *shape].

    By the extremes of each channel: a copy of all magnitudes takes ten times as long, and a GPU would wait for it.
    """
    places = tuple(axis for axis in range(emitted.ndim) if axis != 1)
    top, bottom = (
        reduced.astype(np.int64) for reduced in (emitted.max(places, initial=0), emitted.min(places, initial=0))
    )
    limit = bound.reshape(-1)
    return bool((top > limit).any() or (bottom < -limit).any())


def recordable(node: Node) -> bool:
    """It has a state or sends spikes of its own: inputs, populations, max pools, readouts."""
    return isinstance(node, (Input, Population, MaxPool2d, Readout))


E = TypeVar("E", bound=type[Engine])

ENGINES: dict[str, type[Engine]] = {}
"""Engine classes by name."""


def engine(name: str) -> Callable[[E], E]:
    """Class decorator: register an engine."""

    def decorator(cls: E) -> E:
        cls.name = name
        ENGINES[name] = cls
        return cls

    return decorator
