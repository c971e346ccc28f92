"""An evaluation as `profile.Counts`, so that energy can be estimated over a whole data set."""

from __future__ import annotations

import numpy as np

from fastsnn_deploy.analysis.counting import (
    Connection,
    connections_of,
    effective_operations,
    fan_out,
    has_multipliers,
    layer_nodes,
    taps,
)
from fastsnn_deploy.analysis.counts import ConnectionCounts, Counts, LayerCounts
from fastsnn_deploy.analysis.evaluation import Evaluation
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import Node, Population, Readout, Synapse


def counts_of(evaluation: Evaluation) -> Counts:
    """What `profile.count` gives for the same images, in every number.

    Raises InputError unless every image ran until it had settled: of a run of fixed length an evaluation does not
    know which spikes were still in flight.
    """
    if evaluation.steps is not None:
        raise InputError("only runs until everything has settled can be counted. Evaluate without a number of steps")
    return Counts(
        layers=tuple(_layer(evaluation, node) for node in layer_nodes(evaluation.graph)),
        images=evaluation.images,
        steps=evaluation.counted_steps,
        max_steps=evaluation.max_settle_steps,
    )


def _layer(evaluation: Evaluation, node: Node) -> LayerCounts:
    graph, activity = evaluation.graph, evaluation.activity.get(node.name)
    sent = 0 if activity is None else activity.positive + activity.negative
    return LayerCounts(
        name=node.name,
        type=type(node).__name__,
        module=node.module,
        neurons=node.size,
        bias_values=node.bias.size if isinstance(node, (Population, Readout)) else 0,
        threshold_values=node.threshold.size if isinstance(node, Population) else 0,
        connections=tuple(_connection(evaluation, each) for each in connections_of(graph, node)),
        positive_spikes=0 if activity is None else activity.positive,
        negative_spikes=0 if activity is None else activity.negative,
        payload=0 if activity is None else int(activity.payload.sum()),
        neuron_updates_active=sent,
        neuron_updates_inactive=node.size * evaluation.counted_steps - sent,
        max_spikes_in_step=0 if activity is None else activity.most_in_step,
    )


def _connection(evaluation: Evaluation, connection: Connection) -> ConnectionCounts:
    graph = evaluation.graph
    names = [name for name, _ in taps(graph, connection.inputs[0])]
    sources = [evaluation.activity[name] for name in names]
    number = np.concatenate([source.spikes.reshape(-1) for source in sources])
    payload = np.concatenate([source.payload.reshape(-1) for source in sources])
    fan = fan_out(graph, connection).reshape(-1)
    weighted = has_multipliers(connection)
    return ConnectionCounts(
        name=connection.name,
        type=type(connection).__name__,
        sources=tuple(dict.fromkeys(names)),
        weighted=weighted,
        synapses=int(fan.sum()),
        parameters=connection.parameters if isinstance(connection, Synapse) else 0,
        synaptic_operations=int(number @ fan),
        payload_operations=int(payload @ fan),
        ternary=all(source.largest <= 1 for source in sources),
        effective_operations=effective_operations(graph, connection, number),
        dense_operations=int(fan.sum()) * evaluation.counted_steps if weighted else 0,
    )
