"""What a target is: a way to turn a spiking graph into a network that a chip or a simulator holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import unknown
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.lava_dl import StockNetwork

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Converted:
    """A network in the form of a target. totals: numbers by name; notes: lines for the user."""

    network: SpikingGraph | StockNetwork
    totals: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


Target = Callable[[SpikingGraph, "Int64 | None"], Converted]

TARGETS: dict[str, Target] = {}
"""Every target by name."""


def target(name: str) -> Callable[[Target], Target]:
    """Register a target: convert(graph, calibration), calibration as in `to_target`."""

    def decorator(convert: Target) -> Target:
        TARGETS[name] = convert
        return convert

    return decorator


def to_target(graph: SpikingGraph, name: str, calibration: Int64 | None = None) -> Converted:
    """`graph` in the form of a target.

    calibration: int64 [N, *input shape], encoded typical images, for targets that are not exact.
    Raises InputError for an unknown target, GraphError if it cannot hold the graph.
    """
    if name not in TARGETS:
        raise unknown("target", name, TARGETS)
    return TARGETS[name](graph, calibration)
