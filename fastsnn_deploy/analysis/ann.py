"""Counts of the user's own network, a conventional quantised network (ANN): one pass, no time.

Connections with a weight each (convolution, linear) are multiply-accumulates (MACs). Connections with one weight a
channel (identity, sum pool, upsampling) are additions, since that weight folds into the requantisation. A max pool
compares and has neither; requantisation itself is not counted. What conversion did to a layer is undone: see
`unfolded`. Where the network's metadata `ann` says what its layers compute, that is what counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.counting import layer_nodes, taps
from fastsnn_deploy.analysis.unfolded import Work, bits_of, works_of
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import Encoded, Node, SpikeTrains, SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.lava_dl import StockNetwork
from fastsnn_deploy.simulators import BatchRun

Int64 = npt.NDArray[np.int64]

_SUMS = ("macs", "macs_with_padding", "macs_nonzero", "additions", "additions_with_padding", "additions_nonzero",
         "mac_bits")  # fmt: skip

METADATA_KEY = "ann"
"""Key of a network's metadata under which its trained layers lie as JSON."""

SAID = {"module": str, "type": str, "macs": int, "macs_with_padding": int, "parameters": int}
"""What metadata say of a layer."""


@dataclass(frozen=True)
class AnnLayerCounts:
    """One layer over all images.

    macs: border-exact, reads of the zero padding not counted. macs_with_padding: counted, as most tools print.
    macs_nonzero: border-exact and only where the activation read is not zero, what zero-skipping hardware does; None
    where the spiking network does not have those activations.
    additions: the same three for connections with one weight a channel. parameters: weights; bias apart. mac_bits: each
    MAC times the bits of its activation and of its weight; None where they are not known.
    reads: activations of one image that it reads, each once for each connection. stored_bits: of weights, of what it
    reads and of what it writes, each at its own width; None where that is not known.
    """

    name: str
    type: str
    module: str
    neurons: int
    parameters: int
    nonzero_activations: int = 0
    macs: int = 0
    macs_with_padding: int = 0
    macs_nonzero: int | None = 0
    additions: int = 0
    additions_with_padding: int = 0
    additions_nonzero: int | None = 0
    mac_bits: int | None = 0
    reads: int = 0
    stored_bits: tuple[int, int, int] | None = (0, 0, 0)


@dataclass(frozen=True)
class AnnCounts:
    """A whole network over `images` images. Its layers are those of the spiking graph, or, of a network for stock
    neurons, the trained layers that its metadata name. bits: of activations and of weights, of the layers that
    multiply, each as (fewest, most); None where they are not known."""

    layers: tuple[AnnLayerCounts, ...]
    images: int
    bits: tuple[tuple[int, int], tuple[int, int]] | None = None

    def __getitem__(self, layer: str) -> AnnLayerCounts:
        return next(entry for entry in self.layers if entry.name == layer)

    def total(self, quantity: str) -> int:
        """Sum of an attribute of `AnnLayerCounts`, such as "macs", over all layers.

        Raises InputError for one that a layer does not know: ask `known` first.
        """
        total = self.known(quantity)
        if total is None:
            raise InputError(f"{quantity} of this network are not known: conversion has changed what its layers read")
        return total

    def known(self, quantity: str) -> int | None:
        """As `total`; None where a layer does not know it."""
        return _sum(getattr(layer, quantity) for layer in self.layers)


def ann_counts(graph: SpikingGraph, images: Any) -> AnnCounts:
    """Counts of the integer quantised network on a batch. images: raw or Encoded."""
    counter = GraphCounter(graph)
    counter.add(graph.encode(images), None)
    return counter.counts()


class GraphCounter:
    """The conventional network of a graph, counted batch by batch. net: sources whose spikes a run must add up for
    `add`."""

    def __init__(self, graph: SpikingGraph) -> None:
        self.graph, self.said = graph, _said_by_module(graph.metadata)
        macs = {module: entry["macs"] for module, entry in self.said.items()}
        self.works = {node.name: works_of(graph, node, macs) for node in layer_nodes(graph)}
        self.folded = [work for works in self.works.values() for work in works if work.pool is not None]
        self.net = tuple({name for work in self.folded for name, _ in taps(graph, work.source)})
        self.images = 0
        self.nonzero = {node.name: np.zeros(node.shape, dtype=np.int64) for node in layer_nodes(graph)}
        self.windows = dict.fromkeys((work.name for work in self.folded), 0)

    def add(self, emitted: Encoded | SpikeTrains, run: BatchRun | None) -> None:
        """One batch. run: that of the same images, with `net`, until they settled, when every layer had sent the
        values of the integer network; None where no run did, and they are computed."""
        if run is None:
            values = integer_values(self.graph, emitted)
            nonzero: Mapping[str, Int64 | None] = {name: (values[name] != 0).sum(0) for name in self.nonzero}
        else:
            values = {}
            for name in self.net:
                net = run.activity[name].net
                assert net is not None
                values[name] = net.astype(np.int64)
            nonzero = {name: (series[-1:] != 0).sum((0, 1)) for name, series in run.outputs.items()}
            nonzero |= {name: sent.nonzero for name, sent in run.activity.items()}
        for name, number in nonzero.items():
            assert number is not None
            self.nonzero[name] += number
        for work in self.folded:
            self.windows[work.name] += work.windows(_routed(self.graph, work.source, values))
        self.images += len(emitted)

    def counts(self) -> AnnCounts:
        """Of all batches together."""
        said = dict(self.said)
        layers = tuple(self._layer(node, said) for node in layer_nodes(self.graph))
        multiplying = [work for works in self.works.values() for work in works if work.multiplies]
        spans = ([each.bits for each in multiplying], [each.weight_bits for each in multiplying])
        bits = ((min(spans[0]), max(spans[0])), (min(spans[1]), max(spans[1]))) if multiplying else None
        return AnnCounts(layers, self.images, bits)

    def _layer(self, node: Node, said: dict[str, dict[str, int]]) -> AnnLayerCounts:
        """said: modules that no layer before has taken; this one takes its own."""
        graph, images, works = self.graph, self.images, self.works[node.name]
        known = METADATA_KEY in graph.metadata
        sums: dict[str, Any] = dict.fromkeys(_SUMS, 0)
        for work in works:
            if not (known and work.multiplies):
                self._add(sums, work)
        parameters = sum(work.parameters for work in works if not (known and work.multiplies))
        for module in dict.fromkeys(work.module for work in works if known and work.multiplies):
            entry = said.pop(module, None)
            if entry is None:  # a copy of a layer counted before, or a move of channels that has no weights
                continue
            mine = [work for work in works if work.multiplies and work.module == module]
            own: dict[str, Any] = dict.fromkeys(_SUMS, 0)
            for work in mine:
                self._add(own, work)
            if own["macs"] != images * entry["macs"]:
                own["macs_nonzero"] = None
            own["macs"], own["macs_with_padding"] = (images * entry[key] for key in ("macs", "macs_with_padding"))
            own["mac_bits"] = own["macs"] * max(work.bits * work.weight_bits for work in mine)
            for key in _SUMS:
                sums[key] = _sum((sums[key], own[key]))
            parameters += entry["parameters"]
        reads = [work.fan.size for work in works]
        bits = sum(size * work.bits for size, work in zip(reads, works, strict=True))
        width = max((work.weight_bits for work in works), default=0)
        return AnnLayerCounts(
            name=node.name, type=type(node).__name__, module=node.module, neurons=node.size, parameters=parameters,
            nonzero_activations=int(self.nonzero[node.name].sum()), reads=sum(reads),
            stored_bits=(parameters * width, bits, node.size * bits_of(graph, node)), **sums,
        )  # fmt: skip

    def _add(self, sums: dict[str, Any], work: Work) -> None:
        nonzero = _routed(self.graph, work.source, {name: each[None] for name, each in self.nonzero.items()})[0]
        for key, amount in work.amounts(self.images, nonzero, self.windows.get(work.name, 0)).items():
            sums[key] += amount


def _routed(graph: SpikingGraph, name: str, values: Mapping[str, Int64]) -> Int64:
    """[N, *shape] of a node from those of the layers behind routing nodes."""
    if name in values:
        return values[name]
    arms = [_routed(graph, arm, values) for arm in graph[name].inputs]
    return np.concatenate(arms, axis=1) if len(arms) > 1 else arms[0].reshape(len(arms[0]), *graph[name].shape)


class StockCounter:
    """The network that one for stock neurons was made from, as its metadata say."""

    net = ()

    def __init__(self, network: StockNetwork) -> None:
        self.said, self.images = said_layers(network.metadata), 0

    def add(self, emitted: Encoded | SpikeTrains, run: BatchRun | None) -> None:
        """One batch."""
        self.images += len(emitted)

    def counts(self) -> AnnCounts | None:
        """None if the metadata do not say."""
        layers = (
            AnnLayerCounts(
                name=entry["module"], type=entry["type"], module=entry["module"], neurons=0,
                parameters=entry["parameters"], macs=self.images * entry["macs"],
                macs_with_padding=self.images * entry["macs_with_padding"], macs_nonzero=None, additions_nonzero=None,
                mac_bits=None, stored_bits=None,
            )
            for entry in self.said
        )  # fmt: skip
        return AnnCounts(tuple(layers), self.images) if self.said else None


def said_layers(metadata: Mapping[str, str]) -> list[dict[str, Any]]:
    """The trained layers that metadata name; empty without any. Raises InputError for anything else under that key."""
    text = metadata.get(METADATA_KEY, "[]")
    try:
        layers = json.loads(text)
    except (ValueError, RecursionError):
        layers = None
    sound = isinstance(layers, list) and all(
        isinstance(entry, dict) and all(type(entry.get(key)) is kind for key, kind in SAID.items()) for entry in layers
    )
    if not isinstance(layers, list) or not sound:
        raise InputError(f"metadata '{METADATA_KEY}' is {text[:40]!r}, must be a JSON list of layers. Convert again")
    return layers


def _said_by_module(metadata: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """macs, macs_with_padding and parameters of each module; a module that is called twice computes twice."""
    said: dict[str, dict[str, int]] = {}
    for entry in said_layers(metadata):
        sums = said.setdefault(entry["module"], {"macs": 0, "macs_with_padding": 0, "parameters": entry["parameters"]})
        for key in ("macs", "macs_with_padding"):
            sums[key] += entry[key]
    return said


def _sum(values: Iterable[int | None]) -> int | None:
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total
