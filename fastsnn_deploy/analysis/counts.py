"""What a run of a spiking network did, in exact integers.

Spikes belong to the source that emits them, synaptic operations to the synapse that delivers them, and a synapse
to the layer (population, max pool, readout) that receives its synaptic input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastsnn_deploy.analysis.statistics import PerImage, sum_of
from fastsnn_deploy.graph.ranges import STATE_BITS
from fastsnn_deploy.tables import Column, Result, Table, one_line, words

WEIGHT_BITS = 8
"""Mantissa of a stored weight."""


@dataclass(frozen=True)
class ConnectionCounts:
    """One synapse, or the windows of a max pool, over all images.

    type: its node type. sources: the inputs, populations and max pools whose spikes it reads.
    weighted: it has a weight for each connection; one weight a channel folds into the threshold, a pool has none.
    synapses: connections that exist, zero weights included, positions in the padding not. parameters: weights stored.
    weights, zero_weights: all of the layer, and those of them that are 0; stock neurons store no others.
    synaptic_operations: one for each connection of each spike delivered, whatever its sign and payload; by_image: of
    each image, None where the run did not tell images apart.
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
    weights: int = 0
    zero_weights: int = 0
    synaptic_operations: int = 0
    payload_operations: int = 0
    undelivered_operations: int = 0
    ternary: bool = True
    effective_operations: int = 0
    dense_operations: int = 0
    by_image: PerImage | None = field(default=None, compare=False)


@dataclass(frozen=True)
class LayerCounts:
    """One input, population, max pool or readout, with the connections it receives, over all images.

    bias_values, threshold_values: stored, one a channel. positive_spikes, negative_spikes: by sign; by_image: both,
    of each image.
    payload: sum of |payload|. neuron_updates_active: neuron-steps that emitted a spike, of any payload;
    neuron_updates_inactive: the others, so that both add up to neurons * steps * images.
    max_spikes_in_step: most spikes that one image caused in one step. silent_neurons: neurons that never sent a spike,
    on no image; all those of a readout.
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
    silent_neurons: int = 0
    by_image: PerImage | None = field(default=None, compare=False)

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

    @property
    def sends(self) -> bool:
        """It has spikes of its own; a readout has none."""
        return self.type not in ("Readout", "Accumulator")

    @property
    def negative_share(self) -> float | None:
        """Negative spikes among all; 0 of none. None where there can be none."""
        return share(self.negative_spikes, self.spikes) if self.sends else None

    @property
    def silent_share(self) -> float | None:
        """Neurons that never sent a spike among all; None where no neuron can."""
        return share(self.silent_neurons, self.neurons) if self.sends else None

    @property
    def activation_sparsity(self) -> float | None:
        """Neuron-steps without a message among all; None where no neuron can send one."""
        return share(self.neuron_updates_inactive, self.neuron_updates) if self.sends else None

    @property
    def synapse_sparsity(self) -> float | None:
        """Synapse-steps without an operation among all: 1 - operations / (synapses * steps); None without synapses.
        A synapse of weight 0 that is read counts as an operation."""
        steps = self.neuron_updates // self.neurons if self.neurons else 0
        return share(self.synapses * steps - self.synaptic_operations, self.synapses * steps) if self.synapses else None


def share(part: float, whole: float) -> float:
    """A part of a whole, 0 of nothing."""
    return part / whole if whole else 0.0


SHOWN = ("neurons", "synapses", "positive_spikes", "negative_spikes", "synaptic_operations", "neuron_updates")
"""Quantities of a layer in the table of `Counts`; the first two are of the network, the others sums over images."""


@dataclass(frozen=True)
class Counts(Result):
    """A whole network over `images` images. steps: summed over images; max_steps: of the longest image; by_image: of
    each."""

    layers: tuple[LayerCounts, ...]
    images: int
    steps: int
    max_steps: int
    by_image: PerImage | None = field(default=None, compare=False)

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
        layers = [_plain(layer) | {key: getattr(layer, key) for key in SHOWN} for layer in self.layers]
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

    @property
    def each_image(self) -> Mapping[str, PerImage]:
        """steps, spikes, synaptic_operations and neuron_updates of each image; what the run did not tell apart is
        absent."""
        neurons = self.total("neurons")
        found = {
            "steps": self.by_image,
            "spikes": sum_of((layer.by_image for layer in self.layers if layer.sends), self.images),
            "synaptic_operations": sum_of((each.by_image for each in self.connections), self.images),
            "neuron_updates": None if self.by_image is None else PerImage(np.multiply(self.by_image.values, neurons)),
        }
        return {key: value for key, value in found.items() if value is not None}

    @property
    def activation_sparsity(self) -> float:
        """As that of a layer, over all that send."""
        sending = [layer for layer in self.layers if layer.sends]
        return share(
            sum(layer.neuron_updates_inactive for layer in sending), sum(layer.neuron_updates for layer in sending)
        )

    @property
    def synapse_sparsity(self) -> float:
        """As that of a layer, over all synapses."""
        whole = self.total("synapses") * self.steps
        return share(whole - self.total("synaptic_operations"), whole)

    @property
    def silent_share(self) -> float:
        """Neurons that never sent a spike, on no image, among all that could."""
        sending = [layer for layer in self.layers if layer.sends]
        return share(sum(layer.silent_neurons for layer in sending), sum(layer.neurons for layer in sending))

    @property
    def negative_share(self) -> float:
        """Negative spikes among all."""
        return share(self.total("negative_spikes"), self.total("spikes"))

    def memory_bits(self) -> Mapping[str, int]:
        """Bits that the network takes: weights of 8, biases, thresholds and potentials of 24 each, as its ranges allow.

        Counts towards the ceiling, spikes on their way, and tables of addresses, which depend on the chip, are not in
        it.
        """
        return {
            "weights": WEIGHT_BITS * self.total("parameters"),
            "biases_and_thresholds": STATE_BITS * (self.total("bias_values") + self.total("threshold_values")),
            "potentials": STATE_BITS * self.potentials,
        }

    @property
    def potentials(self) -> int:
        """Neurons that keep one."""
        return sum(layer.neurons for layer in self.layers if layer.type not in ("Input", "MaxPool2d"))


def _plain(counts: LayerCounts | ConnectionCounts) -> dict[str, Any]:
    fields = {key.name: getattr(counts, key.name) for key in dataclasses.fields(counts) if key.name != "by_image"}
    if isinstance(counts, LayerCounts):
        fields["connections"] = [_plain(connection) for connection in counts.connections]
    return fields
