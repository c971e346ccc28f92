"""From what a network did to `Counts`: of a run with every step of it, or of an evaluation of a whole data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.counts import ConnectionCounts, Counts, LayerCounts
from fastsnn_deploy.analysis.evaluation import Evaluation
from fastsnn_deploy.analysis.structure import Incoming, Layer, Network, layers_of
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph.run import Run

Int64 = npt.NDArray[np.int64]


def count(network: Network, run: Run, *, every_step: bool = False) -> Counts:
    """Counts of one run; add those of several batches with `+`.

    Each image is counted the steps until it settled (`run.settle_steps`), so that counts do not depend on the batch
    it shared. every_step: count all `run.steps` instead, right for a run of fixed length.
    A spike is one event for each synapse it reaches, whatever its sign and payload, in the step in which it
    arrives; one that a run of fixed length cuts off is counted as undelivered.
    Raises InputError if the run does not hold the spikes of every source of the network.
    """
    layers = layers_of(network)
    _check(layers, run)
    images = len(run.settle_steps)
    counted = np.full(images, run.steps, dtype=np.int64) if every_step else run.settle_steps
    steps = int(counted.sum())
    counter = _Counter(run, {layer.name: layer for layer in layers}, steps)
    return Counts(tuple(map(counter.layer, layers)), images, steps, int(counted.max(initial=0)))


def counts_of(evaluation: Evaluation) -> Counts:
    """What `count` gives for the same images, in every number.

    Raises InputError unless every image ran until it had settled: of a run of fixed length an evaluation does not
    know which spikes were still in flight.
    """
    if evaluation.steps is not None:
        raise InputError("only runs until everything has settled can be counted. Evaluate without a number of steps")
    steps, activity, layers = evaluation.counted_steps, evaluation.activity, []
    for layer in evaluation.layers:
        own, sums = activity.get(layer.name), _Sums()
        if own is not None:
            sums = _Sums(own.positive, own.negative, int(own.payload.sum()), own.most_in_step)
        connections = []
        for connection in layer.incoming:
            sources = [activity[name] for name, _ in connection.sources]
            number, payload = (
                np.concatenate([getattr(source, key).reshape(-1) for source in sources])
                for key in ("spikes", "payload")
            )
            ternary = all(source.largest <= 1 for source in sources)
            connections.append(_connection(connection, steps, number, payload, ternary))
        layers.append(_layer(layer, steps, sums, tuple(connections)))
    return Counts(tuple(layers), evaluation.images, steps, evaluation.max_settle_steps)


@dataclass(frozen=True)
class _Sums:
    """Spikes of a layer by sign, sum of |payload|, most spikes of one image in one step."""

    positive: int = 0
    negative: int = 0
    payload: int = 0
    most: int = 0


def _layer(layer: Layer, steps: int, sums: _Sums, connections: tuple[ConnectionCounts, ...]) -> LayerCounts:
    """steps: counted to all images together."""
    sent = sums.positive + sums.negative
    return LayerCounts(
        name=layer.name,
        type=layer.type,
        module=layer.module,
        neurons=layer.neurons,
        bias_values=layer.bias_values,
        threshold_values=layer.threshold_values,
        connections=connections,
        positive_spikes=sums.positive,
        negative_spikes=sums.negative,
        payload=sums.payload,
        neuron_updates_active=sent,
        neuron_updates_inactive=layer.neurons * steps - sent,
        max_spikes_in_step=sums.most,
    )


def _connection(
    connection: Incoming, steps: int, number: Int64, payload: Int64, ternary: bool, undelivered: int = 0
) -> ConnectionCounts:
    """number, payload: int64 [source neurons], spikes that arrive and the sum of their |payload|."""
    return ConnectionCounts(
        name=connection.name,
        type=connection.type,
        sources=tuple(dict.fromkeys(name for name, _ in connection.sources)),
        weighted=connection.weighted,
        synapses=connection.synapses,
        parameters=connection.parameters,
        synaptic_operations=int(number @ connection.fan),
        payload_operations=int(payload @ connection.fan),
        undelivered_operations=undelivered,
        ternary=ternary,
        effective_operations=connection.effective(number),
        dense_operations=connection.dense * steps,
    )


@dataclass(frozen=True)
class _Events:
    """Spikes of each neuron of a source over steps and images: int64 [neurons] each."""

    number: Int64
    payload: Int64
    ternary: bool


class _Counter:
    """Counts one run. `steps`: counted to all images together."""

    def __init__(self, run: Run, layers: dict[str, Layer], steps: int) -> None:
        self.run = run
        self.layers = layers
        self.steps = steps
        self.events: dict[tuple[str, int], _Events] = {}

    def layer(self, layer: Layer) -> LayerCounts:
        positive = negative = payload = most = 0
        # one step at a time: no temporary as large as the run
        for spikes in self.run.spikes[layer.name] if layer.sends else ():
            flat = spikes.reshape(len(spikes), layer.neurons)
            positive += int(np.count_nonzero(flat > 0))
            negative += int(np.count_nonzero(flat < 0))
            payload += int(np.abs(flat).sum(dtype=np.int64))
            most = max(most, int(np.count_nonzero(flat, axis=1).max(initial=0)))
        sums = _Sums(positive, negative, payload, most)
        return _layer(layer, self.steps, sums, tuple(map(self.connection, layer.incoming)))

    def connection(self, connection: Incoming) -> ConnectionCounts:
        arrived = [self.until(name, self.run.steps - delay) for name, delay in connection.sources]
        number = np.concatenate([events.number for events in arrived])
        emitted = np.concatenate([self.until(name, self.run.steps).number for name, _ in connection.sources])
        payload = np.concatenate([events.payload for events in arrived])
        undelivered = int(emitted @ connection.fan) - int(number @ connection.fan)
        ternary = all(events.ternary for events in arrived)
        return _connection(connection, self.steps, number, payload, ternary, undelivered)

    def until(self, name: str, end: int) -> _Events:
        """Spikes that `name` emitted before step `end`."""
        end = max(end, 0)
        if (name, end) not in self.events:
            size = self.layers[name].neurons
            number, payload = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
            ternary = True
            for spikes in self.run.spikes[name][:end]:
                magnitude = np.abs(spikes.reshape(len(spikes), size))
                number += np.count_nonzero(magnitude, axis=0)
                payload += magnitude.sum(axis=0, dtype=np.int64)
                ternary = ternary and int(magnitude.max(initial=0)) <= 1
            self.events[name, end] = _Events(number, payload, ternary)
        return self.events[name, end]


def _check(layers: tuple[Layer, ...], run: Run) -> None:
    for layer in layers:
        if not layer.sends:
            continue
        expected = (run.steps, len(run.settle_steps), *layer.shape)
        found = run.spikes[layer.name].shape if layer.name in run.spikes else None
        if found != expected:
            raise InputError(
                f"the run holds spikes of shape {found} for '{layer.name}', but the network makes {expected}. "
                "Count a run with the network that was run"
            )
