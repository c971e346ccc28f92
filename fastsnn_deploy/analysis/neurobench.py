"""NeuroBench's metrics under their own names and by their own rules, so that they can stand in published tables.

Source: NeuroBench 2.3.0, metrics/static and metrics/workload.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastsnn_deploy.analysis.counts import Counts, share

LEAKY_OPERATIONS = 4
"""Operations of one update of snnTorch's Leaky with reset by subtraction, in neuron_operations.py."""

STATE_BYTES = 4
"""A bias, a threshold or a potential as stored: 24 bits have no type of their own, and NeuroBench counts bytes of
types."""


@dataclass(frozen=True)
class NeuroBench:
    """For one image, summed over steps.

    footprint: bytes of weights (1 each), biases, thresholds and potentials (4 each). connection_sparsity: weights of
    0 among all of convolutions and linear layers. activation_sparsity: neuron-steps without a spike among all,
    populations alone; also by layer. effective_acs, effective_macs, dense: synaptic operations with weights that are
    not 0; of layers that only ever saw -1, 0 and 1 and of all others; and all connections in every step.
    membrane_updates: all neurons once, and potentials that a later step changed, mean over the first
    `membrane_images` images; None where they were not looked at. neuron_updates: neurons times steps.
    """

    footprint: int
    connection_sparsity: float
    activation_sparsity: float
    activation_sparsity_by_layer: Mapping[str, float]
    effective_acs: float
    effective_macs: float
    dense: float
    neuron_updates: float
    membrane_updates: float | None
    membrane_images: int

    def to_dict(self) -> dict[str, Any]:
        """NeuroBench's own keys."""
        updates = self.membrane_updates
        return {
            "Footprint": self.footprint,
            "ConnectionSparsity": self.connection_sparsity,
            "ActivationSparsity": self.activation_sparsity,
            "ActivationSparsityByLayer": dict(self.activation_sparsity_by_layer),
            "SynapticOperations": {
                "Effective_ACs": self.effective_acs, "Effective_MACs": self.effective_macs, "Dense": self.dense,
            },
            "MembraneUpdates": updates,
            "NeuronOperations": {
                "Effective Neuron Ops": None if updates is None else LEAKY_OPERATIONS * updates,
                "Neuron Dense Ops": LEAKY_OPERATIONS * self.neuron_updates,
            },
        }  # fmt: skip


def neurobench_of(counts: Counts, membrane_updates: float | None = None, membrane_images: int = 0) -> NeuroBench:
    """NeuroBench's metrics of a run. Connection sparsity is rounded to four digits, as there.

    A connection counts as MACs as soon as one value outside {-1, 0, 1} fed it anywhere in the run; NeuroBench decides
    so for each call of a layer, which would depend on the batch size.
    """
    images = max(counts.images, 1)
    weighted = [connection for connection in counts.connections if connection.weighted]
    populations = [layer for layer in counts.layers if layer.threshold_values and layer.type != "Input"]
    zeros, weights = (sum(getattr(each, key) for each in weighted) for key in ("zero_weights", "weights"))
    state = counts.total("bias_values") + counts.total("threshold_values") + counts.potentials
    updates = sum(layer.neuron_updates for layer in populations)
    return NeuroBench(
        footprint=counts.total("parameters") + STATE_BYTES * state,
        connection_sparsity=round(share(zeros, weights), 4),
        activation_sparsity=share(sum(layer.neuron_updates_inactive for layer in populations), updates),
        activation_sparsity_by_layer={
            layer.name: share(layer.neuron_updates_inactive, layer.neuron_updates) for layer in populations
        },
        effective_acs=sum(each.effective_operations for each in weighted if each.ternary) / images,
        effective_macs=sum(each.effective_operations for each in weighted if not each.ternary) / images,
        dense=sum(each.dense_operations for each in weighted) / images,
        neuron_updates=updates / images,
        membrane_updates=membrane_updates,
        membrane_images=membrane_images,
    )
