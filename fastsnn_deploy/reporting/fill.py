"""From what was found to the values of report.json. Means and shares are all that is computed."""

from __future__ import annotations

import dataclasses
import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version

from fastsnn_deploy import __version__
from fastsnn_deploy.analysis import result as profiler
from fastsnn_deploy.analysis.curve import telling
from fastsnn_deploy.analysis.energies import Band
from fastsnn_deploy.analysis.mapping import result as mapper
from fastsnn_deploy.analysis.mapping.time import Part
from fastsnn_deploy.analysis.mapping.usage import RESOURCES
from fastsnn_deploy.analysis.structure import layers_of
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.reporting import rows
from fastsnn_deploy.reporting import schema as s
from fastsnn_deploy.reporting.findings import Findings
from fastsnn_deploy.reporting.measured import measured_rows
from fastsnn_deploy.reporting.schema_rows import CoreRow, Span

LIBRARIES = ("torch", "numpy", "numba")


def filled(found: Findings) -> s.ReportFile:
    """Every value of the report, without the hashes of the files that are written beside it."""
    results = {
        "mapping": found.mapping, "evaluation": found.evaluation, "timing": found.timing, "profile": found.profile,
        "verification": found.verification,
    }  # fmt: skip
    cores = rows.core_rows(found)
    return s.ReportFile(
        format=s.FORMAT,
        version=s.VERSION,
        made=_made(found),
        network=_network(found),
        hardware=_hardware(found),
        fit=_fit(found, cores),
        time=_time(found),
        energy=_energy(found),
        accuracy=_accuracy(found),
        statistics=_statistics(found),
        proof=_proof(found),
        layers=rows.layer_rows(found),
        cores=cores,
        steps=rows.step_rows(found),
        histograms=rows.histograms(found),
        constants=rows.constant_rows(found),
        fixtures=rows.fixture_rows(found),
        measured=measured_rows(found),
        notes=_notes(found),
        results={name: each.to_dict() for name, each in results.items() if each is not None},
    )


def span(band: Band) -> Span:
    """A band as a table of the file."""
    return Span(low=band.low, value=band.value, high=band.high)


def _maybe(band: Band | None) -> Span | None:
    return None if band is None else span(band)


def _made(found: Findings) -> s.Made:
    versions = {"fastsnn-deploy": __version__, "python": platform.python_version()}
    return s.Made(
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=found.command,
        versions=versions | {name: known for name in LIBRARIES if (known := _installed(name))},
        estimators={"mapping and time": mapper.VERSION, "counts and energy": profiler.VERSION},
        sources=found.sources,
        files=(),
    )


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _network(found: Findings) -> s.NetworkPart:
    network, layers = found.network, layers_of(found.network)
    graph = isinstance(network, SpikingGraph)
    incoming = [each for layer in layers for each in layer.incoming]
    return s.NetworkPart(
        name=found.name,
        kind="signed integrate-and-fire network" if graph else "network of stock layers",
        input_shape=tuple(network.input.shape),
        classes=found.evaluation.classes if found.evaluation is not None else None,
        layers=len(layers),
        neurons=sum(layer.neurons for layer in layers),
        synapses=sum(each.synapses for each in incoming),
        parameters=sum(each.parameters for each in incoming),
        depth=network.depth,
        trained_on=str(network.metadata.get("data", "")),
    )


def _hardware(found: Findings) -> s.HardwarePart:
    hardware = found.hardware
    chip = hardware.chip
    return s.HardwarePart(
        **{key: getattr(hardware, key) for key in ("name", "title", "process", "operating_point", "scope", "caveats")},
        compiler=None if chip is None else chip.compiler,
        usable_cores=None if chip is None else chip.usable_cores.value,
    )


def _fit(found: Findings, cores: tuple[CoreRow, ...]) -> s.Fit | None:
    mapping = found.mapping
    if mapping is None:
        return None
    mesh = mapping.hardware.limits.mesh
    return s.Fit(
        fits=mapping.fits,
        cores=mapping.cores,
        chips=mapping.chips,
        board=mapping.board,
        objective=mapping.objective,
        fullest=_fullest(cores),
        busiest=_busiest(cores),
        violations=tuple(
            s.ViolationPart(**{key: getattr(each, key) for key in s.ViolationPart.model_fields})
            for each in mapping.violations
        ),
        fixes=mapping.fixes,
        mesh=(mesh.columns, mesh.rows, mesh.cores),
    )


def _fullest(cores: tuple[CoreRow, ...]) -> s.Fullest | None:
    row = max(cores, key=lambda row: row.share, default=None)
    if row is None:
        return None
    return s.Fullest(layer=row.layer, core=row.core, resource=RESOURCES[row.limiting], share=row.share)


def _busiest(cores: tuple[CoreRow, ...]) -> s.Busiest | None:
    row = max(cores, key=lambda row: row.synaptic_operations or 0.0, default=None)
    if row is None or row.synaptic_operations is None:
        return None
    return s.Busiest(layer=row.layer, core=row.core, synaptic_operations=row.synaptic_operations)


def _time(found: Findings) -> s.Time | None:
    timing = found.timing
    if timing is None:
        return None
    latencies = (s.Latency(name=name, steps=timing.settled[name], ns=span(ns)) for name, ns in timing.latencies.items())
    first = (
        s.Latency(name=name, steps=timing.first_right[name], ns=span(ns))
        for name, ns in timing.first_right_latencies.items()
    )
    waits = (_wait(part) for part in timing.parts)
    return s.Time(
        binding=timing.binding,
        steps=timing.steps,
        step_ns=span(timing.step),
        latencies=tuple(latencies),
        first_right=tuple(first),
        never_right=timing.never_right,
        waits=tuple(waits),
        io=None if timing.io is None else _wait(timing.io),
        images_per_second=timing.images_per_second,
        streams=timing.streams,
    )


def _wait(part: Part) -> s.Wait:
    return s.Wait(name=part.name, where=part.where, number=part.number, ns=span(part.time))


def _energy(found: Findings) -> s.EnergyPart | None:
    if found.profile is None:
        return None
    energy = found.profile.energy
    boundaries = (
        s.BoundaryPart(
            name=each.name, holds=each.holds, power_mw=_maybe(each.power), energy_pj=_maybe(each.energy),
            edp_js=_maybe(each.edp), reason=each.reason,
        )
        for each in energy.boundaries
    )  # fmt: skip
    baselines = (
        s.Baseline(
            name=each.name, hardware=each.hardware, bits=each.bits, arithmetic_pj=span(each.dense),
            zero_skipping_pj=_maybe(each.zero_skipping), memory_pj=_maybe(each.memory), total_pj=span(each.total),
        )
        for each in found.profile.ann_energy
    )  # fmt: skip
    keys = s.BreakEvenPart.model_fields
    return s.EnergyPart(
        boundaries=tuple(boundaries),
        terms_pj={name: span(each) for name, each in energy.terms.items()},
        tornado_of=energy.tornado_of,
        tornado=tuple(s.SwingPart(key=each.key, low_pj=each.low, high_pj=each.high) for each in energy.tornado),
        break_even=tuple(s.BreakEvenPart(**{key: getattr(each, key) for key in keys}) for each in energy.break_even),
        aggregate_pj=_maybe(energy.aggregate),
        baselines=tuple(baselines),
        verdicts=found.profile.verdicts,
    )


def _statistics(found: Findings) -> tuple[s.StatisticsRow, ...]:
    statistics = found.profile.statistics if found.profile is not None else {}
    return tuple(s.StatisticsRow(name=name, **dataclasses.asdict(each)) for name, each in statistics.items())


def _accuracy(found: Findings) -> s.Accuracy | None:
    evaluation = found.evaluation
    if evaluation is None:
        return None
    top = telling(evaluation)
    integer = evaluation.accuracy(top[0].k) if evaluation.exact and top else None
    return s.Accuracy(
        images=evaluation.images,
        data=found.data,
        fixed_steps=evaluation.steps,
        top={str(entry.k): evaluation.accuracy(entry.k) for entry in top} if top else None,
        correct={str(entry.k): entry.correct for entry in top} if top else None,
        integer=integer,
        settled_mean=evaluation.mean_settle_steps,
        settled_p99=evaluation.settle_percentile(99),
        settled_max=evaluation.max_settle_steps,
        settled=tuple(evaluation.settled.tolist()),
    )


def _proof(found: Findings) -> s.Proof | None:
    verification = found.verification
    if verification is None:
        return None
    total = verification.total
    return s.Proof(
        exact=verification.exact,
        compared=total.compared,
        differing=total.differing,
        images=verification.images,
        line=str(total),
        against=found.proved_against,
        notes=tuple(str(line) for line in verification.report()),
    )


def _notes(found: Findings) -> tuple[str, ...]:
    """What is not known, and what the results say of themselves."""
    own = found.profile.energy.warnings if found.profile is not None else ()
    return tuple(dict.fromkeys((*found.notes, *own)))
