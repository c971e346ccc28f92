"""What counting sees of a network of any kind: its layers, and what delivers spikes to them.

`layers_of` is a table by type of network; a new kind registers one function, and evaluation, profile and energy follow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis import counting
from fastsnn_deploy.graph import Population, Readout, SpikingGraph, Synapse
from fastsnn_deploy.lava_dl import StockConv, StockDense, StockInput, StockLayer, StockNetwork
from fastsnn_deploy.lava_dl.synapses import fan_out

Int64 = npt.NDArray[np.int64]
Network = SpikingGraph | StockNetwork


@dataclass(frozen=True, eq=False)
class Incoming:
    """What delivers spikes to a layer: a synapse, or the windows of a max pool.

    sources: layers whose spikes it reads, with the whole delay in steps. fan: int64 [source neurons], connections that
    a spike of each reaches. weighted, parameters, weights, zero_weights: as `ConnectionCounts`. dense: connections,
    zero weights included.
    effective: operations with non-zero weights for int64 [source neurons] spikes.
    """

    name: str
    type: str
    sources: tuple[tuple[str, int], ...]
    fan: Int64
    weighted: bool
    parameters: int
    weights: int
    zero_weights: int
    dense: int
    effective: Callable[[Int64], int]

    @property
    def synapses(self) -> int:
        """Connections."""
        return int(self.fan.sum())


@dataclass(frozen=True, eq=False)
class Layer:
    """One row of a report. sends: it has spikes of its own. Values as in `LayerCounts`."""

    name: str
    type: str
    module: str
    shape: tuple[int, ...]
    sends: bool
    bias_values: int
    threshold_values: int
    incoming: tuple[Incoming, ...]

    @property
    def neurons(self) -> int:
        """Neurons."""
        return int(np.prod(self.shape))


@singledispatch
def layers_of(network: Network) -> tuple[Layer, ...]:
    """The layers of a network in order, the input first."""
    raise TypeError(f"{type(network).__name__} is no network")


@layers_of.register
def _of_graph(network: SpikingGraph) -> tuple[Layer, ...]:
    return tuple(
        Layer(
            name=node.name,
            type=type(node).__name__,
            module=node.module,
            shape=node.shape,
            sends=node.spiking,
            bias_values=node.bias.size if isinstance(node, (Population, Readout)) else 0,
            threshold_values=node.threshold.size if isinstance(node, Population) else 0,
            incoming=tuple(_incoming(network, node) for node in counting.connections_of(network, node)),
        )
        for node in counting.layer_nodes(network)
    )


def _incoming(graph: SpikingGraph, node: counting.Connection) -> Incoming:
    fan, weighted = counting.fan_out(graph, node).reshape(-1), counting.has_multipliers(node)
    return Incoming(
        name=node.name,
        type=type(node).__name__,
        sources=counting.taps(graph, node.inputs[0], node.delay),
        fan=fan,
        weighted=weighted,
        parameters=node.parameters if isinstance(node, Synapse) else 0,
        weights=node.weight.size if isinstance(node, Synapse) else 0,
        zero_weights=int(np.count_nonzero(node.weight == 0)) if isinstance(node, Synapse) else 0,
        dense=int(fan.sum()) if weighted else 0,
        effective=lambda number: counting.effective_operations(graph, node, number),
    )


@layers_of.register
def _of_stock(network: StockNetwork) -> tuple[Layer, ...]:
    """Weights of 0, which the windows of a chain are full of, are no synapses and no parameters."""
    layers: list[Layer] = []
    names, senders = network.names, network.senders
    source = 0
    for index in (0, *network.weighted):
        layers.append(_stock_layer(network, index, index in senders, names[source]))
        source = index
    return tuple(layers)


def _stock_layer(network: StockNetwork, index: int, sends: bool, source: str) -> Layer:
    layer, name = network.layers[index], network.names[index]
    neuron = getattr(layer, "neuron", None)
    bias = getattr(layer, "bias", None)
    incoming = () if isinstance(layer, StockInput) else tuple(_stock_incoming(network, index, name, source))
    return Layer(
        name=name,
        type="Input" if isinstance(layer, StockInput) else "Accumulator" if neuron is None else type(neuron).__name__,
        module="",
        shape=layer.shape,
        sends=sends,
        bias_values=0 if bias is None else bias.size,
        threshold_values=int(neuron is not None),
        incoming=incoming,
    )


def _stock_incoming(network: StockNetwork, index: int, name: str, source: str) -> Iterator[Incoming]:
    """One for the layer, or one for each delay in it."""
    layer, before = network.layers[index], network.layers[index - 1]
    if isinstance(layer, StockConv):
        yield _one_delay(layer, before, name, (source, 1), fan_out(layer, before.shape, zeros=True))
    elif isinstance(layer, StockDense):
        delay = np.zeros(1, dtype=np.int64) if layer.delay is None else layer.delay
        each = np.broadcast_to(delay.reshape(len(delay), -1), layer.weight.shape)
        for steps in np.unique(each):
            part = dataclasses.replace(layer, weight=np.where(each == steps, layer.weight, 0))
            label = name if each.min() == each.max() else f"{name} ({steps} steps later)"
            yield _one_delay(part, before, label, (source, 1 + int(steps)), (each == steps).sum(0))


def _one_delay(
    layer: StockConv | StockDense, before: StockLayer, name: str, source: tuple[str, int], dense: Int64
) -> Incoming:
    fan, nonzero = fan_out(layer, before.shape).reshape(-1), int(np.count_nonzero(layer.weight))
    weights = layer.weight.size if isinstance(layer, StockConv) else int(dense.sum())
    return Incoming(
        name=name,
        type="Conv2d" if isinstance(layer, StockConv) else "Linear",
        sources=(source,),
        fan=fan,
        weighted=True,
        parameters=nonzero,
        weights=weights,
        zero_weights=weights - nonzero,
        dense=int(dense.sum()),
        effective=lambda number: int(number @ fan),
    )
