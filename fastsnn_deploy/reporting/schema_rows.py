"""Rows of the tables of report.json, and what all its parts are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Part(BaseModel):
    """A table of the file: no key is missing, none is more."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class Span(Part):
    """A value and its band: every constant at the low and at the high end of its own."""

    low: Number
    value: Number
    high: Number


class LayerRow(Part):
    """One layer. Counts are for one image; null where no image was run or the layer takes no core."""

    layer: str
    module: str
    type: str
    shape: tuple[int, ...]
    neurons: Count
    synapses: Count | None
    parameters: Count | None
    tile: tuple[int, ...] | None
    cores: Count | None
    first_core: Count | None
    limiting: str | None
    """What its fullest core holds most of, against the limit."""
    limiting_share: Number | None
    destination_cores: Number | None
    hops: Number | None
    positive_spikes: Number | None
    negative_spikes: Number | None
    never_fire: Number | None
    """Share of neurons that sent no spike on any image."""
    synaptic_operations: Number | None
    neuron_updates: Number | None
    macs: Number | None
    """Of the same layer without spikes."""
    energy_pj: Span | None
    """Dynamic."""


class CoreRow(Part):
    """One core that is used. spikes and synaptic_operations are for one image."""

    core: Count
    """Counted over all chips."""
    chip: Count
    column: Count
    """Of its router on the chip."""
    row: Count
    layer: str
    neurons: Count
    limiting: str
    share: Number
    """Of its limit of that resource."""
    words: dict[str, Count]
    """Each resource, in the units of its limit."""
    spikes: Number | None
    synaptic_operations: Number | None


class StepRow(Part):
    """After one step, all images together."""

    steps: Count
    settled: Count
    spikes: Count
    correct: dict[str, Count]
    """Right answers by k."""


class Histogram(Part):
    """Neurons of a layer by spikes for one image, mean over the images."""

    layer: str
    edges: tuple[Number, ...]
    """Of the bins, from the first to the last; the first bin begins above 0."""
    never: Count
    """Neurons that never fired."""
    neurons: tuple[Count, ...]


class ConstantRow(Part):
    """One constant or limit of the profile."""

    key: str
    value: Number
    low: Number
    high: Number
    unit: str
    status: str
    source: str
    note: str
    used: bool
    """It entered a number of this report."""


class FixtureRow(Part):
    """A published measurement beside what the constants of the profile give for it."""

    name: str
    kind: str
    """"energy" or "time", which is a least time, or "static": power times the measured time."""
    quantity: str
    """What, with its unit."""
    measured: Number
    estimate: Span
    ratio: Number
    """Estimate over measured."""
    source: str
    note: str
    """What the estimate is made from."""


class MeasuredRow(Part):
    """A measured value beside its estimate, under the name that Intel's profiler gives it."""

    name: str
    unit: str
    measured: Number | None
    estimate: Span | None
    ratio: Number | None
    """Estimate over measured."""
    note: str
