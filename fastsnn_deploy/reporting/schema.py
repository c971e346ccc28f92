"""report.json: every value that a report shows. Its JSON Schema is docs/schemas/report.json.

`python -m fastsnn_deploy.reporting.schema docs/schemas/report.json` writes the schema anew; a test checks that it is
current.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final, Literal

from fastsnn_deploy.reporting.schema_rows import (
    ConstantRow,
    CoreRow,
    Count,
    FixtureRow,
    Histogram,
    LayerRow,
    MeasuredRow,
    Number,
    Part,
    Span,
    StepRow,
)

FORMAT: Final = "fastsnn-deploy report"
VERSION: Final = 1


class Source(Part):
    """A file that the report was made from, or that belongs to it."""

    what: str
    name: str
    """Its name, without the folder."""
    sha256: str


class Made(Part):
    """How the report was made."""

    date: str
    """UTC, ISO 8601."""
    command: str
    """The command line, or the call."""
    versions: dict[str, str]
    """Of this program and what it computes with."""
    estimators: dict[str, int]
    """Versions of the estimators: they change whenever a network may get other numbers."""
    sources: tuple[Source, ...]
    """What was read."""
    files: tuple[Source, ...]
    """What was written beside this file, but the page, which holds the hash of this file."""


class NetworkPart(Part):
    """The network as it is in the file."""

    name: str
    kind: str
    input_shape: tuple[int, ...]
    classes: int | None
    """Values of the answer."""
    layers: Count
    neurons: Count
    synapses: Count
    parameters: Count
    depth: Count
    """Steps until the first spike of an image can reach the output."""
    trained_on: str
    """Data set, where the file says it."""


class HardwarePart(Part):
    """The hardware profile."""

    name: str
    title: str
    process: str
    operating_point: str
    scope: str
    compiler: str | None
    """Whose rules of partitioning; null where the profile has no limits."""
    usable_cores: int | None
    caveats: tuple[str, ...]


class Fullest(Part):
    """The core that holds most of one of its limits."""

    layer: str
    core: Count
    resource: str
    share: Number
    """Of the limit, 1 is full."""


class Busiest(Part):
    """The core that receives most synaptic operations."""

    layer: str
    core: Count
    synaptic_operations: Number
    """For one image."""


class ViolationPart(Part):
    """One thing that the chip cannot hold or do."""

    layer: str
    module: str
    what: str
    resource: str
    number: int
    limit: int
    unit: str
    fixes: tuple[str, ...]
    """What would make it fit, each tried by mapping it."""


class Fit(Part):
    """Whether the network fits, and on what."""

    fits: bool
    cores: Count
    chips: Count
    board: str
    """The smallest board with so many chips; empty if there is none."""
    objective: str
    fullest: Fullest | None
    busiest: Busiest | None
    """Null where no image was run."""
    violations: tuple[ViolationPart, ...]
    fixes: tuple[str, ...]
    """What would make the whole network fit."""
    mesh: tuple[int, int, int]
    """Columns and rows of routers of a chip, and cores at each."""


class Latency(Part):
    """Time from an image to its answer, at least."""

    name: str
    steps: Number
    ns: Span


class Wait(Part):
    """One thing that an image waits for; the longest binds."""

    name: str
    where: str
    number: Number
    ns: Span


class Time(Part):
    """How long an image takes at the least."""

    binding: str
    steps: Number
    """Mean of an image."""
    step_ns: Span
    latencies: tuple[Latency, ...]
    """Until the answer has settled."""
    first_right: tuple[Latency, ...]
    """Until the answer is the label for the first time, over the images that get there."""
    never_right: Count
    """Images that do not."""
    waits: tuple[Wait, ...]
    io: Wait | None
    """The way of an image in and out, which is in none of them."""
    images_per_second: Number
    """At most."""
    streams: bool
    """A new image enters in every step."""


class BoundaryPart(Part):
    """Energy of an image with everything inside one boundary; null where it is not known, and `reason` says why."""

    name: str
    holds: str
    power_mw: Span | None
    """Static power inside."""
    energy_pj: Span | None
    edp_js: Span | None
    """Energy times latency."""
    reason: str


class SwingPart(Part):
    """The total with one constant at its low and at its high end."""

    key: str
    low_pj: Number
    high_pj: Number


class BreakEvenPart(Part):
    """A rate of images at which two energies are equal."""

    what: str
    boundary: str
    low: Number | None
    value: Number | None
    """Images a second; null where no rate does it."""
    high: Number | None
    reachable: bool | None
    text: str


class Baseline(Part):
    """The same network without spikes."""

    name: str
    hardware: str
    bits: str
    arithmetic_pj: Span
    zero_skipping_pj: Span | None
    memory_pj: Span | None
    total_pj: Span


class EnergyPart(Part):
    """What an image costs."""

    boundaries: tuple[BoundaryPart, ...]
    terms_pj: dict[str, Span]
    """Dynamic energy by term."""
    tornado_of: str
    """Boundary whose total the constants move."""
    tornado: tuple[SwingPart, ...]
    break_even: tuple[BreakEvenPart, ...]
    aggregate_pj: Span | None
    """Synaptic operations times the aggregate constant, which holds everything."""
    baselines: tuple[Baseline, ...]
    verdicts: tuple[str, ...]
    """Whether the spiking network takes less than the one without spikes."""


class StatisticsRow(Part):
    """A quantity of one image over all images."""

    name: str
    mean: Number
    std: Number
    min: Number
    p50: Number
    p99: Number
    max: Number


class Accuracy(Part):
    """What the network answered on the images."""

    images: Count
    data: str
    fixed_steps: int | None
    """Steps that every image ran; null where each ran until it settled."""
    top: dict[str, Number] | None
    """Share of right answers by k; null without labels."""
    correct: dict[str, Count] | None
    integer: Number | None
    """Of the integer network, where it is known on these images."""
    settled_mean: Number
    settled_p99: Count
    settled_max: Count
    settled: tuple[Count, ...]
    """Images by the number of steps after which nothing changed any more."""


class Proof(Part):
    """What was compared, integer by integer."""

    exact: bool
    compared: Count
    differing: Count
    images: Count
    line: str
    against: str
    """What was compared with what."""
    notes: tuple[str, ...]


class ReportFile(Part):
    """The whole file. A part that is null could not be known; `notes` says why."""

    format: Literal["fastsnn-deploy report"]
    version: Literal[1]
    made: Made
    network: NetworkPart
    hardware: HardwarePart
    fit: Fit | None
    time: Time | None
    energy: EnergyPart | None
    accuracy: Accuracy | None
    statistics: tuple[StatisticsRow, ...]
    proof: Proof | None
    layers: tuple[LayerRow, ...]
    cores: tuple[CoreRow, ...]
    steps: tuple[StepRow, ...]
    histograms: tuple[Histogram, ...]
    constants: tuple[ConstantRow, ...]
    fixtures: tuple[FixtureRow, ...]
    """How far off the constants have been."""
    measured: tuple[MeasuredRow, ...]
    notes: tuple[str, ...]
    """What is unknown and why, and what to know before quoting."""
    results: dict[str, Any]
    """What `map`, `evaluate`, `profile` and `verify` print with --json."""


def schema_text() -> str:
    """The JSON Schema of report.json."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | ReportFile.model_json_schema()
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    from fastsnn_deploy.files import write_file

    write_file(sys.argv[1], schema_text())
