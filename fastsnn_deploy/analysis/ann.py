"""Counts of the user's own network, a conventional quantised network (ANN): one pass, no time.

Connections with a weight each (convolution, linear) are multiply-accumulates (MACs). Connections with one weight a
channel (identity, sum pool, upsampling) are additions, since that weight folds into the requantisation. A max pool
compares and has neither; requantisation itself is not counted. What conversion did to a layer is undone: see
`unfolded`. Where the network's metadata `ann` says what its layers compute, that is what counts.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.counting import layer_nodes
from fastsnn_deploy.analysis.counts import same_length, same_structure
from fastsnn_deploy.analysis.unfolded import Work, works_of
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import Node, SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.lava_dl import StockNetwork

Int64 = npt.NDArray[np.int64]

_SUMS = ("nonzero_activations", "macs", "macs_with_padding", "additions", "additions_with_padding")
_NONZERO = ("macs_nonzero", "additions_nonzero")

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
    additions: the same three for connections with one weight a channel. parameters: weights; bias apart.
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

    def __add__(self, other: AnnLayerCounts) -> AnnLayerCounts:
        same_structure(self, other, ("name", "type", "module", "neurons", "parameters"))
        sums: dict[str, Any] = {key: getattr(self, key) + getattr(other, key) for key in _SUMS}
        sums |= {key: _sum((getattr(self, key), getattr(other, key))) for key in _NONZERO}
        return dataclasses.replace(self, **sums)


@dataclass(frozen=True)
class AnnCounts:
    """A whole network over `images` images. Its layers are those of the spiking graph, or, of a network for stock
    neurons, the trained layers that its metadata name."""

    layers: tuple[AnnLayerCounts, ...]
    images: int

    def __add__(self, other: AnnCounts) -> AnnCounts:
        same_length("the network", self.layers, other.layers)
        layers = tuple(a + b for a, b in zip(self.layers, other.layers, strict=True))
        return AnnCounts(layers, self.images + other.images)

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
    """Counts of the integer quantised network on a batch; add those of several batches with `+`.

    images: raw or Encoded. Activations are those of the integer network.
    """
    emitted = graph.encode(images)
    values = integer_values(graph, emitted)
    said = _said_by_module(graph.metadata)
    return AnnCounts(tuple(_layer(graph, node, values, said) for node in layer_nodes(graph)), len(emitted))


def stock_ann_counts(network: StockNetwork, images: Any) -> AnnCounts | None:
    """What the metadata of a network for stock neurons say of the network it was made from; None if they do not."""
    said, count = said_layers(network.metadata), len(images)
    if not said:
        return None
    layers = (
        AnnLayerCounts(
            name=entry["module"], type=entry["type"], module=entry["module"], neurons=0,
            parameters=entry["parameters"], macs=count * entry["macs"],
            macs_with_padding=count * entry["macs_with_padding"], macs_nonzero=None, additions_nonzero=None,
        )
        for entry in said
    )  # fmt: skip
    return AnnCounts(tuple(layers), count)


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


def _layer(
    graph: SpikingGraph, node: Node, values: Mapping[str, Int64], said: dict[str, dict[str, int]]
) -> AnnLayerCounts:
    """said: modules that no layer before has taken; this one takes its own."""
    images = len(values[graph.input.name])
    known = METADATA_KEY in graph.metadata
    works = works_of(graph, node, {module: entry["macs"] for module, entry in said.items()})
    sums: dict[str, Any] = dict.fromkeys((*_SUMS, *_NONZERO), 0)
    sums["nonzero_activations"] = int(np.count_nonzero(values[node.name]))
    parameters = sum(work.parameters for work in works if not (known and work.multiplies))
    for work in works:
        if not (known and work.multiplies):
            _add(sums, work, images, values)
    for module in dict.fromkeys(work.module for work in works if known and work.multiplies):
        entry = said.pop(module, None)
        if entry is None:  # a copy of a layer counted before, or a move of channels that has no weights
            continue
        own: dict[str, Any] = dict.fromkeys(sums, 0)
        for work in works:
            if work.multiplies and work.module == module:
                _add(own, work, images, values)
        same = own["macs"] == images * entry["macs"]
        sums["macs"] += images * entry["macs"]
        sums["macs_with_padding"] += images * entry["macs_with_padding"]
        sums["macs_nonzero"] = _sum((sums["macs_nonzero"], own["macs_nonzero"] if same else None))
        for key in ("additions", "additions_with_padding", "additions_nonzero"):  # of a pool folded into the layer
            sums[key] = _sum((sums[key], own[key]))
        parameters += entry["parameters"]
    return AnnLayerCounts(
        name=node.name, type=type(node).__name__, module=node.module, neurons=node.size, parameters=parameters, **sums
    )


def _add(sums: dict[str, Any], work: Work, images: int, values: Mapping[str, Int64]) -> None:
    for key, amount in work.amounts(images, values).items():
        sums[key] += amount


def _sum(values: Iterable[int | None]) -> int | None:
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total
