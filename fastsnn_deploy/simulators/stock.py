"""The simulator of stock networks behind the engines' results: `lava_dl.simulate`, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from functools import reduce
from operator import add

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph.spike_trains import NO_EVENTS, Emitted, SpikeTrains
from fastsnn_deploy.lava_dl import StockNetwork, inferences, layer_series
from fastsnn_deploy.lava_dl.neurons import Series
from fastsnn_deploy.simulators.engine import Activity, BatchRun, Tallies, activity_of

Int64 = npt.NDArray[np.int64]

HELD_VALUES = 2**23
"""Neurons x steps x images of the largest layer that are held at a time; a layer keeps four series of 32 bits."""

BATCH_IMAGES = 256


class StockEngine:
    """Runs a stock network. Results do not depend on the batch size.

    A network that forgets gives one inference for each image, in one step. Others start from rest and see their image
    in every step: sigma-delta networks until nothing changes any more, those with leaky neurons for as many steps as
    the user says.
    """

    name = "stock"

    def __init__(self, graph: StockNetwork) -> None:
        self.graph = graph

    @property
    def batch_size(self) -> int:
        """Images of one `run`, which are simulated a few at a time where they are large or long."""
        return BATCH_IMAGES

    def run(
        self, emitted: Emitted, steps: int | None = None, record: Collection[str] = (), tallies: Tallies | None = None
    ) -> BatchRun:
        """As `Engine.run`. emitted: int [B, *input shape], the integers of `StockNetwork.encode(images)`.

        The value of the output is what `StockNetwork.logits` takes. Raises InputError for a wrong shape, for names
        (`lava_dl.run` records every step), and where the number of steps does not fit the network.
        """
        if isinstance(emitted, SpikeTrains):
            raise InputError(NO_EVENTS)
        if record:
            raise InputError("an engine of stock networks records nothing. Use lava_dl.run, which keeps every step")
        length = self.graph.steps_for(steps)
        largest = max(math.prod(layer.shape) for layer in self.graph.layers)
        size = max(1, HELD_VALUES // (largest * max(length, 1)))
        parts = [self._part(emitted[at : at + size], length, tallies) for at in range(0, max(len(emitted), 1), size)]
        return BatchRun(
            steps=length,
            settle_steps=np.concatenate([part.settle_steps for part in parts]),
            outputs={name: np.concatenate([p.outputs[name] for p in parts], axis=1) for name in parts[0].outputs},
            activity={name: reduce(add, (part.activity[name] for part in parts)) for name in parts[0].activity},
        )

    def _part(self, emitted: npt.NDArray[np.integer], length: int, tallies: Tallies | None) -> BatchRun:
        """Images that are simulated together, one layer in memory at a time."""
        network, senders = self.graph, self.graph.senders
        activity: dict[str, Activity] = {}
        changed = np.zeros((length, len(emitted)), dtype=np.bool_)
        for index, (name, series) in enumerate(zip(network.names, self._series(emitted, length), strict=True)):
            last = series
            if index in senders:
                activity[name] = activity_of(series.messages, name, tallies)
            if not network.forgets:
                changed |= _changes(series, index in senders)
        assert last.state is not None
        values = network.values(last.messages, last.state).astype(np.int32)
        until = np.where(changed.any(0), length - changed[::-1].argmax(0), 0).astype(np.int64)
        settled = np.ones_like(until) if network.forgets else until
        return BatchRun(steps=length, settle_steps=settled, outputs={network.names[-1]: values}, activity=activity)

    def _series(self, emitted: npt.NDArray[np.integer], steps: int) -> Iterator[Series]:
        if self.graph.forgets:
            return inferences(self.graph, emitted)
        return layer_series(self.graph, np.broadcast_to(emitted, (steps, *emitted.shape)), steps)


def _changes(series: Series, sends: bool) -> npt.NDArray[np.bool_]:
    """Steps in which a layer of a network with memory sends something or changes its state: bool [T, B]."""
    moved = [series.messages] if sends else []
    if series.state is not None:
        moved.append(np.diff(series.state, axis=0, prepend=np.zeros_like(series.state[:1])))
    flat = [part.reshape(*part.shape[:2], -1).any(2) for part in moved]
    return np.asarray(np.any(flat, axis=0)) if flat else np.zeros(series.messages.shape[:2], dtype=np.bool_)
