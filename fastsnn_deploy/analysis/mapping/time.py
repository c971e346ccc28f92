"""How long an image takes on a chip at least: the busiest core decides, or the links between chips, or the barrier.

A run takes as long as its slowest part in each step, and so at least as long as any one part over all steps: the bound
of Timcheck, Pierro and Shrestha (arXiv 2601.10035), summed over an image. Input and output stand beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastsnn_deploy.analysis.energies import ENDS, Band
from fastsnn_deploy.analysis.evaluation import Evaluation
from fastsnn_deploy.analysis.hardware import Hardware, Numbers
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


@dataclass(frozen=True, eq=False)
class CoreLoad:
    """What the cores of one layer did on all images, int64 [cores] each, in the order of `LayerMapping`: synaptic
    operations that arrived, neuron updates, and spikes sent, which are the active updates."""

    operations: Int64
    updates: Int64
    spikes: Int64


@dataclass(frozen=True, eq=False)
class Load:
    """What `images` images together put on a chip. layers: by name. steps: of all images. links: messages over each
    link between neighbouring chips, int64 [chips - 1], which carry `link_spikes` a second; None where the profile does
    not say how many."""

    hardware: Hardware
    images: int
    steps: int
    layers: Mapping[str, CoreLoad]
    links: Int64 | None

    def parts(self, numbers: Numbers) -> Iterator[tuple[str, str, float, float]]:
        """Name, where, how many and nanoseconds for one image of everything that it may wait for.

        numbers: a number for each constant of the profile, by key; a part without one is absent.
        """
        if (each := numbers.get("times.synaptic_operation")) is not None:
            name, core, most = _busiest({name: load.operations for name, load in self.layers.items()})
            yield "synaptic operations", f"{name}, core {core}", most / self.images, most / self.images * each
        silent, active = (numbers.get(f"times.neuron_update_{kind}") for kind in ("inactive", "active"))
        if silent is not None and active is not None:
            cost = {name: x.updates * silent + x.spikes * (active - silent) for name, x in self.layers.items()}
            name, core, most = _busiest(cost)
            number = float(self.layers[name].updates[core]) / self.images
            yield "neuron updates", f"{name}, core {core}", number, most / self.images
        if self.links is not None and len(self.links):
            at, number = int(self.links.argmax()), float(self.links.max()) / self.images
            link = self.hardware.limits.link_spikes
            assert link is not None
            yield "links between chips", f"chips {at} and {at + 1}", number, number / link.value * 1e9
        barrier = numbers.get("times.step", numbers.get("times.step_minimum"))
        if barrier is not None:
            yield "barriers", "all cores", self.steps / self.images, self.steps / self.images * barrier

    def keys(self, numbers: Numbers) -> set[str]:
        """Keys of the constants that `parts` takes."""
        named = ("times.synaptic_operation", "times.neuron_update_inactive", "times.neuron_update_active")
        barrier = "times.step" if "times.step" in numbers else "times.step_minimum"
        return {key for key in (*named, barrier) if key in numbers}

    def image_ns(self, numbers: Numbers) -> float:
        """Nanoseconds for all steps of one image: the part that takes longest; 0 without any."""
        return max((time for *_, time in self.parts(numbers)), default=0.0)


@dataclass(frozen=True)
class Timing(Result):
    """The least time of an image, mean over `images`.

    parts: what it may wait for; the longest binds. io: its way in and out, which is in none of them: boards differ by
    orders of magnitude; None where the profile has no constant. steps: what an image occupies the chip for, mean.
    settled: steps until the answer of an image has settled: mean, 99th percentile and slowest. first_right: steps until
    the answer is the label for the first time, over the images that get there; empty without labels. never_right:
    images that do not. streams: a new image enters in every step. entering, leaving: spikes of the input and values of
    the answer for one image. load: what was counted, core by core.
    """

    hardware: str
    images: int
    parts: tuple[Part, ...]
    io: Part | None
    steps: float
    settled: Mapping[str, float]
    first_right: Mapping[str, float]
    never_right: int
    streams: bool
    entering: float
    leaving: int
    load: Load

    def __repr__(self) -> str:
        return one_line(f"Timing({self.hardware}, at least {self.step.value / 1000:,.2f} µs a step, {self.binding})")

    @property
    def image(self) -> Band:
        """Nanoseconds for all steps of one image, mean."""
        bands = [part.time for part in self.parts]
        return Band(*(max(getattr(band, end) for band in bands) for end in ENDS))

    @property
    def step(self) -> Band:
        """Nanoseconds of one step, mean."""
        return self.image.times(1 / self.steps)

    @property
    def binding(self) -> str:
        """What takes longest."""
        return max(self.parts, key=lambda part: part.time.value).name

    @property
    def latencies(self) -> Mapping[str, Band]:
        """Nanoseconds until the answer of an image has settled: mean, 99th percentile and slowest."""
        return {name: self.step.times(number) for name, number in self.settled.items()}

    @property
    def first_right_latencies(self) -> Mapping[str, Band]:
        """Nanoseconds until the answer of an image is right for the first time."""
        return {name: self.step.times(number) for name, number in self.first_right.items()}

    @property
    def images_per_second(self) -> float:
        """At most: one image after the other, or one in every step where the network streams."""
        return 1e9 / (self.step if self.streams else self.image).value

    def report(self) -> tuple[Table | str, ...]:
        """What an image waits for, the time of a step, latencies and throughput."""
        parts = (*self.parts, *((self.io,) if self.io else ()))
        rows = [
            (p.name, p.where, p.number, *(_us(getattr(p.time, end)) for end in ("value", "low", "high"))) for p in parts
        ]
        columns = (
            words("waits for"), words("where", drop=1), Column("for one image"), Column("µs"), Column("low"),
            Column("high"),
        )  # fmt: skip
        stream = ", pipelined: a new one in every step" if self.streams else ", one after the other"
        low, value, high = (_us(getattr(self.step, end)) for end in ENDS)
        title = f"Least time of an image ({self.hardware}, mean of {self.images:,}; mapper {VERSION})"
        return (
            Table(title, columns, tuple(rows)),
            f"a step takes {value:,.2f} µs or more ({low:,.2f} to {high:,.2f}); {self.binding} bind",
            f"latency in µs, at least: {_list(self.latencies)}",
            *self._first_right(),
            f"at most {self.images_per_second:,.0f} images a second{stream}",
            f"input and output stand apart: {self.entering:,.1f} spikes enter for one image, {self.leaving:,} values "
            "leave; on boards they can take longer than all of this",
        )

    def _first_right(self) -> Iterator[str]:
        if self.never_right == self.images:
            yield "the answer of no image is ever right"
        elif self.first_right:
            never = f" ({self.never_right:,} of {self.images:,} images never are)" if self.never_right else ""
            yield f"until the answer is right for the first time, at least: {_list(self.first_right_latencies)}{never}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, times in nanoseconds."""
        return {
            "version": VERSION,
            "hardware": self.hardware,
            "images": self.images,
            "binding": self.binding,
            "parts": [_plain(part) for part in self.parts],
            "io": None if self.io is None else _plain(self.io),
            "image_ns": self.image.to_dict(),
            "step_ns": self.step.to_dict(),
            "latency_ns": {name: band.to_dict() for name, band in self.latencies.items()},
            "first_right_ns": {name: band.to_dict() for name, band in self.first_right_latencies.items()},
            "never_right": self.never_right,
            "images_per_second": self.images_per_second,
            "streams": self.streams,
            "entering": self.entering,
            "leaving": self.leaving,
        }


def timing_of(mapping: CoreMapping, evaluation: Evaluation, load: Load | None = None) -> Timing:
    """See `Mapping.timing`. load: of this run, if it is known already."""
    if not isinstance(evaluation, Evaluation):
        raise wrong_type("the evaluation", evaluation, "what fd.evaluate gives for the mapped network")
    names = {layer.name: layer.shape for layer in evaluation.layers}
    if names != {site.name: site.shape for site in mapping.sites}:
        raise InputError("the evaluation is of another network than the mapping. Evaluate the network that was mapped")
    if evaluation.images < 1:
        raise InputError("no image was evaluated, so there is no time for one. Evaluate at least one")
    sent = {name: activity.spikes.reshape(-1) for name, activity in evaluation.activity.items()}
    load, hardware = load or load_of(mapping, evaluation, sent), mapping.hardware
    at_ends = [list(load.parts(hardware.numbers(end))) for end in ENDS]
    parts = tuple(
        Part(name, where, number, Band(*(end[index][3] for end in at_ends)))
        for index, (name, where, number, _) in enumerate(at_ends[1])
    )
    if not parts:
        raise InputError(f"hardware profile '{hardware.name}' has no times. Use loihi2")
    entering, leaving = float(sent[mapping.sites[0].name].sum()) / evaluation.images, mapping.sites[-1].neurons
    streams = evaluation.latency is not None
    first = {} if streams else evaluation.first_right
    return Timing(
        hardware=hardware.name,
        images=evaluation.images,
        parts=parts,
        io=_io(hardware, entering + leaving),
        steps=max(evaluation.counted_steps / evaluation.images, 1.0),
        settled=_settled(evaluation),
        first_right=first,
        never_right=0 if streams else evaluation.never_right,
        streams=streams,
        entering=entering,
        leaving=leaving,
        load=load,
    )


def load_of(mapping: CoreMapping, evaluation: Evaluation, sent: Mapping[str, Int64]) -> Load:
    """What a run put on each core. sent: int64 [neurons], spikes of each source on all images."""
    layers, steps = {layer.name: layer for layer in mapping.layers}, evaluation.counted_steps
    found = {
        site.name: CoreLoad(
            by_core(layers[site.name], operations_at(evaluation.network, site, sent)),
            layers[site.name].used["neurons"] * steps,
            spikes_of(layers[site.name], sent),
        )
        for site in mapping.sites
        if site.name in layers
    }
    links = None if mapping.hardware.limits.link_spikes is None else link_messages(mapping, sent)
    return Load(mapping.hardware, evaluation.images, steps, found, links)


def _io(hardware: Hardware, number: float) -> Part | None:
    ends = [hardware.numbers(end).get("times.input_value") for end in ENDS]
    if any(each is None for each in ends):
        return None
    return Part("input and output", "host", number, Band(*(number * each for each in ends if each is not None)))


def _settled(evaluation: Evaluation) -> Mapping[str, float]:
    fixed = evaluation.latency or evaluation.steps
    if fixed is not None:
        return {"each image": fixed}
    mean, most = evaluation.mean_settle_steps, evaluation.max_settle_steps
    return {"mean": mean, f"p{PERCENT}": evaluation.settle_percentile(PERCENT), "max": most}


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


def _busiest(numbers: Mapping[str, Any]) -> tuple[str, int, float]:
    """Layer, core and number where it is greatest."""
    name = max(numbers, key=lambda each: numbers[each].max())
    core = int(numbers[name].argmax())
    return name, core, float(numbers[name][core])


def _list(bands: Mapping[str, Band]) -> str:
    return ", ".join(f"{name} {_us(band.value):,.1f}" for name, band in bands.items())


def _us(nanoseconds: float) -> float:
    return nanoseconds / 1000


def _plain(part: Part) -> dict[str, Any]:
    return {"name": part.name, "where": part.where, "number": part.number} | part.time.to_dict()
