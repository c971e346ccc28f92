"""What the user's own network computes for one image: multiply-accumulates and parameters of each trained layer.

Counted before lowering folds, splits or copies a layer; profiles read it from the metadata of the spiking graph.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from fastsnn_deploy.conversion import quant_graph as q
from fastsnn_deploy.graph import Conv2d, ConvTranspose2d, Linear, Synapse
from fastsnn_deploy.graph.synapses import zero_exponent


def ann_metadata(graph: q.QuantGraph) -> str:
    """The value of metadata `ann`: a JSON list of the network's trained layers in order, each with `module`, `type`,
    `macs` (reads of the padding left out), `macs_with_padding` and `parameters` (weights; bias apart)."""
    shapes = {node.name: node.shape for node in graph.nodes}
    layers = [
        _layer(node, shapes[node.inputs[0]]) for node in graph.nodes if isinstance(node, (q.Convolution, q.Dense))
    ]
    return json.dumps(layers)


def _layer(node: q.Convolution | q.Dense, source: tuple[int, ...]) -> dict[str, Any]:
    synapse = _synapse(node)
    return {
        "module": node.module or node.name,
        "type": type(synapse).__name__,
        "macs": int(synapse.fan_out(source).sum()),
        "macs_with_padding": synapse.padded_fan_in(source),
        "parameters": int(np.prod(node.weight.shape)),
    }


def _synapse(node: q.Convolution | q.Dense) -> Synapse:
    common: dict[str, Any] = {
        "name": node.name, "inputs": node.inputs, "shape": node.shape, "weight": node.weight,
        "exponent": zero_exponent(node.shape[0]),
    }  # fmt: skip
    if isinstance(node, q.Dense):
        return Linear(**common)
    common |= {key: getattr(node, key) for key in ("stride", "padding", "dilation", "groups")}
    if isinstance(node, q.TransposedConvolution):
        return ConvTranspose2d(**common, output_padding=node.output_padding)
    return Conv2d(**common)
