"""What a run of a spiking network did, in exact integers. Every class adds up with `+` over batches.

Spikes belong to the source that emits them, synaptic operations to the synapse that delivers them, and a synapse
to the layer (population, max pool, readout) that receives its synaptic input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from fastsnn_deploy.graph.ranges import STATE_BITS
from fastsnn_deploy.tables import Column, Result, Table, one_line, words

_T = TypeVar("_T")

WEIGHT_BITS = 8
"""Mantissa of a stored weight."""


@dataclass(frozen=True)
class ConnectionCounts:
    """One synapse, or the windows of a max pool, over all images.

    type: its node type. sources: the inputs, populations and max pools whose spikes it reads.
    weighted: it has a weight for each connection; one weight a channel folds into the threshold, a pool has none.
    synapses: connections that exist, zero weights included, positions in the padding not. parameters: weights stored.
    synaptic_operations: one for each connection of each spike delivered, whatever its sign and payload.
    payload_operations: the same with each spike counted |payload| times, what binary spikes would cost.
    undelivered_operations: of spikes still in flight when a run of fixed length ended, not counted above.
    ternary: every spike was -1 or 1.
    effective_operations, dense_operations: NeuroBench's counts for this connection (zero weights skipped; all
    connections in every step), 0 where NeuroBench has no hook, which is where `weighted` is false.
    """

    name: str
    type: str
    sources: tuple[str, ...]
    weighted: bool
    synapses: int
    parameters: int
    synaptic_operations: int = 0
    payload_operations: int = 0
    undelivered_operations: int = 0
    ternary: bool = True
    effective_operations: int = 0
    dense_operations: int = 0

    def __add__(self, other: ConnectionCounts) -> ConnectionCounts:
        same_structure(self, other, ("name", "type", "sources", "weighted", "synapses", "parameters"))
        return dataclasses.replace(
            self,
            synaptic_operations=self.synaptic_operations + other.synaptic_operations,
            payload_operations=self.payload_operations + other.payload_operations,
            undelivered_operations=self.undelivered_operations + other.undelivered_operations,
            ternary=self.ternary and other.ternary,
            effective_operations=self.effective_operations + other.effective_operations,
            dense_operations=self.dense_operations + other.dense_operations,
        )


@dataclass(frozen=True)
class LayerCounts:
    """One input, population, max pool or readout, with the connections it receives, over all images.

    bias_values, threshold_values: stored, one a channel. positive_spikes, negative_spikes: by sign.
    payload: sum of |payload|. neuron_updates_active: neuron-steps that emitted a spike, of any payload;
    neuron_updates_inactive: the others, so that both add up to neurons * steps * images.
    max_spikes_in_step: most spikes that one image caused in one step.
    """

    name: str
    type: str
    module: str
    neurons: int
    bias_values: int
    threshold_values: int
    connections: tuple[ConnectionCounts, ...] = ()
    positive_spikes: int = 0
    negative_spikes: int = 0
    payload: int = 0
    neuron_updates_active: int = 0
    neuron_updates_inactive: int = 0
    max_spikes_in_step: int = 0

    @property
    def spikes(self) -> int:
        """Spikes emitted, of either sign and any payload."""
        return self.positive_spikes + self.negative_spikes

    @property
    def neuron_updates(self) -> int:
        """Neurons times steps, summed over images."""
        return self.neuron_updates_active + self.neuron_updates_inactive

    @property
    def synapses(self) -> int:
        """Connections that arrive."""
        return sum(connection.synapses for connection in self.connections)

    @property
    def parameters(self) -> int:
        """Weights stored; bias and threshold are apart."""
        return sum(connection.parameters for connection in self.connections)

    @property
    def synaptic_operations(self) -> int:
        """Synaptic operations that arrive."""
        return sum(connection.synaptic_operations for connection in self.connections)

    @property
    def payload_operations(self) -> int:
        """Synaptic operations if every spike were sent as |payload| binary spikes."""
        return sum(connection.payload_operations for connection in self.connections)

    @property
    def undelivered_operations(self) -> int:
        """Synaptic operations of spikes still in flight at the end."""
        return sum(connection.undelivered_operations for connection in self.connections)

    def __add__(self, other: LayerCounts) -> LayerCounts:
        same_structure(self, other, ("name", "type", "module", "neurons", "bias_values", "threshold_values"))
        same_length(self.name, self.connections, other.connections)
        return dataclasses.replace(
            self,
            connections=tuple(a + b for a, b in zip(self.connections, other.connections, strict=True)),
            positive_spikes=self.positive_spikes + other.positive_spikes,
            negative_spikes=self.negative_spikes + other.negative_spikes,
            payload=self.payload + other.payload,
            neuron_updates_active=self.neuron_updates_active + other.neuron_updates_active,
            neuron_updates_inactive=self.neuron_updates_inactive + other.neuron_updates_inactive,
            max_spikes_in_step=max(self.max_spikes_in_step, other.max_spikes_in_step),
        )


SHOWN = ("neurons", "synapses", "positive_spikes", "negative_spikes", "synaptic_operations", "neuron_updates")
"""Quantities of a layer in the table of `Counts`; the first two are of the network, the others sums over images."""


@dataclass(frozen=True)
class Counts(Result):
    """A whole network over `images` images. steps: summed over images; max_steps: of the longest image."""

    layers: tuple[LayerCounts, ...]
    images: int
    steps: int
    max_steps: int

    def __add__(self, other: Counts) -> Counts:
        same_length("the network", self.layers, other.layers)
        return Counts(
            layers=tuple(a + b for a, b in zip(self.layers, other.layers, strict=True)),
            images=self.images + other.images,
            steps=self.steps + other.steps,
            max_steps=max(self.max_steps, other.max_steps),
        )

    def __repr__(self) -> str:
        sums = ", ".join(f"{self.total(key):,} {key.replace('_', ' ')}" for key in ("spikes", "synaptic_operations"))
        return one_line(f"Counts({self.images:,} images, {self.steps:,} steps, {sums})")

    def report(self) -> tuple[Table | str, ...]:
        """A table of layers, summed over all images."""
        drops = (3, 2, 0, 0, 0, 1)
        columns = (Column(key.replace("_", " "), drop=drop) for key, drop in zip(SHOWN, drops, strict=True))
        rows = [(layer.name, *(getattr(layer, key) for key in SHOWN)) for layer in self.layers]
        table = Table(
            f"Counts of {self.images:,} images together",
            (words("layer"), *columns),
            (*rows, ("total", *map(self.total, SHOWN))),
            totals=1,
        )
        return (table,)

    def to_dict(self) -> dict[str, Any]:
        """Every count of every layer and connection as plain values, summed over all images."""
        layers = [dataclasses.asdict(layer) | {key: getattr(layer, key) for key in SHOWN} for layer in self.layers]
        return {"images": self.images, "steps": self.steps, "max_steps": self.max_steps, "layers": layers}

    def __getitem__(self, layer: str) -> LayerCounts:
        return next(entry for entry in self.layers if entry.name == layer)

    @property
    def connections(self) -> tuple[ConnectionCounts, ...]:
        """All connections of all layers."""
        return tuple(connection for layer in self.layers for connection in layer.connections)

    def total(self, quantity: str) -> int:
        """Sum of an attribute of `LayerCounts`, such as "spikes", over all layers."""
        return sum(getattr(layer, quantity) for layer in self.layers)

    def memory_bits(self) -> Mapping[str, int]:
        """Bits that the network takes: weights of 8, biases, thresholds and potentials of 24 each, as its ranges allow.

        Counts towards the ceiling, spikes on their way, and tables of addresses, which depend on the chip, are not in
        it.
        """
        stateful = [layer for layer in self.layers if layer.type not in ("Input", "MaxPool2d")]
        return {
            "weights": WEIGHT_BITS * self.total("parameters"),
            "biases_and_thresholds": STATE_BITS * (self.total("bias_values") + self.total("threshold_values")),
            "potentials": STATE_BITS * sum(layer.neurons for layer in stateful),
        }

    def neurobench(self) -> Mapping[str, float]:
        """NeuroBench's triple under its own names, per image, summed over steps.

        A connection counts as MACs as soon as one value outside {-1, 0, 1} fed it anywhere in the run; NeuroBench
        decides so for each call of a layer, which would depend on the batch size.
        Source: NeuroBench, metrics/workload/synaptic_operations.py.
        """
        images = max(self.images, 1)
        accumulates = sum(c.effective_operations for c in self.connections if c.ternary)
        multiplies = sum(c.effective_operations for c in self.connections if not c.ternary)
        dense = sum(c.dense_operations for c in self.connections)
        return {
            "Effective_ACs": accumulates / images,
            "Effective_MACs": multiplies / images,
            "Dense": dense / images,
        }


def same_structure(a: _T, b: _T, fields: tuple[str, ...]) -> None:
    """Raise ValueError unless both have the same values in `fields`."""
    for field in fields:
        if getattr(a, field) != getattr(b, field):
            raise ValueError(f"counts of different networks do not add up: {field} differs in {a} and {b}")


def same_length(where: str, a: tuple[Any, ...], b: tuple[Any, ...]) -> None:
    """Raise ValueError unless both have as many parts."""
    if len(a) != len(b):
        raise ValueError(f"counts of different networks do not add up: {where} has {len(a)} and {len(b)} parts")
