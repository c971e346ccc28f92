"""What a target is: a way to write a spiking graph to a file. A new one is one file with `@target`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.nir_format import LossReport

Format = Literal["netx", "nir"]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Exported:
    """What was written. layers: one row of plain values each; totals: numbers by name; notes: lines for the user.
    loss_report: what a NIR file does not say."""

    file: Path
    layers: tuple[dict[str, Any], ...]
    totals: dict[str, int]
    notes: tuple[str, ...] = ()
    loss_report: LossReport | None = None


Writer = Callable[[SpikingGraph, Path, Format, "Int64 | None"], Exported]

TARGETS: dict[str, Writer] = {}
"""Every target by name."""


def target(name: str) -> Callable[[Writer], Writer]:
    """Register writer(graph, path, format, calibration) under a name."""

    def decorator(writer: Writer) -> Writer:
        TARGETS[name] = writer
        return writer

    return decorator


def export(
    graph: SpikingGraph,
    path: str | Path,
    target: str = "signed-if",
    format: Format = "netx",
    calibration: Int64 | None = None,
) -> Exported:
    """Write `graph` for a target.

    calibration: int64 [N, *input shape], emitted integers of typical images, for targets that are not exact.
    Raises InputError for an unknown target, GraphError if it cannot hold the graph.
    """
    if target not in TARGETS:
        raise InputError(f"target '{target}' is not known. Known targets: {', '.join(sorted(TARGETS))}")
    return TARGETS[target](graph, Path(path), format, calibration)
