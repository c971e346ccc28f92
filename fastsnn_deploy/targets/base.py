"""What a target is: a way to turn a spiking graph into a network that a chip or a simulator holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError, known_name
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.lava_dl import StockNetwork

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Converted:
    """A network in the form of a target. totals: numbers by name; notes: lines for the user.

    graph: the graph whose integers the network computes, rounded to the ranges of the target; of a target that is not
    exact, the graph that it approximates.
    """

    network: SpikingGraph | StockNetwork
    graph: SpikingGraph
    totals: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


Convert = Callable[[SpikingGraph, "Int64 | None"], Converted]


@dataclass(frozen=True)
class Target:
    """convert: graph and calibration as in `to_target`. exact: it computes the graph's integers, or those of the graph
    rounded to its ranges; if not, it needs calibration. scheduled: it keeps the schedule of the graph. summary: one
    sentence for users."""

    name: str
    convert: Convert
    exact: bool
    scheduled: bool
    summary: str


TARGETS: dict[str, Target] = {}
"""Every target by name."""


def target(name: str, *, exact: bool = True, scheduled: bool = False) -> Callable[[Convert], Convert]:
    """Register a target. The first line of the function's docstring is what users read about it."""

    def decorator(convert: Convert) -> Convert:
        TARGETS[name] = Target(name, convert, exact, scheduled, (convert.__doc__ or "").strip().split("\n")[0])
        return convert

    return decorator


def to_target(graph: SpikingGraph, name: str, calibration: Int64 | None = None) -> Converted:
    """`graph` in the form of a target.

    calibration: int64 [N, *input shape], encoded typical images, for targets that are not exact.
    Raises InputError for an unknown target and for one that has no schedule if the image is a constant current or
    neurons have a start delay, GraphError if the target cannot hold the graph.
    """
    chosen = target_named(name)
    able = " or ".join(each.name for each in TARGETS.values() if each.scheduled)
    if graph.schedule.start_delay and not chosen.scheduled:
        raise InputError(
            f"target '{name}' has no schedule, so its neurons cannot wait for a start delay of "
            f"{graph.schedule.start_delay} steps. Use --target {able}, or leave out --start-delay"
        )
    if graph.schedule.input == "constant" and not chosen.scheduled:
        raise InputError(
            f"target '{name}' has no schedule, and thresholds for a constant current are none without it. Use --target "
            f"{able}, or input='spread' (--input spread)"
        )
    return chosen.convert(graph, calibration)


def target_named(name: str) -> Target:
    """A target by its name. Raises InputError, with a guess, for an unknown one."""
    return TARGETS[known_name("target", name, TARGETS)]
