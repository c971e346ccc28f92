"""From a run of a simulator to counts. Border-exact: a synapse that would read padding does not exist."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.counts import ConnectionCounts, Counts, LayerCounts
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import (
    Concat,
    Flatten,
    MaxPool2d,
    Node,
    Population,
    Readout,
    SpikingGraph,
    Synapse,
)
from fastsnn_deploy.graph.run import Run
from fastsnn_deploy.graph.synapses import zero_exponent

Int64 = npt.NDArray[np.int64]

Connection = Synapse | MaxPool2d
"""What delivers spikes: a synapse, or a max pool, which reads its sources without one."""


def count(graph: SpikingGraph, run: Run, *, every_step: bool = False) -> Counts:
    """Counts of one run; add those of several batches with `+`.

    Each image is counted the steps until it settled (`run.settle_steps`), so that counts do not depend on the batch
    it shared. every_step: count all `run.steps` instead, right for a run of fixed length.
    A spike is one event for each synapse it reaches, whatever its sign and payload, in the step in which it
    arrives; one that a run of fixed length cuts off is counted as undelivered.
    Raises InputError if the run does not hold the spikes of every source of the graph.
    """
    _check(graph, run)
    images = len(run.settle_steps)
    counted = np.full(images, run.steps, dtype=np.int64) if every_step else run.settle_steps
    steps = int(counted.sum())
    counter = _Counter(graph, run, steps)
    layers = tuple(counter.layer(node) for node in layer_nodes(graph))
    return Counts(layers=layers, images=images, steps=steps, max_steps=int(counted.max(initial=0)))


def layer_nodes(graph: SpikingGraph) -> tuple[Node, ...]:
    """The nodes that are layers of a report, in order: neither synapses nor routing."""
    return tuple(node for node in graph.nodes if node.layer)


def connections_of(graph: SpikingGraph, node: Node) -> tuple[Connection, ...]:
    """What delivers spikes to a layer: its synapses, or itself for a max pool."""
    if isinstance(node, MaxPool2d):
        return (node,)
    return tuple(synapse for name in node.inputs if isinstance(synapse := graph[name], Synapse))


def fan_out(graph: SpikingGraph, connection: Connection) -> Int64:
    """Connections that leave each element of the spikes it reads: int64 of their shape.

    For a max pool, the windows that hold the element.
    """
    return connection.fan_out(graph[connection.inputs[0]].shape)


def has_multipliers(connection: Connection) -> bool:
    """It has a weight for each connection; one weight a channel folds into the threshold, and a pool has none."""
    return isinstance(connection, Synapse) and connection.weight.ndim > 1


def effective_operations(graph: SpikingGraph, connection: Connection, number: Int64) -> int:
    """Operations with non-zero weights: binary weights applied to the number of spikes, by linearity.

    number: int64, spikes of each element of the spikes that the connection reads, flat or of their shape.
    """
    if not (isinstance(connection, Synapse) and has_multipliers(connection)):
        return 0
    binary = dataclasses.replace(
        connection,
        weight=(connection.weight != 0).astype(np.int8),
        exponent=zero_exponent(connection.channels),
    )
    source = graph[connection.inputs[0]].shape
    return int(binary.apply(number.reshape(1, *source)).sum())


def taps(graph: SpikingGraph, name: str, delay: int = 0) -> tuple[tuple[str, int], ...]:
    """Sources behind routing nodes, each with its whole delay in steps.

    Flatten keeps C order and concat joins first axes, so the flattened sources in this order are the flattened
    spikes of node `name`.
    """
    node = graph[name]
    if isinstance(node, (Flatten, Concat)):
        arms = zip(node.inputs, node.edge_delays, strict=True)
        return tuple(tap for arm, lag in arms for tap in taps(graph, arm, delay + lag))
    return ((name, delay),)


@dataclass(frozen=True)
class _Events:
    """Spikes of each neuron of a source over steps and images: int64 [neurons] each."""

    number: Int64
    payload: Int64
    ternary: bool


class _Counter:
    """Counts one run. `steps`: counted to all images together."""

    def __init__(self, graph: SpikingGraph, run: Run, steps: int) -> None:
        self.graph = graph
        self.run = run
        self.steps = steps
        self.events: dict[tuple[str, int], _Events] = {}

    def layer(self, node: Node) -> LayerCounts:
        positive = negative = payload = most = 0
        # one step at a time: no temporary as large as the run
        for spikes in self.run.spikes.get(node.name, ()):
            flat = spikes.reshape(len(spikes), node.size)
            positive += int(np.count_nonzero(flat > 0))
            negative += int(np.count_nonzero(flat < 0))
            payload += int(np.abs(flat).sum(dtype=np.int64))
            most = max(most, int(np.count_nonzero(flat, axis=1).max(initial=0)))
        return LayerCounts(
            name=node.name,
            type=type(node).__name__,
            module=node.module,
            neurons=node.size,
            bias_values=node.bias.size if isinstance(node, (Population, Readout)) else 0,
            threshold_values=node.threshold.size if isinstance(node, Population) else 0,
            connections=tuple(self.connection(c) for c in connections_of(self.graph, node)),
            positive_spikes=positive,
            negative_spikes=negative,
            payload=payload,
            neuron_updates_active=positive + negative,
            neuron_updates_inactive=node.size * self.steps - positive - negative,
            max_spikes_in_step=most,
        )

    def connection(self, connection: Connection) -> ConnectionCounts:
        fan = fan_out(self.graph, connection).reshape(-1)
        sources = taps(self.graph, connection.inputs[0], connection.delay)
        arrived = [self.until(name, self.run.steps - delay) for name, delay in sources]
        number = np.concatenate([events.number for events in arrived])
        emitted = np.concatenate([self.until(name, self.run.steps).number for name, _ in sources])
        operations = int(number @ fan)
        weighted = has_multipliers(connection)
        return ConnectionCounts(
            name=connection.name,
            type=type(connection).__name__,
            sources=tuple(dict.fromkeys(name for name, _ in sources)),
            weighted=weighted,
            synapses=int(fan.sum()),
            parameters=connection.parameters if isinstance(connection, Synapse) else 0,
            synaptic_operations=operations,
            payload_operations=int(np.concatenate([events.payload for events in arrived]) @ fan),
            undelivered_operations=int(emitted @ fan) - operations,
            ternary=all(events.ternary for events in arrived),
            effective_operations=effective_operations(self.graph, connection, number),
            dense_operations=int(fan.sum()) * self.steps if weighted else 0,
        )

    def until(self, name: str, end: int) -> _Events:
        """Spikes that `name` emitted before step `end`."""
        end = max(end, 0)
        if (name, end) not in self.events:
            size = self.graph[name].size
            number, payload = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
            ternary = True
            for spikes in self.run.spikes[name][:end]:
                magnitude = np.abs(spikes.reshape(len(spikes), size))
                number += np.count_nonzero(magnitude, axis=0)
                payload += magnitude.sum(axis=0, dtype=np.int64)
                ternary = ternary and int(magnitude.max(initial=0)) <= 1
            self.events[name, end] = _Events(number, payload, ternary)
        return self.events[name, end]


def _check(graph: SpikingGraph, run: Run) -> None:
    for node in graph.nodes:
        if not node.spiking:
            continue
        expected = (run.steps, len(run.settle_steps), *node.shape)
        found = run.spikes[node.name].shape if node.name in run.spikes else None
        if found != expected:
            raise InputError(
                f"the run holds spikes of shape {found} for '{node.name}', but the graph makes {expected}. "
                "Count a run with the graph that was run"
            )
