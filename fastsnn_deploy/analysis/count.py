"""From what a network did to `Counts`: of a run with every step of it, or of an evaluation of a whole data set."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.counts import ConnectionCounts, Counts, LayerCounts
from fastsnn_deploy.analysis.evaluation import Evaluation
from fastsnn_deploy.analysis.statistics import PerImage
from fastsnn_deploy.analysis.structure import Incoming, Layer, Network, layers_of
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph.run import Run
from fastsnn_deploy.simulators.engine import Activity, Tallies, activity_of

Int64 = npt.NDArray[np.int64]

Sent = Callable[[str, int], Activity]
"""What a source, by name, had sent so many steps before the end of the run."""


class Ledger:
    """What to ask a run for, so that its images can be told apart, and where to find it.

    Each source has a tally for each time that a connection reads it, and for each of `extra`, int64 [neurons] by key
    and source. net: as in `Tallies`.
    """

    def __init__(
        self, layers: tuple[Layer, ...], extra: Mapping[str, Mapping[str, Int64]] | None = None,
        net: Collection[str] = (),
    ) -> None:  # fmt: skip
        self.rows: dict[str, dict[tuple[str, int], Int64]] = {layer.name: {} for layer in layers if layer.sends}
        for connection in (each for layer in layers for each in layer.incoming):
            end = 0
            for tap, (source, _) in enumerate(connection.sources):
                size = next(layer.neurons for layer in layers if layer.name == source)
                self.rows[source][connection.name, tap] = connection.fan[end : end + size]
                end += size
        for key, by_source in (extra or {}).items():
            for source in by_source.keys() & self.rows.keys():
                self.rows[source][key, 0] = by_source[source]
        sizes = {layer.name: layer.neurons for layer in layers}
        weights = {
            name: np.array(list(rows.values()), dtype=np.int64).reshape(len(rows), sizes[name])
            for name, rows in self.rows.items()
        }
        self.tallies = Tallies(weights, net)

    def of(self, source: str, activity: Activity, key: str, tap: int = 0) -> Int64 | None:
        """One tally of each image, int64 [N]; None where the run was not asked for it."""
        if activity.tallies is None:
            return None
        return np.asarray(activity.tallies[:, list(self.rows[source]).index((key, tap))])


def count(network: Network, run: Run, *, every_step: bool = False) -> Counts:
    """Counts of one run.

    Each image is counted the steps until it settled (`run.settle_steps`), so that counts do not depend on the batch
    it shared. every_step: count all `run.steps` instead, right for a run of fixed length.
    A spike is one event for each synapse it reaches, whatever its sign and payload, in the step in which it
    arrives; one that a run of fixed length cuts off is counted as undelivered.
    Raises InputError if the run does not hold the spikes of every source of the network.
    """
    layers = layers_of(network)
    _check(layers, run)
    ledger = Ledger(layers)
    steps = np.full(len(run.settle_steps), run.steps, dtype=np.int64) if every_step else run.settle_steps

    @cache
    def sent(name: str, before: int) -> Activity:
        return activity_of(run.spikes[name][: max(run.steps - before, 0)], name, ledger.tallies)

    return counted(layers, steps, sent, ledger)


def counts_of(evaluation: Evaluation) -> Counts:
    """What `count` gives for the same images, in every number but those of single images.

    Raises InputError unless every image ran until it had settled: of a run of fixed length an evaluation does not
    know which spikes were still in flight.
    """
    if evaluation.steps is not None:
        raise InputError("only runs until everything has settled can be counted. Evaluate without a number of steps")
    steps = np.repeat(np.arange(len(evaluation.settled)), evaluation.settled)
    return counted(evaluation.layers, steps, lambda name, _: evaluation.activity[name])


def counted(layers: tuple[Layer, ...], steps: Int64, sent: Sent, ledger: Ledger | None = None) -> Counts:
    """Counts of N images. steps: int64 [N], counted to each. ledger: what the run was asked for, if it was asked; then
    images are told apart."""
    total = int(steps.sum())
    found = [_layer(layer, total, sent, ledger) for layer in layers]
    by_image = None if ledger is None else PerImage(steps)
    return Counts(tuple(found), len(steps), total, int(steps.max(initial=0)), by_image)


def _layer(layer: Layer, steps: int, sent: Sent, ledger: Ledger | None) -> LayerCounts:
    """steps: counted to all images together."""
    own = sent(layer.name, 0) if layer.sends else None
    spikes = own.positive + own.negative if own else 0
    return LayerCounts(
        name=layer.name,
        type=layer.type,
        module=layer.module,
        neurons=layer.neurons,
        bias_values=layer.bias_values,
        threshold_values=layer.threshold_values,
        connections=tuple(_connection(each, steps, sent, ledger) for each in layer.incoming),
        positive_spikes=own.positive if own else 0,
        negative_spikes=own.negative if own else 0,
        payload=int(own.payload.sum()) if own else 0,
        neuron_updates_active=spikes,
        neuron_updates_inactive=layer.neurons * steps - spikes,
        max_spikes_in_step=own.most_in_step if own else 0,
        silent_neurons=int(np.count_nonzero(own.spikes == 0)) if own else layer.neurons,
        by_image=PerImage(own.by_image) if own and ledger else None,
    )


def _connection(connection: Incoming, steps: int, sent: Sent, ledger: Ledger | None) -> ConnectionCounts:
    arrived = [sent(name, delay) for name, delay in connection.sources]
    number, payload = (
        np.concatenate([getattr(each, key).reshape(-1) for each in arrived]) for key in ("spikes", "payload")
    )
    emitted = np.concatenate([sent(name, 0).spikes.reshape(-1) for name, _ in connection.sources])
    delivered = int(number @ connection.fan)
    tallies = [
        None if ledger is None else ledger.of(name, each, connection.name, tap)
        for tap, ((name, _), each) in enumerate(zip(connection.sources, arrived, strict=True))
    ]
    known = [each for each in tallies if each is not None]
    return ConnectionCounts(
        name=connection.name,
        type=connection.type,
        sources=tuple(dict.fromkeys(name for name, _ in connection.sources)),
        weighted=connection.weighted,
        synapses=connection.synapses,
        parameters=connection.parameters,
        weights=connection.weights,
        zero_weights=connection.zero_weights,
        synaptic_operations=delivered,
        payload_operations=int(payload @ connection.fan),
        undelivered_operations=int(emitted @ connection.fan) - delivered,
        ternary=all(each.largest <= 1 for each in arrived),
        effective_operations=connection.effective(number),
        dense_operations=connection.dense * steps,
        by_image=PerImage(np.asarray(sum(known))) if len(known) == len(tallies) else None,
    )


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
