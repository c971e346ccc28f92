"""Counts of the same network as a conventional quantised network (ANN): one pass, no time.

Connections with a weight each (convolution, linear) are multiply-accumulates (MACs). Connections with one weight a
channel (identity, sum pool, upsampling) are additions, since that weight folds into the requantisation. A max pool
compares and has neither; requantisation itself is not counted.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.counting import connections_of, fan_out, has_multipliers, layer_nodes
from fastsnn_deploy.analysis.counts import same_length, same_structure
from fastsnn_deploy.graph import Node, SpikingGraph, Synapse
from fastsnn_deploy.graph.integer_network import integer_values

Int64 = npt.NDArray[np.int64]

_SUMS = (
    "nonzero_activations",
    "macs",
    "macs_with_padding",
    "macs_nonzero",
    "additions",
    "additions_with_padding",
    "additions_nonzero",
)


@dataclass(frozen=True)
class AnnLayerCounts:
    """One layer over all images.

    macs: border-exact, reads of the zero padding not counted. macs_with_padding: counted, as most tools print.
    macs_nonzero: border-exact and only where the activation read is not zero, what zero-skipping hardware does.
    additions: the same three for connections with one weight a channel.
    """

    name: str
    type: str
    module: str
    neurons: int
    synapses: int
    parameters: int
    nonzero_activations: int = 0
    macs: int = 0
    macs_with_padding: int = 0
    macs_nonzero: int = 0
    additions: int = 0
    additions_with_padding: int = 0
    additions_nonzero: int = 0

    def __add__(self, other: AnnLayerCounts) -> AnnLayerCounts:
        same_structure(self, other, ("name", "type", "module", "neurons", "synapses", "parameters"))
        return dataclasses.replace(self, **{key: getattr(self, key) + getattr(other, key) for key in _SUMS})


@dataclass(frozen=True)
class AnnCounts:
    """A whole network over `images` images."""

    layers: tuple[AnnLayerCounts, ...]
    images: int

    def __add__(self, other: AnnCounts) -> AnnCounts:
        same_length("the network", self.layers, other.layers)
        layers = tuple(a + b for a, b in zip(self.layers, other.layers, strict=True))
        return AnnCounts(layers, self.images + other.images)

    def __getitem__(self, layer: str) -> AnnLayerCounts:
        return next(entry for entry in self.layers if entry.name == layer)

    def total(self, quantity: str) -> int:
        """Sum of an attribute of `AnnLayerCounts`, such as "macs", over all layers."""
        return sum(getattr(layer, quantity) for layer in self.layers)


def ann_counts(graph: SpikingGraph, images: Any) -> AnnCounts:
    """Counts of the integer quantised network on a batch; add those of several batches with `+`.

    images: raw or Encoded. Activations are those of the integer network.
    """
    emitted = graph.encode(images)
    nonzero = {name: np.count_nonzero(value, axis=0) for name, value in integer_values(graph, emitted).items()}
    layers = tuple(_layer(graph, node, len(emitted), nonzero) for node in layer_nodes(graph))
    return AnnCounts(layers, len(emitted))


def _layer(graph: SpikingGraph, node: Node, images: int, nonzero: dict[str, Int64]) -> AnnLayerCounts:
    sums = dict.fromkeys(_SUMS, 0)
    sums["nonzero_activations"] = int(np.sum(nonzero[node.name]))
    synapses = parameters = 0
    for connection in connections_of(graph, node):
        fan = fan_out(graph, connection)
        synapses += int(fan.sum())
        if not isinstance(connection, Synapse):
            continue
        parameters += connection.parameters
        kind = "macs" if has_multipliers(connection) else "additions"
        sums[kind] += images * int(fan.sum())
        sums[f"{kind}_with_padding"] += images * connection.padded_fan_in(graph[connection.inputs[0]].shape)
        sums[f"{kind}_nonzero"] += int(np.sum(nonzero[connection.inputs[0]] * fan))
    return AnnLayerCounts(
        name=node.name,
        type=type(node).__name__,
        module=node.module,
        neurons=node.size,
        synapses=synapses,
        parameters=parameters,
        **sums,
    )
