"""How long an image takes on a chip at least: the busiest core decides, or the links between chips, or the barrier.

A run takes as long as its slowest part in each step, and so at least as long as any one part over all steps: the bound
of Timcheck, Pierro and Shrestha (arXiv 2601.10035), summed over an image. Input and output are not in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastsnn_deploy.analysis.energy import Band
from fastsnn_deploy.analysis.evaluation import Evaluation
from fastsnn_deploy.analysis.hardware import TimeConstant
from fastsnn_deploy.analysis.mapping.grid import Int64, volume
from fastsnn_deploy.analysis.mapping.place import routers
from fastsnn_deploy.analysis.mapping.result import VERSION, LayerMapping
from fastsnn_deploy.analysis.mapping.result import Mapping as CoreMapping
from fastsnn_deploy.analysis.mapping.sites import Site, readers_of
from fastsnn_deploy.analysis.structure import Network
from fastsnn_deploy.errors import InputError, wrong_type
from fastsnn_deploy.graph.synapses.conv2d import correlate
from fastsnn_deploy.lava_dl import StockConv, StockDense, StockLayer, StockNetwork
from fastsnn_deploy.tables import Column, Result, Table, one_line, words

PERCENT = 99


@dataclass(frozen=True)
class Part:
    """One thing that an image waits for. number: how many of it, for one image, on the core or link named in `where`.
    time: nanoseconds, with every constant at the ends of its band."""

    name: str
    where: str
    number: float
    time: Band


@dataclass(frozen=True)
class Timing(Result):
    """The least time of an image, mean over `images`.

    parts: what it may wait for; the longest binds. steps: what an image occupies the chip for, mean.
    settled: steps until the answer of an image is there: mean, 99th percentile and slowest. streams: a new image enters
    in every step. entering, leaving: spikes of the input and values of the answer for one image, whose way in and out
    is not modelled.
    """

    hardware: str
    images: int
    parts: tuple[Part, ...]
    steps: float
    settled: Mapping[str, float]
    streams: bool
    entering: float
    leaving: int

    def __repr__(self) -> str:
        return one_line(f"Timing({self.hardware}, at least {self.step.value / 1000:,.2f} µs a step, {self.binding})")

    @property
    def image(self) -> Band:
        """Nanoseconds for all steps of one image, mean."""
        bands = [part.time for part in self.parts]
        return Band(*(max(getattr(band, end) for band in bands) for end in ("low", "value", "high")))

    @property
    def step(self) -> Band:
        """Nanoseconds of one step, mean."""
        return _times(self.image, 1 / self.steps)

    @property
    def binding(self) -> str:
        """What takes longest."""
        return max(self.parts, key=lambda part: part.time.value).name

    @property
    def latencies(self) -> Mapping[str, Band]:
        """Nanoseconds until the answer of an image has settled: mean, 99th percentile and slowest."""
        return {name: _times(self.step, number) for name, number in self.settled.items()}

    @property
    def images_per_second(self) -> float:
        """At most: one image after the other, or one in every step where the network streams."""
        return 1e9 / (self.step if self.streams else self.image).value

    def report(self) -> tuple[Table | str, ...]:
        """What an image waits for, the time of a step, latencies and throughput."""
        rows = [(p.name, p.where, p.number, _us(p.time.value), _us(p.time.low), _us(p.time.high)) for p in self.parts]
        columns = (
            words("waits for"), words("where"), Column("for one image"), Column("µs"), Column("low"), Column("high"),
        )  # fmt: skip
        each = ", ".join(f"{name} {_us(band.value):,.1f}" for name, band in self.latencies.items())
        stream = ", a new one in every step" if self.streams else ""
        low, value, high = (_us(getattr(self.step, end)) for end in ENDS)
        title = f"Least time of an image ({self.hardware}, mean of {self.images:,}; mapper {VERSION})"
        return (
            Table(title, columns, tuple(rows)),
            f"a step takes {value:,.2f} µs or more ({low:,.2f} to {high:,.2f}); {self.binding} bind",
            f"latency in µs, at least: {each}; at most {self.images_per_second:,.0f} images a second{stream}",
            f"input and output are not modelled: {self.entering:,.1f} spikes enter for one image and {self.leaving:,} "
            "values leave; on boards they can take longer than all of this",
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, times in nanoseconds."""
        return {
            "version": VERSION,
            "hardware": self.hardware,
            "images": self.images,
            "binding": self.binding,
            "parts": [{"name": p.name, "where": p.where, "number": p.number} | _plain(p.time) for p in self.parts],
            "step_ns": _plain(self.step),
            "latency_ns": {name: _plain(band) for name, band in self.latencies.items()},
            "images_per_second": self.images_per_second,
            "streams": self.streams,
            "entering": self.entering,
            "leaving": self.leaving,
        }


def timing_of(mapping: CoreMapping, evaluation: Evaluation) -> Timing:
    """See `Mapping.timing`."""
    if not isinstance(evaluation, Evaluation):
        raise wrong_type("the evaluation", evaluation, "what fd.evaluate gives for the mapped network")
    names = {layer.name: layer.shape for layer in evaluation.layers}
    if names != {site.name: site.shape for site in mapping.sites}:
        raise InputError("the evaluation is of another network than the mapping. Evaluate the network that was mapped")
    if evaluation.images < 1:
        raise InputError("no image was evaluated, so there is no time for one. Evaluate at least one")
    sent = {name: activity.spikes.reshape(-1) for name, activity in evaluation.activity.items()}
    parts = tuple(_parts(mapping, evaluation, sent))
    if not parts:
        raise InputError(f"hardware profile '{mapping.hardware.name}' has no times. Use loihi2")
    first, last = mapping.sites[0], mapping.sites[-1]
    return Timing(
        hardware=mapping.hardware.name,
        images=evaluation.images,
        parts=parts,
        steps=max(evaluation.counted_steps / evaluation.images, 1.0),
        settled=_settled(evaluation),
        streams=evaluation.latency is not None,
        entering=float(sent[first.name].sum()) / evaluation.images,
        leaving=last.neurons,
    )


def _settled(evaluation: Evaluation) -> Mapping[str, float]:
    fixed = evaluation.latency or evaluation.steps
    if fixed is not None:
        return {"each image": fixed}
    mean, most = evaluation.mean_settle_steps, evaluation.max_settle_steps
    return {"mean": mean, f"p{PERCENT}": evaluation.settle_percentile(PERCENT), "max": most}


def _parts(mapping: CoreMapping, evaluation: Evaluation, sent: Mapping[str, Int64]) -> Iterator[Part]:
    times, images, steps = mapping.hardware.times, evaluation.images, evaluation.counted_steps
    layers = {layer.name: layer for layer in mapping.layers}
    placed = [site for site in mapping.sites if site.name in layers]
    if times.synaptic_operation is not None:
        network = evaluation.network
        operations = {each.name: by_core(layers[each.name], operations_at(network, each, sent)) for each in placed}
        where, number = _busiest(operations)
        yield _part("synaptic operations", where, number / images, times.synaptic_operation)
    if times.neuron_update_inactive is not None and times.neuron_update_active is not None:
        silent, active = times.neuron_update_inactive, times.neuron_update_active
        updates = {name: layer.used["neurons"] * steps for name, layer in layers.items()}
        firing = {name: spikes_of(layer, sent) for name, layer in layers.items()}
        cost = {name: updates[name] * silent.value + firing[name] * (active.value - silent.value) for name in layers}
        name, core, _ = _first_of(cost)
        all_updates, fired = float(updates[name][core]) / images, float(firing[name][core]) / images
        ends = (_of(silent, end) * (all_updates - fired) + _of(active, end) * fired for end in ENDS)
        yield Part("neuron updates", f"{name}, core {core}", all_updates, Band(*ends))
    if (link := mapping.hardware.limits.link_spikes) is not None and mapping.chips > 1:
        crossing = link_messages(mapping, sent)
        number = float(crossing.max()) / images
        time = number / link.value * 1e9
        at = int(crossing.argmax())
        yield Part("links between chips", f"chips {at} and {at + 1}", number, Band(time, time, time))
    barrier = times.step or times.step_minimum
    if barrier is not None:
        yield _part("barriers", "all cores", steps / images, barrier)


ENDS = ("low", "value", "high")


def operations_at(network: Network, site: Site, sent: Mapping[str, Int64]) -> Int64:
    """Synaptic operations at each neuron of a layer, int64 [neurons], as `profile` counts them: weights of 0 are
    synapses of a graph, and none of a stock network."""
    total = np.zeros(site.neurons, dtype=np.int64)
    for connection in site.connections:
        read = np.concatenate([sent[part.layer] for part in connection.parts]).reshape(connection.source)
        if isinstance(network, StockNetwork):
            total += _with_weights(network.layers[network.names.index(site.name)], read).reshape(-1)
        else:
            total += connection.operations(read).reshape(-1)
    return total


def _with_weights(layer: StockLayer, read: Int64) -> Int64:
    assert isinstance(layer, (StockConv, StockDense))
    used = (layer.weight != 0).astype(np.int64)
    if isinstance(layer, StockDense):
        return np.asarray(used @ read.reshape(-1))
    return np.asarray(correlate(read[None], used, layer.stride, layer.padding, layer.dilation, layer.groups)[0])


def spikes_of(layer: LayerMapping, sent: Mapping[str, Int64]) -> Int64:
    """Spikes that each core sends, int64 [cores]."""
    silent = np.zeros(volume(layer.shape), dtype=np.int64)
    return by_core(layer, sent.get(layer.name, silent))


def by_core(layer: LayerMapping, values: Int64) -> Int64:
    """Sums over the neurons of each core, int64 [cores], of one number for each neuron."""
    total = np.zeros(layer.cores, dtype=np.int64)
    np.add.at(total, layer.grid.tiles_of(np.arange(len(values))), values)
    return total


def link_messages(mapping: CoreMapping, sent: Mapping[str, Int64]) -> Int64:
    """Messages over each link between neighbouring chips on all images, int64 [chips - 1]."""
    layers, readers = {layer.name: layer for layer in mapping.layers}, readers_of(mapping.sites)
    change = np.zeros(mapping.chips + 1, dtype=np.int64)
    for layer in mapping.layers:
        spikes = spikes_of(layer, sent)
        for reader, connection, part in readers[layer.name]:
            other = layers[reader.name]
            source, target = connection.pairs(part, layer.grid, other.grid)
            ends = [routers(c, mapping.hardware.limits)[2] for c in (source + layer.first, target + other.first)]
            np.add.at(change, np.minimum(*ends), spikes[source])
            np.subtract.at(change, np.maximum(*ends), spikes[source])
    return np.cumsum(change)[: mapping.chips - 1]


def _first_of(numbers: Mapping[str, Any]) -> tuple[str, int, float]:
    """Layer, core and number where it is greatest."""
    name = max(numbers, key=lambda each: numbers[each].max())
    core = int(numbers[name].argmax())
    return name, core, float(numbers[name][core])


def _busiest(numbers: Mapping[str, Int64]) -> tuple[str, float]:
    name, core, number = _first_of(numbers)
    return f"{name}, core {core}", number


def _part(name: str, where: str, number: float, constant: TimeConstant) -> Part:
    return Part(name, where, number, Band(*(number * _of(constant, end) for end in ENDS)))


def _of(constant: TimeConstant, end: str) -> float:
    return float(getattr(constant, end))


def _times(band: Band, factor: float) -> Band:
    return Band(*(getattr(band, end) * factor for end in ENDS))


def _us(nanoseconds: float) -> float:
    return nanoseconds / 1000


def _plain(band: Band) -> dict[str, float]:
    return {end: getattr(band, end) for end in ENDS}
