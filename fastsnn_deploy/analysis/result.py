"""The profile of a network: counts, time and energy on a chip, and the network without spikes beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastsnn_deploy.analysis.ann import AnnCounts
from fastsnn_deploy.analysis.counts import Counts
from fastsnn_deploy.analysis.energies import AnnEnergy, Energy
from fastsnn_deploy.analysis.evaluation import Evaluation
from fastsnn_deploy.analysis.hardware import Hardware
from fastsnn_deploy.analysis.mapping.result import Mapping as CoreMapping
from fastsnn_deploy.analysis.mapping.time import Timing
from fastsnn_deploy.analysis.neurobench import NeuroBench
from fastsnn_deploy.analysis.plain import beside, layer_row, plain
from fastsnn_deploy.analysis.render import draw_layers, headline, report
from fastsnn_deploy.analysis.statistics import Statistics
from fastsnn_deploy.analysis.verdict import verdicts
from fastsnn_deploy.tables import Column, Result, Table, one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VERSION = 4
"""Of the estimator and of the JSON of a profile: it changes whenever a network may get other numbers."""


@dataclass(frozen=True)
class Profile(Result):
    """What a spiking network does on `counts.images` images, and what it takes on a chip.

    counts: spikes, operations and updates, exact, by layer and connection. ann: the same network without spikes; None
    for a stock network whose file does not say which that is. evaluation: the run itself; accuracy where there were
    labels. mapping: the network on the cores of the chip; None where the profile has no limits of a chip. unplaced: why
    energy and time are not those of the mapping; empty where they are. timing: the least time of an image; None where
    it is not known. energy: on the chip. arithmetic: on horowitz45-int8, what its additions take without a chip around
    them. ann_energy: the network without spikes at its own widths (where they are known), with 8 bits, and with
    floating point. neurobench: its metrics.
    """

    hardware: Hardware
    counts: Counts
    ann: AnnCounts | None
    evaluation: Evaluation = field(compare=False)
    mapping: CoreMapping | None = field(compare=False)
    unplaced: str
    timing: Timing | None = field(compare=False)
    energy: Energy = field(compare=False)
    arithmetic: Energy = field(compare=False)
    ann_energy: tuple[AnnEnergy, ...]
    neurobench: NeuroBench

    def __repr__(self) -> str:
        return one_line(headline(self))

    @property
    def statistics(self) -> Mapping[str, Statistics]:
        """Over images: steps, spikes, synaptic_operations, neuron_updates, and dynamic_energy_pj on the chip."""
        each = dict(self.counts.each_image)
        each |= {"dynamic_energy_pj": self.energy.by_image} if self.energy.by_image else {}
        return {key: values.statistics for key, values in each.items()}

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Whether the spiking network takes less than the one without spikes, in plain sentences."""
        return verdicts(self)

    def report(self) -> tuple[Table | str, ...]:
        """Counts, time, energies, the conventional network beside them, and every constant with its source."""
        return report(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `json.dumps`. Keys are listed in docs/energy.md; counts are exact sums over all images."""
        return plain(self, VERSION)

    def layers(self) -> Table:
        """One row a layer, and "total": the counts and energies of `to_dict`, with flat column names, for CSV."""
        dense = beside(self.counts, self.ann)
        rows: list[Mapping[str, Any]] = [
            layer_row(layer, ann, energy)
            for layer, ann, energy in zip(self.counts.layers, dense, self.energy.layers, strict=True)
        ]
        rows.append({key: _total(key, rows) for key in rows[0]})
        columns = tuple(map(Column, rows[0]))
        return Table("Layers", columns, tuple(tuple(row.values()) for row in rows), totals=1)

    def plot_layers(self, ax: Axes | None = None) -> Axes:
        """Spikes that each layer sends and synaptic operations that it receives, per image, on a logarithmic axis."""
        return draw_layers(self, ax)


def _total(key: str, rows: list[Mapping[str, Any]]) -> Any:
    if key == "name":
        return "total"
    values = [row[key] for row in rows]
    # layers peak in different steps, and shares are no sums: neither a sum nor a maximum is true
    if key == "max_spikes_in_step" or key.endswith(("_share", "_sparsity")):
        return ""
    return sum(values) if all(isinstance(value, (int, float)) for value in values) else ""
