"""Every synapse of a network, one by one: which neuron reads which, and with which weight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastsnn_deploy.analysis.mapping.grid import Int64, cubic, volume
from fastsnn_deploy.analysis.mapping.kinds import Connection, Part
from fastsnn_deploy.analysis.mapping.sites import Site
from fastsnn_deploy.analysis.structure import Network
from fastsnn_deploy.lava_dl import StockConv, StockDense, StockNetwork


@dataclass(frozen=True, eq=False)
class Links:
    """The synapses by which one layer reads another.

    name, type: of the connection. before, after: the layers. source, target: elements of the two, flattened, int64 [S]
    for S synapses. weight: int64 [S] of a network of stock layers; None for others, whose spikes are replayed.
    """

    name: str
    type: str
    before: str
    after: str
    source: Int64
    target: Int64
    weight: Int64 | None = None


def links_of(network: Network, sites: tuple[Site, ...]) -> Iterator[Links]:
    """All synapses, those that `analysis.counting` counts: weights of 0 are none in networks of stock layers."""
    shapes = {site.name: cubic(site.shape) for site in sites}
    for site in sites:
        for connection in site.connections:
            for part in connection.parts:
                source, target = _pairs(connection, part, shapes[part.layer])
                weight = None
                if isinstance(network, StockNetwork):
                    weight = _weights(network, site.name, connection, source, target)
                    source, target, weight = (each[weight != 0] for each in (source, target, weight))
                yield Links(connection.name, connection.type, part.layer, site.name, source, target, weight)


def _pairs(connection: Connection, part: Part, shape: tuple[int, int, int]) -> tuple[Int64, Int64]:
    """Elements of the layer that is read, of that shape (C, H, W), and of the one that reads: one pair a synapse."""
    axes = [connection.axis_pairs(axis) for axis in range(3)]
    read, reader = axes[0]
    read = read - part.offset
    inside = (read >= 0) & (read < (volume(shape) if part.flat else shape[0]))
    axes[0] = read[inside], reader[inside]
    sizes = (volume(shape), 1, 1) if part.flat else shape
    return _joined([pairs[0] for pairs in axes], sizes), _joined([pairs[1] for pairs in axes], connection.target)


def _joined(places: list[Int64], sizes: tuple[int, int, int]) -> Int64:
    """Flattened places of all combinations of places along the axes."""
    c, h, w = places
    return np.asarray(((c[:, None, None] * sizes[1] + h[:, None]) * sizes[2] + w).reshape(-1))


def _weights(network: StockNetwork, name: str, connection: Connection, source: Int64, target: Int64) -> Int64:
    layer = network.layers[network.names.index(name)]
    if isinstance(layer, StockDense):
        return np.asarray(layer.weight[target, source])
    assert isinstance(layer, StockConv)
    c, *read = np.unravel_index(source, connection.source)
    o, *reader = np.unravel_index(target, layer.shape)
    tap = [
        (at - out * stride + padding) // dilation
        for at, out, stride, padding, dilation in zip(
            read, reader, layer.stride, layer.padding, layer.dilation, strict=True
        )
    ]
    return np.asarray(layer.weight[o, c % layer.weight.shape[1], tap[0], tap[1]])
