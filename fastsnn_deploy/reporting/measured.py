"""What a chip measured beside what was estimated, under the names of Intel's profiler."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fastsnn_deploy.analysis.energy import Band
from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.files import existing_file
from fastsnn_deploy.reporting.schema import MeasuredRow, Span

if TYPE_CHECKING:
    from fastsnn_deploy.analysis.mapping.result import Mapping
    from fastsnn_deploy.analysis.mapping.time import Timing
    from fastsnn_deploy.analysis.result import Profile

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
    path = existing_file(path, "measured run")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({error}). Write it with `run --backend loihi2 --json`") from error
    if isinstance(data, dict) and "measured" in data:
        data = data["measured"]
    try:
        return Measured.model_validate(data)
    except ValidationError as error:
        problems = [Problem(".".join(map(str, each["loc"])) or "the file", each["msg"]) for each in error.errors()]
        raise InputError(f"{path}: is not a measured run", problems) from error
