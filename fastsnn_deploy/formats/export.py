"""A spiking graph to a file, for a target and in a format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastsnn_deploy.errors import InputError, unknown
from fastsnn_deploy.formats import netx, nir
from fastsnn_deploy.formats.base import FORMATS, Network, register
from fastsnn_deploy.formats.nir import LossReport
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.summary import layer_rows, layer_table, totals_line
from fastsnn_deploy.lava_dl import Sdnn
from fastsnn_deploy.tables import Result, Table, one_line
from fastsnn_deploy.targets import to_target
from fastsnn_deploy.targets.base import Int64


@dataclass(frozen=True)
class Exported(Result):
    """What was written. layers: one row of plain values each; totals: numbers by name; notes: lines for the user.

    loss_report: what a NIR file does not say.
    """

    file: Path
    target: str
    format: str
    layers: tuple[dict[str, Any], ...]
    totals: dict[str, int]
    notes: tuple[str, ...] = ()
    loss_report: LossReport | None = None

    def __repr__(self) -> str:
        return one_line(f"Exported({self.file}: {self.target}, {self.format}, {len(self.layers)} layers)")

    def report(self) -> tuple[Table | str, ...]:
        """A table of layers, notes, what the format cannot say, and the totals."""
        losses = () if self.loss_report is None else self.loss_report.report()
        table = layer_table(self.layers, "Exported network")
        return table, *self.notes, *losses, f"{self.file}: {totals_line(self.totals)}"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "file": str(self.file),
            "target": self.target,
            "format": self.format,
            **self.totals,
            "layers": list(self.layers),
            "notes": list(self.notes),
            "loss_report": None if self.loss_report is None else self.loss_report.to_dict(),
        }


@register("netx", ".net")
def _write_netx(network: Network, path: Path) -> None:
    if isinstance(network, SpikingGraph):
        netx.write(network, path)
    else:
        netx.write_stock(network, path)


@register("nir", ".nir")
def _write_nir(network: Network, path: Path) -> LossReport:
    if isinstance(network, SpikingGraph):
        return nir.export_graph(network, path)
    if any(isinstance(getattr(layer, "neuron", None), Sdnn) for layer in network.layers):
        raise InputError("target 'sigma-delta' has no NIR form: NIR has no sigma-delta neuron. Use --format netx")
    return nir.export_thermometer(network, path)


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
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    converted = to_target(graph, target, calibration)
    report = FORMATS[format].write(converted.network, Path(path))
    network = converted.network
    layers = layer_rows(network) if isinstance(network, SpikingGraph) else network.rows()
    return Exported(Path(path), target, format, layers, converted.totals, converted.notes, report)
