"""Plain values of a profile, with the unit in every key. docs/energy.md documents the keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastsnn_deploy.analysis.ann import AnnCounts, AnnLayerCounts
from fastsnn_deploy.analysis.counts import ConnectionCounts, Counts, LayerCounts
from fastsnn_deploy.analysis.energy import AnnEnergy, Band, Energy, LayerEnergy
from fastsnn_deploy.analysis.hardware import Hardware

VERSION = 2

LAYER_SUMS = (
    "neurons",
    "synapses",
    "parameters",
    "bias_values",
    "threshold_values",
    "positive_spikes",
    "negative_spikes",
    "payload",
    "synaptic_operations",
    "payload_operations",
    "undelivered_operations",
    "neuron_updates_active",
    "neuron_updates_inactive",
)
"""Counts of a layer that add up over layers; the first five are of the network, the others sums over images."""

ANN_SUMS = (
    "macs",
    "macs_with_padding",
    "macs_nonzero",
    "additions",
    "additions_with_padding",
    "additions_nonzero",
    "nonzero_activations",
    "parameters",
)
"""Counts of the conventional network; null where it is not known."""


def plain(
    hardware: Hardware,
    counts: Counts,
    ann: AnnCounts | None,
    energy: Energy,
    arithmetic: Energy,
    ann_energy: Sequence[AnnEnergy],
) -> dict[str, Any]:
    """The whole profile as JSON values."""
    layers = zip(counts.layers, beside(counts, ann), energy.layers, strict=True)
    without = {f"ann_{key}": ann.known(key) for key in ANN_SUMS} if ann else {}
    return {
        "format": "fastsnn-deploy profile",
        "version": VERSION,
        "hardware": hardware_values(hardware),
        "images": counts.images,
        "steps_mean": counts.steps / counts.images,
        "steps_max": counts.max_steps,
        "layers": [_layer(*parts) for parts in layers],
        "total": {key: counts.total(key) for key in LAYER_SUMS} | without,
        "memory_bits": dict(counts.memory_bits()),
        "ann_layers": [{"module": x.module, "type": x.type} | _ann(x) for x in ann.layers] if ann else None,
        "neurobench": dict(counts.neurobench()),
        "energy_pj_per_image": energy_values(energy),
        "arithmetic_energy_pj_per_image": energy_values(arithmetic),
        "ann_energy_pj_per_image": [
            {
                "hardware": entry.hardware,
                "dense": band(entry.dense),
                "with_padding": band(entry.with_padding),
                "zero_skipping": band(entry.zero_skipping) if entry.zero_skipping else None,
            }
            for entry in ann_energy
        ],
        "constants_used": list(energy.used),
        "warnings": list(energy.warnings),
    }


def beside(counts: Counts, ann: AnnCounts | None) -> Sequence[AnnLayerCounts | None]:
    """The conventional layer of each spiking layer; None where their layers are not the same."""
    if ann is None or [layer.name for layer in ann.layers] != [layer.name for layer in counts.layers]:
        return [None] * len(counts.layers)
    return ann.layers


def _ann(layer: AnnLayerCounts) -> dict[str, Any]:
    return {key: getattr(layer, key) for key in ANN_SUMS}


def hardware_values(hardware: Hardware) -> dict[str, Any]:
    """A hardware profile with all its constants in one list."""
    return {
        "name": hardware.name,
        "title": hardware.title,
        "kind": hardware.kind,
        "process": hardware.process,
        "operating_point": hardware.operating_point,
        "scope": hardware.scope,
        "spikes": None if hardware.spikes is None else hardware.spikes.model_dump(),
        "chip": None if hardware.chip is None else hardware.chip.model_dump(mode="json"),
        "constants": [{"key": key} | constant.model_dump() for key, constant in hardware.constants()],
    }


def energy_values(energy: Energy) -> dict[str, Any]:
    """Energy of a network by term, each with low, value and high; None where a term is not known."""
    return {
        "hardware": energy.hardware,
        "terms": {term: band(value) for term, value in energy.terms.items()},
        "dynamic": band(energy.dynamic),
        "static": band(energy.static) if energy.static else None,
        "total": band(energy.total) if energy.total else None,
        "aggregate": band(energy.aggregate) if energy.aggregate else None,
        "sensitivity": {term: {"low": low, "high": high} for term, (low, high) in energy.sensitivity.items()},
    }


def layer_row(layer: LayerCounts, ann: AnnLayerCounts | None, energy: LayerEnergy) -> dict[str, Any]:
    """One layer as flat values, for CSV."""
    row: dict[str, Any] = {"name": layer.name, "type": layer.type, "module": layer.module}
    row |= {key: getattr(layer, key) for key in LAYER_SUMS}
    row["max_spikes_in_step"] = layer.max_spikes_in_step
    row |= {f"ann_{key}": value for key, value in _ann(ann).items()} if ann else {}
    row |= {f"{term}_energy_pj_per_image": value.value for term, value in energy.terms.items()}
    total = energy.total
    ends: Mapping[str, float] = {"_low": total.low, "": total.value, "_high": total.high}
    return row | {f"energy{end}_pj_per_image": value for end, value in ends.items()}


def band(value: Band) -> dict[str, float]:
    """A band as a table."""
    return {"low": value.low, "value": value.value, "high": value.high}


def _layer(layer: LayerCounts, ann: AnnLayerCounts | None, energy: LayerEnergy) -> dict[str, Any]:
    return {
        "name": layer.name,
        "type": layer.type,
        "module": layer.module,
        **{key: getattr(layer, key) for key in LAYER_SUMS},
        "max_spikes_in_step": layer.max_spikes_in_step,
        "connections": [_connection(connection) for connection in layer.connections],
        "ann": _ann(ann) if ann else None,
        "energy_pj_per_image": {
            "terms": {term: band(value) for term, value in energy.terms.items()},
            "total": band(energy.total),
        },
    }


def _connection(connection: ConnectionCounts) -> dict[str, Any]:
    return {
        "name": connection.name,
        "type": connection.type,
        "sources": list(connection.sources),
        "weighted": connection.weighted,
        "synapses": connection.synapses,
        "parameters": connection.parameters,
        "synaptic_operations": connection.synaptic_operations,
        "payload_operations": connection.payload_operations,
        "undelivered_operations": connection.undelivered_operations,
        "ternary": connection.ternary,
    }
