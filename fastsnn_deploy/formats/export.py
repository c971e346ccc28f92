"""A spiking graph to a file, for a target and in a format."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastsnn_deploy.files import path_of
from fastsnn_deploy.formats.base import format_named
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.summary import layer_rows, layer_table, totals_line
from fastsnn_deploy.tables import Result, Table, one_line
from fastsnn_deploy.targets import to_target
from fastsnn_deploy.targets.base import Int64


@dataclass(frozen=True)
class Exported(Result):
    """What was written. layers: one row of plain values each; totals: numbers by name; notes: lines for the user.

    loss_report: a `LossReport` where the format does not say everything. graph: what the file computes (see
    `Converted.graph`).
    """

    file: Path
    target: str
    format: str
    layers: tuple[dict[str, Any], ...]
    totals: dict[str, int]
    graph: SpikingGraph = field(repr=False)
    notes: tuple[str, ...] = ()
    loss_report: Any = None

    def __repr__(self) -> str:
        return one_line(f"Exported({self.file}: {self.target}, {self.format}, {len(self.layers)} layers)")

    def report(self) -> tuple[Table | str, ...]:
        """A table of layers, notes, what the format cannot say, agreement with the quantised model, and the totals."""
        losses = () if self.loss_report is None else self.loss_report.report()
        table = layer_table(self.layers, "Exported network")
        agreement = filter(None, (self.graph.metadata.get("agreement"),))
        return table, *self.notes, *losses, *agreement, f"{self.file}: {totals_line(self.totals)}"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "file": str(self.file),
            "target": self.target,
            "format": self.format,
            **self.totals,
            "layers": list(self.layers),
            "notes": list(self.notes),
            "agreement": self.graph.metadata.get("agreement"),
            "loss_report": None if self.loss_report is None else self.loss_report.to_dict(),
        }


def export(
    graph: SpikingGraph,
    path: str | Path,
    target: str = "signed-if",
    format: str = "netx",
    calibration: Int64 | None = None,
) -> Exported:
    """Write `graph` for a target.

    calibration: int64 [N, *input shape], encoded typical images, for targets that are not exact.
    Raises InputError for an unknown target or format, GraphError if the target cannot hold the graph.
    """
    chosen, file = format_named(format), path_of(path, "file to write")
    converted = to_target(graph, target, calibration)
    report = chosen.write(converted.network, file)
    network = converted.network
    layers = layer_rows(network) if isinstance(network, SpikingGraph) else network.rows()
    return Exported(file, target, format, layers, converted.totals, converted.graph, converted.notes, report)
