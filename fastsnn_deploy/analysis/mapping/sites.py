"""What mapping sees of a network of any kind: its layers in order, what each reads, and what each asks of a chip.

`sites_of` is a table by type of network, as `analysis.structure.layers_of` is for counting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

import numpy as np

from fastsnn_deploy.analysis.counting import connections_of, layer_nodes
from fastsnn_deploy.analysis.mapping.grid import Shape, cubic, volume
from fastsnn_deploy.analysis.mapping.kinds import KINDS, Connection, Part
from fastsnn_deploy.analysis.mapping.kinds.base import mantissa_bits, weight_bits
from fastsnn_deploy.analysis.structure import Network
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import Concat, Flatten, Input, MaxPool2d, Node, Population, Readout, SpikingGraph
from fastsnn_deploy.graph.ranges import STATE_BITS, Range
from fastsnn_deploy.lava_dl import Lif, Sdnn, StockConv, StockDense, StockInput, StockNetwork
from fastsnn_deploy.lava_dl.limits import MESSAGE_BITS


@dataclass(frozen=True)
class Site:
    """One layer.

    shape: as users see it. placed: it takes cores; an input without neurons is fed from outside. soft: its neurons keep
    what is over the threshold. signed: it sends spikes of -1. needs: bits and steps that it asks for, by the names of
    `chip.Ranges`; payload_bits is absent where spikes are binary.
    """

    name: str
    module: str
    type: str
    shape: tuple[int, ...]
    placed: bool
    connections: tuple[Connection, ...]
    soft: bool = False
    signed: bool = False
    needs: Mapping[str, int] = field(default_factory=dict)

    @property
    def map(self) -> Shape:
        """(C, H, W)."""
        return cubic(self.shape)

    @property
    def neurons(self) -> int:
        """Neurons."""
        return volume(self.shape)


Reader = tuple[Site, Connection, Part]
"""A layer that reads another, by which connection, and which part of what that connection reads."""


def readers_of(sites: tuple[Site, ...]) -> Mapping[str, tuple[Reader, ...]]:
    """What reads each layer."""
    found: dict[str, list[Reader]] = {site.name: [] for site in sites}
    for site in sites:
        for connection in site.connections:
            for part in connection.parts:
                found[part.layer].append((site, connection, part))
    return {name: tuple(readers) for name, readers in found.items()}


@singledispatch
def sites_of(network: Network) -> tuple[Site, ...]:
    """The layers of a network in order. Raises InputError for a layer that no kind is registered for."""
    raise TypeError(f"{type(network).__name__} is no network")


@sites_of.register
def _of_graph(network: SpikingGraph) -> tuple[Site, ...]:
    return tuple(_graph_site(network, node, network.ranges) for node in layer_nodes(network))


def _graph_site(graph: SpikingGraph, node: Node, found: Mapping[str, Range]) -> Site:
    connections = [
        _connection(
            each,
            source=cubic(graph[each.inputs[0]].shape),
            target=cubic(node.shape),
            flattened=_flattened(graph, each.inputs[0]),
            parts=tuple(_parts(graph, each.inputs[0])),
            delay=each.edge_delays[0] - 1,
        )
        for each in connections_of(graph, node)
    ]
    return Site(
        name=node.name,
        module=node.module,
        type=type(node).__name__,
        shape=node.shape,
        placed=not isinstance(node, Input),
        connections=tuple(connections),
        soft=isinstance(node, Population),
        signed=_signed(graph, node),
        needs=_needs(node, connections, found),
    )


def _signed(graph: SpikingGraph, node: Node) -> bool:
    """A max pool can take back a maximum as soon as what it reads can take back a spike."""
    if isinstance(node, MaxPool2d):
        return any(_signed(graph, graph[part.layer]) for part in _parts(graph, node.inputs[0]))
    return isinstance(node, Population) and node.min_spike < 0


def _needs(node: Node, connections: list[Connection], found: Mapping[str, Range]) -> dict[str, int]:
    needs = _of_connections(connections)
    if isinstance(node, (Population, Readout)):
        needs["state_bits"] = found[f"{node.name}.potential"].bits
        needs["bias_bits"] = _greatest(node.bias).bit_length() + 1
    if isinstance(node, Population):
        needs["threshold_bits"] = _greatest(node.threshold).bit_length()
        if node.payload > 1:
            needs["payload_bits"] = node.payload.bit_length()
    return needs


def _of_connections(connections: list[Connection]) -> dict[str, int]:
    bits = max((connection.mantissa for connection in connections), default=0)
    return {"weight_bits": bits, "delay_steps": max((connection.delay for connection in connections), default=0)}


def _greatest(values: Any) -> int:
    return int(np.abs(values).max(initial=0))


def _parts(graph: SpikingGraph, name: str, offset: int = 0, flat: bool = False) -> Iterator[Part]:
    """The layers behind routing nodes, each with its place in what `name` sends."""
    node = graph[name]
    if isinstance(node, Flatten):
        source = graph[node.inputs[0]]
        yield from _parts(graph, node.inputs[0], offset, flat or len(source.shape) > 1)
    elif isinstance(node, Concat):
        each = volume(node.shape[1:]) if flat else 1
        for arm in node.inputs:
            yield from _parts(graph, arm, offset, flat)
            offset += graph[arm].shape[0] * each
    else:
        yield Part(name, offset, flat)


def _flattened(graph: SpikingGraph, name: str) -> Shape:
    node = graph[name]
    return _flattened(graph, node.inputs[0]) if isinstance(node, Flatten) else cubic(node.shape)


def _connection(layer: Any, *, name: str = "", **fields: Any) -> Connection:
    if type(layer) not in KINDS:
        known = ", ".join(sorted(each.__name__ for each in KINDS))
        raise InputError(f"{name or layer.name}: a {type(layer).__name__} cannot be mapped. Known: {known}")
    kind, build = KINDS[type(layer)]
    given: dict[str, Any] = {"name": name or layer.name, "type": type(layer).__name__}
    pool = isinstance(layer, MaxPool2d)
    given |= {"bits": 2 if pool else weight_bits(layer.weight), "mantissa": 1 if pool else mantissa_bits(layer.weight)}
    return kind(**given, **fields, **build(layer, fields["source"]))


@sites_of.register
def _of_stock(network: StockNetwork) -> tuple[Site, ...]:
    names = network.names
    sites = [_stock_input(network, names[0])]
    before = 0
    for index in network.weighted:
        layer, read = network.layers[index], network.layers[index - 1].shape
        assert isinstance(layer, (StockConv, StockDense))
        delay = layer.delay if isinstance(layer, StockDense) else None
        flat = len(network.layers[before].shape) > len(read)
        connection = _connection(
            layer,
            name=names[index],
            source=cubic(read),
            target=cubic(layer.shape),
            flattened=cubic(network.layers[before].shape),
            parts=(Part(names[before], 0, flat),),
            delay=0 if delay is None else int(delay.max()),
        )
        sites.append(_stock_site(network, index, (connection,)))
        before = index
    return tuple(sites)


def _stock_input(network: StockNetwork, name: str) -> Site:
    first = network.layers[0]
    placed = isinstance(first, StockInput) and first.neuron is not None
    return _stock_site(network, 0, ()) if placed else Site(name, "", "Input", first.shape, False, ())


def _stock_site(network: StockNetwork, index: int, connections: tuple[Connection, ...]) -> Site:
    layer = network.layers[index]
    neuron = getattr(layer, "neuron", None)
    needs = _of_connections(list(connections)) | {"state_bits": STATE_BITS}
    bias = None if isinstance(layer, StockInput) else getattr(layer, "bias", None)
    if bias is not None and not isinstance(neuron, Sdnn):
        needs["bias_bits"] = _greatest(bias).bit_length() + 1
    if isinstance(neuron, Lif):
        needs["threshold_bits"] = neuron.threshold.bit_length()
    if isinstance(neuron, Sdnn):
        needs["payload_bits"] = MESSAGE_BITS
    kind = "Accumulator" if neuron is None else type(neuron).__name__
    delta = isinstance(neuron, Sdnn)
    return Site(network.names[index], "", kind, layer.shape, True, connections, signed=delta, needs=needs)
