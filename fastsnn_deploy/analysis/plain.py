"""Plain values of a profile, with the unit in every key. docs/energy.md documents the keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastsnn_deploy.analysis.ann import AnnCounts, AnnLayerCounts
from fastsnn_deploy.analysis.counts import ConnectionCounts, Counts, LayerCounts
from fastsnn_deploy.analysis.energies import AnnEnergy, Energy, LayerEnergy
from fastsnn_deploy.analysis.hardware import Hardware

if TYPE_CHECKING:
    from fastsnn_deploy.analysis.result import Profile

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
    "silent_neurons",
)
"""Counts of a layer that add up over layers; the first five are of the network, the others sums over images."""

SHARES = ("negative_share", "silent_share", "activation_sparsity", "synapse_sparsity")
"""Of a layer, and of the whole network."""

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


def plain(profile: Profile, version: int) -> dict[str, Any]:
    """The whole profile as JSON values."""
    counts, ann, energy, timing = profile.counts, profile.ann, profile.energy, profile.timing
    layers = zip(counts.layers, beside(counts, ann), energy.layers, strict=True)
    without = {f"ann_{key}": ann.known(key) for key in ANN_SUMS} if ann else {}
    bench = profile.neurobench
    return {
        "format": "fastsnn-deploy profile",
        "version": version,
        "hardware": hardware_values(profile.hardware),
        "images": counts.images,
        "accuracy": {f"top{entry.k}": entry.correct / counts.images for entry in profile.evaluation.topk} or None,
        "steps_mean": counts.steps / counts.images,
        "steps_max": counts.max_steps,
        "statistics": {key: dataclasses.asdict(each) for key, each in profile.statistics.items()},
        "layers": [_layer(*parts) for parts in layers],
        "total": {key: counts.total(key) for key in LAYER_SUMS}
        | {key: getattr(counts, key) for key in SHARES}
        | without,
        "memory_bits": dict(counts.memory_bits()),
        "ann_layers": [{"module": x.module, "type": x.type} | _ann(x) for x in ann.layers] if ann else None,
        "neurobench": bench.to_dict() | {"membrane_images": bench.membrane_images},
        "mapping": None if profile.mapping is None else profile.mapping.to_dict(),
        "unplaced": profile.unplaced,
        "timing": None if timing is None else timing.to_dict(),
        "energy_pj_per_image": energy_values(energy),
        "arithmetic_energy_pj_per_image": energy_values(profile.arithmetic),
        "ann_energy_pj_per_image": list(map(_rival, profile.ann_energy)),
        "verdicts": list(profile.verdicts),
        "constants_used": list(energy.used),
        "warnings": list(energy.warnings),
    }


def _rival(rival: AnnEnergy) -> dict[str, Any]:
    bands = ("dense", "with_padding", "zero_skipping", "memory", "total")
    found = {key: getattr(rival, key) for key in bands}
    values = {key: None if each is None else each.to_dict() for key, each in found.items()}
    return {"name": rival.name, "hardware": rival.hardware, "bits": rival.bits} | values


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
    """Energy of a network by term and by boundary, each with low, value and high; None where it is not known."""
    return {
        "hardware": energy.hardware,
        "terms": {term: value.to_dict() for term, value in energy.terms.items()},
        "dynamic": energy.dynamic.to_dict(),
        "boundaries": [
            {"name": each.name, "holds": each.holds}
            | {
                key: None if (band := getattr(each, name)) is None else band.to_dict()
                for key, name in (("power_mw", "power"), ("energy_pj", "energy"), ("edp_js", "edp"))
            }
            | {"reason": each.reason}
            for each in energy.boundaries
        ],
        "break_even": [dataclasses.asdict(each) for each in energy.break_even],
        "tornado": {
            "boundary": energy.tornado_of,
            "constants": [{"key": each.key, "low": each.low, "high": each.high} for each in energy.tornado],
        },
        "aggregate": energy.aggregate.to_dict() if energy.aggregate else None,
    }


def layer_row(layer: LayerCounts, ann: AnnLayerCounts | None, energy: LayerEnergy) -> dict[str, Any]:
    """One layer as flat values, for CSV."""
    row: dict[str, Any] = {"name": layer.name, "type": layer.type, "module": layer.module}
    row |= {key: getattr(layer, key) for key in LAYER_SUMS}
    row |= {key: getattr(layer, key) for key in (*SHARES, "max_spikes_in_step")}
    row |= {f"ann_{key}": value for key, value in _ann(ann).items()} if ann else {}
    row |= {f"{term}_energy_pj_per_image": value.value for term, value in energy.terms.items()}
    total = energy.total
    ends: Mapping[str, float] = {"_low": total.low, "": total.value, "_high": total.high}
    return row | {f"energy{end}_pj_per_image": value for end, value in ends.items()}


def _layer(layer: LayerCounts, ann: AnnLayerCounts | None, energy: LayerEnergy) -> dict[str, Any]:
    return {
        "name": layer.name,
        "type": layer.type,
        "module": layer.module,
        **{key: getattr(layer, key) for key in LAYER_SUMS},
        **{key: getattr(layer, key) for key in SHARES},
        "max_spikes_in_step": layer.max_spikes_in_step,
        "spikes_statistics": None if layer.by_image is None else dataclasses.asdict(layer.by_image.statistics),
        "connections": [_connection(connection) for connection in layer.connections],
        "ann": _ann(ann) if ann else None,
        "energy_pj_per_image": {
            "terms": {term: value.to_dict() for term, value in energy.terms.items()},
            "total": energy.total.to_dict(),
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
        "weights": connection.weights,
        "zero_weights": connection.zero_weights,
        "synaptic_operations": connection.synaptic_operations,
        "payload_operations": connection.payload_operations,
        "undelivered_operations": connection.undelivered_operations,
        "ternary": connection.ternary,
    }
