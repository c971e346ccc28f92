"""A comparison of targets: a row for each on each chip, and which of them no other beats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fastsnn_deploy.analysis.energies import Band
from fastsnn_deploy.analysis.result import Profile
from fastsnn_deploy.errors import known_name
from fastsnn_deploy.tables import Column, Result, Table, one_line, percent, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VERSION = 1
"""Of the JSON of a comparison of targets."""

BOUNDARY = "used chips"
"""What the energies of a chip hold that are compared, where its static power is known; else what cores do."""


BANDS = ("energy_pj", "dynamic_pj")
"""Keys of a plain row with low, value and high."""


@dataclass(frozen=True, eq=False)
class Row:
    """One target on one chip.

    target, options: its name, and what `export` makes it with. hardware: name of the profile. images, right: how many
    images were answered, and how many of them right: None for networks that do not classify. exact: every answer is the
    integer network's. profile: what was counted, timed and priced; None for a target that has no form of this network.
    refused: why it cannot be had on this chip; empty where it can.
    """

    target: str
    options: str
    hardware: str
    images: int
    right: int | None
    exact: bool
    profile: Profile | None = field(repr=False)
    refused: str

    @property
    def accuracy(self) -> float | None:
        """Share of images that are answered right."""
        return None if self.right is None else self.right / max(self.images, 1)

    def answered(self, first: bool) -> int:
        """Images answered right: of all, or of the first ones, which were run step by step."""
        if not first:
            return self.right or 0
        return 0 if self.profile is None else self.profile.evaluation.topk[0].correct

    @property
    def latency_ns(self) -> float | None:
        """Least time until the answer of an image has settled, mean."""
        timing = None if self.profile is None or self.refused else self.profile.timing
        return None if timing is None else next(iter(timing.latencies.values())).value

    @property
    def cores(self) -> int | None:
        """Cores, also where the chip has fewer; None where no chip is described."""
        mapping = None if self.profile is None else self.profile.mapping
        return None if mapping is None else mapping.cores

    def energy(self, boundary: str) -> Band | None:
        """Picojoules an image inside a boundary, as far as it is known."""
        return None if self.profile is None else self.profile.energy[boundary].energy

    def each(self, key: str) -> float | None:
        """ "spikes", "negative_spikes", "synaptic_operations" or "steps" of an image, mean."""
        if self.profile is None:
            return None
        counts = self.profile.counts
        return (counts.steps if key == "steps" else counts.total(key)) / counts.images


@dataclass(frozen=True, eq=False)
class TargetComparison(Result):
    """One network as every target, on every chip that was asked for.

    name: of the network. rows: one for each target and chip. profiled: images that were run step by step. labelled:
    whether answers were compared with labels, or with those of the integer network.
    """

    name: str
    rows: tuple[Row, ...]
    profiled: int
    labelled: bool

    def __repr__(self) -> str:
        best = ", ".join(f"{row.target} on {row.hardware}" for row in self.rows if self.on_front(row))
        return one_line(f"TargetComparison({len(self.rows)} rows, best: {best or 'none'})")

    @property
    def hardware(self) -> tuple[str, ...]:
        """Names of the chips, in the order asked for."""
        return tuple(dict.fromkeys(row.hardware for row in self.rows))

    def __getitem__(self, key: tuple[str, str]) -> Row:
        """The row of (target, hardware)."""
        return next(row for row in self.rows if (row.target, row.hardware) == key)

    @cached_property
    def boundaries(self) -> Mapping[str, str]:
        """What the energies of each chip hold."""
        known = {row.hardware for row in self.rows if row.energy(BOUNDARY) is not None}
        return {name: BOUNDARY if name in known else "dynamic" for name in self.hardware}

    def energy(self, row: Row) -> Band | None:
        """What an image of a row takes, picojoules; None where the network does not fit."""
        return None if row.refused else row.energy(self.boundaries[row.hardware])

    @cached_property
    def front(self) -> tuple[Row, ...]:
        """On each chip, the rows than which no other is better in accuracy, energy, latency or cores without being
        worse in another. Two accuracies are those on the images that both have answered."""
        found: list[Row] = []
        for name in self.hardware:
            rows = [row for row in self.rows if row.hardware == name and not row.refused]
            known = [cost for cost in COSTS if any(cost(self, row) is not None for row in rows)]
            rows = [row for row in rows if all(cost(self, row) is not None for cost in known)]
            found += [row for row in rows if not any(self._beats(other, row, known) for other in rows)]
        return tuple(found)

    def _beats(self, one: Row, other: Row, costs: Sequence[Cost]) -> bool:
        pairs: list[tuple[Any, Any]] = [(cost(self, one), cost(self, other)) for cost in costs]
        if one.right is not None and other.right is not None:
            first = one.images != other.images  # then the images that were run step by step are what both have
            pairs.append((-one.answered(first), -other.answered(first)))
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    def on_front(self, row: Row) -> bool:
        """Whether a row is on the front of its chip."""
        return any(row is each for each in self.front)

    def report(self) -> tuple[Table | str, ...]:
        """A table for each chip, and what was refused and why."""
        return tuple(part for name in self.hardware for part in self._chip(name))

    def _chip(self, name: str) -> Iterator[Table | str]:
        rows = [row for row in self.rows if row.hardware == name]
        title = f"{self.name} on {name}, for one image (counted on {self.profiled:,})"
        columns = tuple(column for column, _ in COLUMNS)
        cells = tuple(tuple(value(self, row) for _, value in COLUMNS) for row in rows)
        right = "with the label as answer" if self.labelled else "answered as by the integer network"
        inside = {"dynamic": "what cores and mesh do", BOUNDARY: "with static power of the used chips"}
        yield Table(
            title, columns, cells,
            notes=(
                f"accuracy: share of images {right}; energy: {inside[self.boundaries[name]]}, at least; latency: until "
                "the answer has settled, at least",
                "on the front: no other is better in accuracy, energy, latency or cores without being worse in another",
            ),
        )  # fmt: skip
        for row in rows:
            if row.refused:
                yield f"{row.target}: refused, {row.refused}"

    def table(self) -> Table:
        """Every row with every number, for CSV."""
        rows = [self._plain(row) for row in self.rows]
        flat = [row | {key: None if row[key] is None else row[key]["value"] for key in BANDS} for row in rows]
        return Table("Targets", tuple(map(Column, flat[0])), tuple(tuple(row.values()) for row in flat))

    def to_dict(self) -> dict[str, Any]:
        """Plain values; energies in picojoules, times in nanoseconds. Keys are listed in docs/targets.md."""
        return {
            "format": "fastsnn-deploy comparison of targets",
            "version": VERSION,
            "name": self.name,
            "profiled": self.profiled,
            "labelled": self.labelled,
            "boundary": dict(self.boundaries),
            "rows": [self._plain(row) for row in self.rows],
        }

    def _plain(self, row: Row) -> dict[str, Any]:
        energy, dynamic = self.energy(row), row.energy("dynamic")
        mapping = None if row.profile is None else row.profile.mapping
        return {
            "target": row.target,
            "options": row.options,
            "hardware": row.hardware,
            "front": self.on_front(row),
            "refused": row.refused or None,
            "exact": row.exact,
            "images": row.images,
            "accuracy": row.accuracy,
            "energy_pj": None if energy is None else energy.to_dict(),
            "dynamic_pj": None if dynamic is None else dynamic.to_dict(),
            "latency_ns": row.latency_ns,
            "cores": row.cores,
            "chips": None if mapping is None else mapping.chips,
            **{key: row.each(key) for key in ("steps", "spikes", "negative_spikes", "synaptic_operations")},
        }

    def plot(self, ax: Axes | None = None, hardware: str | None = None) -> Axes:
        """Energy over latency of every target on one chip, on logarithmic axes, with accuracy and cores in words.

        Args:
            ax: Axes to draw on; a new figure if None.
            hardware: Which chip; None: the first.
        """
        from fastsnn_deploy.analysis.choosing.draw import draw

        return draw(self.to_dict(), known_name("hardware", hardware or self.hardware[0], self.hardware), ax)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _micro(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.2g}"


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _value(band: Band | None) -> float | None:
    return None if band is None else band.value


Cost = Callable[[TargetComparison, Row], "float | None"]

COSTS: tuple[Cost, ...] = (
    lambda all_, row: _value(all_.energy(row)),
    lambda all_, row: row.latency_ns,
    lambda all_, row: row.cores,
)
"""What shall be small, besides wrong answers; None where it is not known."""

COLUMNS: tuple[tuple[Column, Callable[[TargetComparison, Row], Any]], ...] = (
    (words("target"), lambda all_, row: row.target),
    (words("front"), lambda all_, row: "refused" if row.refused else "on it" if all_.on_front(row) else ""),
    (Column("accuracy", percent), lambda all_, row: row.accuracy),
    (Column("of images", drop=5), lambda all_, row: row.images if row.right is not None else None),
    (Column("energy µJ", _micro), lambda all_, row: _scaled(_value(all_.energy(row)), 1e-6)),
    (Column("dynamic µJ", _micro, drop=4), lambda all_, row: _scaled(_value(row.energy("dynamic")), 1e-6)),
    (Column("latency µs", _micro), lambda all_, row: _scaled(row.latency_ns, 1e-3)),
    (Column("cores"), lambda all_, row: row.cores),
    (Column("operations", _whole, drop=1), lambda all_, row: row.each("synaptic_operations")),
    (Column("spikes", _whole, drop=2), lambda all_, row: row.each("spikes")),
    (Column("negative", _whole, drop=3), lambda all_, row: row.each("negative_spikes")),
    (Column("steps", drop=3), lambda all_, row: row.each("steps")),
    (words("export", drop=6), lambda all_, row: row.options),
)
"""Columns of the table for people, and where their values come from."""
