"""Rows of the tables of a report: layers, cores, steps, histograms, constants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastsnn_deploy.analysis.curve import curve_rows, telling
from fastsnn_deploy.analysis.energies import Band
from fastsnn_deploy.analysis.fixtures import fixtures
from fastsnn_deploy.analysis.mapping.place import routers
from fastsnn_deploy.analysis.mapping.result import LayerMapping
from fastsnn_deploy.analysis.mapping.usage import limits_of, worst
from fastsnn_deploy.analysis.plain import beside
from fastsnn_deploy.analysis.structure import layers_of
from fastsnn_deploy.reporting.findings import Findings
from fastsnn_deploy.reporting.schema_rows import ConstantRow, CoreRow, FixtureRow, Histogram, LayerRow, Span, StepRow

BINS = 12
"""Of a histogram of spikes."""


def layer_rows(found: Findings) -> tuple[LayerRow, ...]:
    """One row a layer: what it takes of the chip, and what it did."""
    layers = layers_of(found.network)
    counts = [_counted(found, index) for index in range(len(layers))]
    return tuple(
        LayerRow(
            layer=layer.name,
            module=layer.module,
            type=layer.type,
            shape=layer.shape,
            neurons=layer.neurons,
            synapses=sum(each.synapses for each in layer.incoming),
            parameters=sum(each.parameters for each in layer.incoming),
            **_mapped(found, layer.name),
            **counted,
        )
        for layer, counted in zip(layers, counts, strict=True)
    )


def _mapped(found: Findings, name: str) -> dict[str, Any]:
    mapping = found.mapping
    layer = next((each for each in mapping.layers if each.name == name), None) if mapping is not None else None
    if mapping is None or layer is None:
        keys = ("tile", "cores", "first_core", "limiting", "limiting_share", "destination_cores", "hops")
        return dict.fromkeys(keys)
    limiting, share = worst(layer.used, mapping.hardware.limits)
    return {
        "tile": layer.tile,
        "cores": layer.cores,
        "first_core": layer.first,
        "limiting": limiting,
        "limiting_share": share,
        "destination_cores": layer.travel.destination_cores,
        "hops": layer.travel.hops,
    }


def _counted(found: Findings, index: int) -> dict[str, Any]:
    profile = found.profile
    if profile is None:
        keys = ("positive_spikes", "negative_spikes", "synaptic_operations", "neuron_updates", "macs", "energy_pj")
        return dict.fromkeys((*keys, "never_fire"))
    counts, images = profile.counts.layers[index], profile.counts.images
    without, energy = beside(profile.counts, profile.ann)[index], profile.energy.layers[index].total
    sums = ("positive_spikes", "negative_spikes", "synaptic_operations", "neuron_updates")
    return {
        **{key: getattr(counts, key) / images for key in sums},
        "never_fire": _silent(found, counts.name),
        "macs": None if without is None else without.macs / images,
        "energy_pj": _span(energy),
    }


def _silent(found: Findings, name: str) -> float | None:
    activity = found.evaluation.activity.get(name) if found.evaluation is not None else None
    return None if activity is None else float(np.mean(activity.spikes == 0))


def core_rows(found: Findings) -> tuple[CoreRow, ...]:
    """One row a core that is used, in order."""
    mapping = found.mapping
    if mapping is None:
        return ()
    return tuple(sorted((row for layer in mapping.layers for row in _cores(found, layer)), key=lambda row: row.core))


def _cores(found: Findings, layer: LayerMapping) -> Iterator[CoreRow]:
    assert found.mapping is not None
    chip = found.mapping.hardware.limits
    limits = limits_of(chip)
    numbers = layer.first + np.arange(layer.cores)
    columns, row, number = routers(numbers, chip)
    work = _work(found, layer)
    for index, core in enumerate(numbers.tolist()):
        words = {key: int(used[index]) for key, used in layer.used.items()}
        limiting = max(limits, key=lambda key: words[key] / limits[key].value if key in words else 0.0)
        yield CoreRow(
            core=core,
            chip=int(number[index]),
            column=int(columns[index] - number[index] * chip.mesh.columns),
            row=int(row[index]),
            layer=layer.name,
            neurons=words.pop("neurons"),
            limiting=limiting,
            share=int(layer.used[limiting][index]) / limits[limiting].value,
            words=words,
            **{key: None if values is None else float(values[index]) for key, values in work.items()},
        )


def _work(found: Findings, layer: LayerMapping) -> dict[str, Any]:
    """Spikes and synaptic operations of each core for one image; None without images."""
    if found.load is None:
        return {"spikes": None, "synaptic_operations": None}
    load, images = found.load.layers[layer.name], found.load.images
    return {"spikes": load.spikes / images, "synaptic_operations": load.operations / images}


def step_rows(found: Findings) -> tuple[StepRow, ...]:
    """One row a step of the evaluation."""
    evaluation = found.evaluation
    if evaluation is None:
        return ()
    names = [str(entry.k) for entry in telling(evaluation)]
    return tuple(
        StepRow(
            steps=int(row["steps"]),
            settled=int(row["settled"]),
            spikes=int(row["spikes"]),
            correct={name: int(row[f"top{name}_correct"]) for name in names},
        )
        for row in curve_rows(evaluation)
    )


def histograms(found: Findings) -> tuple[Histogram, ...]:
    """How often neurons of each layer fire, all layers in the same bins."""
    evaluation = found.evaluation
    if evaluation is None or not evaluation.images:
        return ()
    means = {name: activity.spikes.reshape(-1) / evaluation.images for name, activity in evaluation.activity.items()}
    most = max((float(values.max(initial=0)) for values in means.values()), default=0.0)
    edges = np.linspace(0, most or 1.0, BINS + 1)
    return tuple(
        Histogram(
            layer=name,
            edges=tuple(edges.tolist()),
            never=int(np.count_nonzero(values == 0)),
            neurons=tuple(np.histogram(values[values > 0], edges)[0].tolist()),
        )
        for name, values in means.items()
    )


def constant_rows(found: Findings) -> tuple[ConstantRow, ...]:
    """Every constant and limit of the profile."""
    hardware = found.hardware
    used = set(found.profile.energy.used) if found.profile is not None else set()
    if found.timing is not None:
        used |= found.timing.load.keys(hardware.numbers("value"))
        used |= {"times.input_value"} if found.timing.io is not None else set()
    constants = [
        ConstantRow(
            key=key, value=each.value, low=each.low, high=each.high, unit=each.unit, status=each.status,
            source=f"{each.source} ({each.operating_point})", note=each.note, used=key in used,
        )
        for key, each in hardware.constants()
    ]  # fmt: skip
    limits = [
        ConstantRow(
            key=key, value=each.value, low=each.value, high=each.value, unit=each.unit, status=each.status,
            source=each.source, note=each.note, used=found.mapping is not None,
        )
        for key, each in (hardware.chip.limits() if hardware.chip is not None else ())
    ]  # fmt: skip
    return (*constants, *limits)


def fixture_rows(found: Findings) -> tuple[FixtureRow, ...]:
    """Every published measurement of such a chip, beside what the constants give."""
    profiles = (found.hardware.name, found.hardware.based_on)
    keys = ("name", "kind", "quantity", "measured", "ratio", "source", "note")
    return tuple(
        FixtureRow(estimate=_span(each.estimate), **{key: getattr(each, key) for key in keys})
        for each in fixtures()
        if each.hardware in profiles
    )


def _span(band: Band) -> Span:
    return Span(low=band.low, value=band.value, high=band.high)
