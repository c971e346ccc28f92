"""The profile of a network: counts, energies, and their plain forms (JSON, CSV, table)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.ann import AnnCounts, ann_counts
from fastsnn_deploy.analysis.counting import count
from fastsnn_deploy.analysis.counts import Counts
from fastsnn_deploy.analysis.energy import AnnEnergy, Energy, Traffic, estimate, estimate_ann
from fastsnn_deploy.analysis.hardware import Hardware, load_hardware
from fastsnn_deploy.analysis.plain import layer_row, plain
from fastsnn_deploy.analysis.render import draw_layers, headline, report
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.simulators.reference import simulate
from fastsnn_deploy.tables import Column, Result, Table, one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BATCH_NEURONS = 2**18
"""Neurons that one automatic batch may hold: a run keeps three series of each over all its steps."""


@dataclass(frozen=True)
class Profile(Result):
    """Counts of a spiking network and of the same network without spikes, and what both cost.

    arithmetic: the spiking network on horowitz45-int8, what its additions cost without a chip around them.
    ann_energy: the conventional network on each profile that prices MACs, the 8-bit one first.
    """

    hardware: Hardware
    counts: Counts
    ann: AnnCounts
    energy: Energy
    arithmetic: Energy
    ann_energy: tuple[AnnEnergy, ...]

    def __repr__(self) -> str:
        return one_line(headline(self))

    def report(self) -> tuple[Table | str, ...]:
        """Counts, energies, the conventional network beside them, and every constant with its source."""
        return report(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `json.dumps`. Keys are listed in docs/energy.md; counts are exact sums over all images."""
        return plain(self.hardware, self.counts, self.ann, self.energy, self.arithmetic, self.ann_energy)

    def layers(self) -> Table:
        """One row a layer, and "total": the counts and energies of `to_dict`, with flat column names, for CSV."""
        rows: list[Mapping[str, Any]] = [
            layer_row(layer, ann, energy)
            for layer, ann, energy in zip(self.counts.layers, self.ann.layers, self.energy.layers, strict=True)
        ]
        rows.append({key: _total(key, rows) for key in rows[0]})
        columns = tuple(map(Column, rows[0]))
        return Table("Layers", columns, tuple(tuple(row.values()) for row in rows), totals=1)

    def plot_layers(self, ax: Axes | None = None) -> Axes:
        """Spikes that each layer sends and synaptic operations that it receives, per image, on a logarithmic axis."""
        return draw_layers(self, ax)


def profile(
    graph: SpikingGraph,
    emitted: npt.NDArray[np.int64],
    hardware: Hardware | str,
    *,
    steps: int | None = None,
    batch: int | None = None,
    step_time_us: float | None = None,
    traffic: Traffic | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Profile:
    """Run the reference simulator on `emitted` and count and price what happens.

    emitted: int64 [N, *input shape], `graph.input.encode(images)`, N >= 1. hardware: a profile, its name, or a path.
    steps: run every image for exactly this many steps and synaptic input them all; default: until each image has
    settled. batch: images simulated together; default: as many as keep memory moderate. It never changes a result.
    step_time_us, traffic: see `estimate`. progress: called with (images done, images in all) after each batch.
    Raises InputError for no image, a wrong shape, or numbers below 1.
    """
    hardware = hardware if isinstance(hardware, Hardware) else load_hardware(hardware)
    batch = _batch(graph, emitted, batch, steps)
    counts: list[Counts] = []
    dense: list[AnnCounts] = []
    for start in range(0, len(emitted), batch):
        part = emitted[start : start + batch]
        counts.append(count(graph, simulate(graph, part, steps), every_step=steps is not None))
        dense.append(ann_counts(graph, part))
        if progress is not None:
            progress(start + len(part), len(emitted))
    return priced(reduce(add, counts), reduce(add, dense), hardware, step_time_us=step_time_us, traffic=traffic)


def priced(
    counts: Counts,
    ann: AnnCounts,
    hardware: Hardware,
    *,
    step_time_us: float | None = None,
    traffic: Traffic | None = None,
) -> Profile:
    """The profile of what has been counted. step_time_us, traffic: see `estimate`."""
    integer, floating = load_hardware("horowitz45-int8"), load_hardware("horowitz45-fp32")
    return Profile(
        hardware=hardware,
        counts=counts,
        ann=ann,
        energy=estimate(counts, hardware, step_time_us=step_time_us, traffic=traffic),
        arithmetic=estimate(counts, integer),
        ann_energy=(estimate_ann(ann, integer), estimate_ann(ann, floating)),
    )


def _batch(graph: SpikingGraph, emitted: npt.NDArray[np.int64], batch: int | None, steps: int | None) -> int:
    if emitted.shape[1:] != graph.input.shape or len(emitted) < 1:
        raise InputError(f"the input has shape {emitted.shape}, needs (N, *{graph.input.shape}) with N >= 1")
    for name, value in (("batch", batch), ("steps", steps)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}, must be at least 1")
    neurons = sum(node.size for node in graph.nodes)
    return batch or min(64, max(1, BATCH_NEURONS // neurons))


def _total(key: str, rows: list[Mapping[str, Any]]) -> Any:
    if key == "name":
        return "total"
    if key == "max_spikes_in_step":  # layers peak in different steps: neither a sum nor a maximum is true
        return ""
    values = [row[key] for row in rows]
    return "" if isinstance(values[0], str) else sum(values)
