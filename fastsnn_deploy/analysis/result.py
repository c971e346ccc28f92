"""The profile of a network: counts, energies, and their plain forms (JSON, CSV, table)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

from fastsnn_deploy.analysis.ann import AnnCounts
from fastsnn_deploy.analysis.count import count, counts_of
from fastsnn_deploy.analysis.counts import Counts
from fastsnn_deploy.analysis.energy import AnnEnergy, Energy, Traffic, estimate, estimate_ann
from fastsnn_deploy.analysis.evaluate import evaluation_of
from fastsnn_deploy.analysis.hardware import Hardware, load_hardware
from fastsnn_deploy.analysis.kinds import kind_of
from fastsnn_deploy.analysis.plain import beside, layer_row, plain
from fastsnn_deploy.analysis.render import draw_layers, headline, report
from fastsnn_deploy.analysis.structure import Network, layers_of
from fastsnn_deploy.errors import InputError, known_name, require_progress, whole_number
from fastsnn_deploy.graph.images import sliceable
from fastsnn_deploy.simulators import ABOUT, ENGINES, open_engine
from fastsnn_deploy.tables import Column, Result, Table, one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BATCH_NEURONS = 2**18
"""Neurons that one automatic batch may hold: a run keeps three series of each over all its steps."""


@dataclass(frozen=True)
class Profile(Result):
    """Counts of a spiking network and of the same network without spikes, and what both cost.

    ann: None for a stock network whose file does not say which network without spikes it stands for.
    arithmetic: the spiking network on horowitz45-int8, what its additions cost without a chip around them.
    ann_energy: the conventional network on each profile that prices MACs, the 8-bit one first.
    """

    hardware: Hardware
    counts: Counts
    ann: AnnCounts | None
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


def profile(
    network: Network,
    images: Any,
    hardware: Hardware | str,
    *,
    steps: int | None = None,
    engine: str = "cpu",
    batch: int | None = None,
    step_time_us: float | None = None,
    traffic: Traffic | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Profile:
    """Run a network on images and count and price what happens.

    network: a spiking graph or a stock network. images: raw, or Encoded by the network's `encode`, at least one.
    hardware: a profile, its name, or a path. steps: run every image for exactly this many steps and count them all;
    default: until each image has settled, which a stock network with leaky neurons never does. engine: what runs a
    graph until it has settled; a fixed number of steps is for the reference simulator, which knows what is still in
    flight. batch: images simulated together; default: as many as keep memory moderate. It never changes a result.
    step_time_us, traffic: see `estimate`. progress: called with (images done, images in all) after each batch.
    Raises InputError for no image, a wrong shape, numbers below 1, and where the network needs a number of steps.
    """
    hardware = hardware if isinstance(hardware, Hardware) else load_hardware(hardware)
    hardware.require_prices()
    kind = kind_of(network)
    images = sliceable(images, len(network.input.shape))
    _check(images, batch, steps)
    require_progress(progress)
    known_name("engine", engine, ABOUT.keys() | ENGINES.keys())
    opened = open_engine(network, engine) if steps is None else None
    batch = batch or (opened.batch_size if opened else _moderate(network))
    counts: list[Counts] = []
    dense: list[AnnCounts] = []
    for start in range(0, len(images), batch):
        part = kind.encode(network, images[start : start + batch])
        if opened is not None:
            counts.append(counts_of(evaluation_of(network, opened.run(part))))
        elif steps is not None:
            counts.append(count(network, kind.simulate(network, part, steps), every_step=True))
        without = kind.conventional(network, part)
        dense += [without] if without is not None else []
        if progress is not None:
            progress(start + len(part), len(images))
    ann = reduce(add, dense) if dense else None
    return priced(reduce(add, counts), ann, hardware, step_time_us=step_time_us, traffic=traffic)


def priced(
    counts: Counts,
    ann: AnnCounts | None,
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
        ann_energy=(estimate_ann(ann, integer), estimate_ann(ann, floating)) if ann else (),
    )


def _check(images: Any, batch: int | None, steps: int | None) -> None:
    if len(images) < 1:
        raise InputError("there is no image; a profile needs at least one")
    for name, value in (("batch", batch), ("steps", steps)):
        if value is not None:
            whole_number(name, value, 1)


def _moderate(network: Network) -> int:
    """Images whose every step may be held."""
    return min(64, max(1, BATCH_NEURONS // sum(layer.neurons for layer in layers_of(network))))


def _total(key: str, rows: list[Mapping[str, Any]]) -> Any:
    if key == "name":
        return "total"
    if key == "max_spikes_in_step":  # layers peak in different steps: neither a sum nor a maximum is true
        return ""
    values = [row[key] for row in rows]
    return "" if any(value is None or isinstance(value, str) for value in values) else sum(values)
