"""A measured run of a chip, and its values beside the estimates, under the names of Intel's profiler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from fastsnn_deploy.analysis.energies import ENDS, Band
from fastsnn_deploy.reading import of_schema, read_json
from fastsnn_deploy.reporting.schema_rows import MeasuredRow, Span

if TYPE_CHECKING:
    from fastsnn_deploy.reporting.findings import Findings

Value = Annotated[float, Field(allow_inf_nan=False)]


class Cores(BaseModel):
    """Values by core; other columns are let through."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    memory: dict[str, tuple[Value, ...]] = Field(default_factory=dict)


class Measured(BaseModel):
    """A measured run, as `run --backend loihi2 --json` prints it under `measured`; a value that is not there was not
    measured. Powers in watts, times in microseconds, energies in joules of the run; counts are sums over cores and the
    run."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    steps: Annotated[int, Field(ge=1)]
    vdd_power: Value | None = None
    vddm_power: Value | None = None
    vddio_power: Value | None = None
    total_power: Value | None = None
    static_vdd_power: Value | None = None
    static_vddm_power: Value | None = None
    static_vddio_power: Value | None = None
    static_total_power: Value | None = None
    avg_time_per_step: Value | None = None
    total_energy: Value | None = None
    dynamic_energy: Value | None = None
    syn_ops: Value | None = None
    dendrite_updates: Value | None = None
    axon_out: Value | None = None
    spikes_in: Value | None = None
    cores: Cores = Cores()


def read_measured(path: str | Path) -> Measured:
    """Read a measured run: what `run --json` printed, or its part `measured`. Raises InputError for anything else."""
    data = read_json(path, "measured run")
    if isinstance(data, dict) and "measured" in data:
        data = data["measured"]
    return of_schema(Measured, data, path, "measured run: `run --backend loihi2 --json` prints one")


APART = "the estimate does not tell the supplies apart"

Row = tuple[str, str, float | None, Band | None, str]
"""Name, unit, measured, estimate, and what to know."""


def measured_rows(found: Findings) -> tuple[MeasuredRow, ...]:
    """Each measured value beside what was estimated; counts and energies for one step."""
    return () if found.measured is None else tuple(map(_row, _rows(found, found.measured)))


def _row(row: Row) -> MeasuredRow:
    name, unit, measured, estimate, note = row
    ratio = estimate.value / measured if estimate is not None and measured else None
    span = None if estimate is None else Span(low=estimate.low, value=estimate.value, high=estimate.high)
    return MeasuredRow(name=name, unit=unit, measured=measured, estimate=span, ratio=ratio, note=note)


def _rows(found: Findings, run: Measured) -> Iterator[Row]:
    timing, profile = found.timing, found.profile
    chips = profile.energy["used chips"] if profile is not None else None
    power, energy = (chips.power, chips.energy) if chips is not None else (None, None)
    dynamic = profile.energy.dynamic if profile is not None else None
    steps, time = (timing.steps, timing.step.times(1e-3)) if timing is not None else (0.0, None)

    def each_step(value: float | None) -> float | None:
        return None if value is None else value / run.steps

    def watts(pj: Band | None) -> Band | None:
        """Energy of an image over its time, pJ / ns = mW."""
        if pj is None or timing is None:
            return None
        ends = [getattr(pj, end) / getattr(timing.image, end) / 1000 for end in ENDS]
        return Band(min(ends), ends[1], max(ends))

    def joules(pj: Band | None) -> Band | None:
        return None if pj is None or not steps else pj.times(1e-12 / steps)

    yield "avg_time_per_step", "µs", run.avg_time_per_step, time, "at least"
    for name, note in (
        ("syn_ops", "for one step"),
        ("dendrite_updates", "for one step; neurons of used cores"),
        ("axon_out", "for one step; a spike to two cores counts twice"),
        ("spikes_in", "for one step; what is sent arrives"),
    ):
        yield name, "", each_step(getattr(run, name)), _certain(_count(found, name)), note
    memory, share = run.cores.memory.get("total_mpds"), _memory(found)
    mean = float(np.mean(memory)) if memory else None
    yield "total_mpds", "", mean, _certain(share), "used share of a core, mean of the cores"
    at_rest = None if power is None else power.times(1e-3)
    yield "static_total_power", "W", run.static_total_power, at_rest, "estimate: used chips; measured: all of the board"
    yield "total_power", "W", run.total_power, watts(energy), "estimate: at the least time of a step"
    yield "dynamic_energy", "J", each_step(run.dynamic_energy), joules(dynamic), "for one step"
    yield "total_energy", "J", each_step(run.total_energy), joules(energy), "for one step; used chips"
    for name in ("vdd_power", "vddm_power", "vddio_power"):
        for whole in (name, f"static_{name}"):
            yield whole, "W", getattr(run, whole), None, APART


def _certain(number: float | None) -> Band | None:
    return None if number is None else Band(number, number, number)


def _count(found: Findings, name: str) -> float | None:
    """Events of one step, mean."""
    timing, profile = found.timing, found.profile
    if timing is None:
        return None
    loads = timing.load.layers.values()
    if name == "syn_ops":
        return sum(int(load.operations.sum()) for load in loads) / timing.load.steps
    if name == "dendrite_updates":
        return sum(int(load.updates.sum()) for load in loads) / timing.load.steps
    if profile is None:
        return None
    sent = [layer.amounts["messages"] for layer in profile.energy.layers if "messages" in layer.amounts]
    return sum(sum(keys.values()) for keys in sent) / timing.steps if sent else None


def _memory(found: Findings) -> float | None:
    """Mean share of the words of a core that is used."""
    mapping = found.mapping
    limit = mapping.hardware.limits.core.total_words if mapping is not None else None
    if mapping is None or limit is None:
        return None
    used = [layer.used["total_words"] for layer in mapping.layers]
    return float(np.mean(np.concatenate(used)) / limit.value) if used else None
