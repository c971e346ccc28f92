"""What a chip can hold: the section `chip` of a hardware profile, which the core mapper reads its every limit from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Status = Literal["published", "fitted", "scaled", "inherited", "assumed"]
"""How a constant was obtained.

published: printed by those who designed or measured the chip. fitted: by others, to measurements of it. scaled: from
another chip by a published ratio. inherited: taken over unchanged from another chip. assumed: no source at all.
"""

MOST = 2**53
"""Greatest whole number of a profile, as exact in floating point."""

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class Strict(BaseModel):
    """A table of a profile: unknown keys, values of another type, and numbers that arrays do not hold are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="after")
    def _bounded(self) -> Strict:
        for key in type(self).model_fields:
            value = getattr(self, key)
            if isinstance(value, int) and abs(value) > MOST:
                raise ValueError(f"{key} is more than {MOST:,}")
        return self


class Limit(Strict):
    """A whole number of a chip, with where it is from. note: what else to know."""

    value: Annotated[int, Field(ge=0)]
    unit: Text
    status: Status
    source: Text
    note: str = ""


class Limits(Strict):
    """Limits by name; each has one unit, and one that nobody has published is absent and not checked."""

    UNITS: ClassVar[dict[str, str]] = {}

    @model_validator(mode="after")
    def _units(self) -> Limits:
        for key, limit in self.given():
            unit = self.UNITS.get(key, "words")
            if limit.unit != unit:
                raise ValueError(f"{key} is in {limit.unit}, must be in {unit}")
            if limit.value == 0:
                raise ValueError(f"{key} is 0, must be at least 1")
        return self

    def given(self) -> Iterator[tuple[str, Limit]]:
        """The limits that the profile states, by name."""
        for key in type(self).model_fields:
            limit = getattr(self, key)
            if isinstance(limit, Limit):
                yield key, limit


class CoreLimits(Limits):
    """What one core holds.

    synapse_words: rows of weights. axon_map_words: what says where spikes go, one a position of a map whose readers
    are convolutions, else one a neuron. axon_memory_words: lists of destination cores. dense_list_words: the same for
    readers that are dense, which the compiler's own table leaves out. total_words: all of it with one word a neuron.
    input_axons: neurons that a core reads.
    """

    UNITS: ClassVar[dict[str, str]] = {"neurons": "neurons", "input_axons": "axons"}

    neurons: Limit | None = None
    synapse_words: Limit | None = None
    axon_map_words: Limit | None = None
    axon_memory_words: Limit | None = None
    dense_list_words: Limit | None = None
    total_words: Limit | None = None
    input_axons: Limit | None = None


class Ranges(Limits):
    """What one number may be. weight_bits: of a stored mantissa. state_bits: of a membrane potential, signed.
    payload_bits: of the magnitude of a graded spike. delay_steps: the longest delay."""

    UNITS: ClassVar[dict[str, str]] = {
        "weight_bits": "bits", "bias_bits": "bits", "threshold_bits": "bits", "state_bits": "bits",
        "payload_bits": "bits", "delay_steps": "steps",
    }  # fmt: skip

    weight_bits: Limit | None = None
    bias_bits: Limit | None = None
    threshold_bits: Limit | None = None
    state_bits: Limit | None = None
    payload_bits: Limit | None = None
    delay_steps: Limit | None = None


class Rows(Strict):
    """How rows of weights lie in memory.

    A source row of a tile of n channels takes header_bits + n * bits of a weight, rounded up to words; in a dense
    layer each weight takes synapse_bits more. entries: destination cores that one word of axon memory lists.
    groups, groups_output: words for neuron groups of a core, and of one whose layer nothing on the chip reads.
    """

    word_bits: Limit
    header_bits: Limit
    synapse_bits: Limit
    entries: Limit
    groups: Limit
    groups_output: Limit


class Mesh(Strict):
    """Routers of a chip, columns x rows, with so many cores each."""

    columns: Annotated[int, Field(ge=1)]
    rows: Annotated[int, Field(ge=1)]
    cores: Annotated[int, Field(ge=1)]


class Board(Strict):
    """A board that can be had, with its number of chips."""

    name: Text
    chips: Annotated[int, Field(ge=1)]


class CoreKind(Strict):
    """Cores of a chip that are not all alike: so many with so much room."""

    cores: Annotated[int, Field(ge=1)]
    neurons: Annotated[int, Field(ge=1)]
    synapse_words: Annotated[int, Field(ge=1)]


class Windows(Strict):
    """What a layer of a chip that takes whole layers may be: positions of a kernel along an axis, channels, strides,
    synapses that it reads by, and layers that read it."""

    kernel: Annotated[int, Field(ge=1)]
    channels: Annotated[int, Field(ge=1)]
    strides: Annotated[tuple[int, ...], Field(strict=False)]
    connections: Annotated[int, Field(ge=1)]
    readers: Annotated[int, Field(ge=1)]
    source: Text


class Chip(Strict):
    """Limits of a chip as a compiler uses it.

    compiler: whose rules these are, with their year. cutting: "every axis": the tile with the fewest cores; "width":
    feature maps are cut along their width alone, dense layers in proportion to what is over and then in halves. "whole
    layers": nothing is cut, a layer takes one core; `kinds` says which cores there are, `windows` what a layer may be.
    cores, usable_cores: of one chip, and those that a network may take. soft_reset: how a neuron keeps what is over its
    threshold: "native", "microcode" (a program), "two neurons" of the chip for each, or "none".
    link_spikes: graded spikes a second between two chips.
    """

    compiler: Text
    cutting: Literal["every axis", "width", "whole layers"]
    cores: Limit
    usable_cores: Limit
    mesh: Mesh
    boards: Annotated[tuple[Board, ...], Field(strict=False, min_length=1)]
    soft_reset: Literal["native", "microcode", "two neurons", "none"]
    core: CoreLimits
    rows: Rows
    ranges: Ranges = Ranges()
    link_spikes: Limit | None = None
    kinds: Annotated[tuple[CoreKind, ...], Field(strict=False)] = ()
    windows: Windows | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Chip:
        if self.usable_cores.value > self.cores.value:
            raise ValueError(f"usable_cores is {self.usable_cores.value}, more than the {self.cores.value} cores")
        if self.cores.value > self.mesh.columns * self.mesh.rows * self.mesh.cores:
            raise ValueError(f"the mesh has no room for {self.cores.value} cores")
        of_kinds = sum(kind.cores for kind in self.kinds)
        if (self.cutting == "whole layers") != bool(self.kinds) or (self.kinds and of_kinds != self.cores.value):
            raise ValueError(
                f"kinds hold {of_kinds} of {self.cores.value} cores; 'whole layers' needs all, others none"
            )
        return self

    @property
    def neurons_each(self) -> int:
        """Neurons of the chip that one neuron of a network takes."""
        return 2 if self.soft_reset == "two neurons" else 1

    @property
    def most_chips(self) -> int:
        """Chips of the largest board."""
        return max(board.chips for board in self.boards)

    def limits(self) -> Iterator[tuple[str, Limit]]:
        """Every limit with its key, such as "chip.core.neurons"."""
        for key in ("cores", "usable_cores", "link_spikes"):
            if (limit := getattr(self, key)) is not None:
                yield f"chip.{key}", limit
        for section in ("core", "ranges"):
            yield from ((f"chip.{section}.{key}", limit) for key, limit in getattr(self, section).given())
        yield from ((f"chip.rows.{key}", getattr(self.rows, key)) for key in Rows.model_fields)
