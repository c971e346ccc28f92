"""Codecs of the layer families. To add one: write its file, add its instance to `CODECS`."""

from __future__ import annotations

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats.netx.codec import LayerCodec
from fastsnn_deploy.formats.netx.layers.image import InputCodec
from fastsnn_deploy.formats.netx.layers.neurons import PopulationCodec, ReadoutCodec, SpikingLayer
from fastsnn_deploy.formats.netx.layers.pool import MaxPoolCodec
from fastsnn_deploy.formats.netx.layers.routing import ConcatCodec, FlattenCodec
from fastsnn_deploy.formats.netx.synapses import TYPES
from fastsnn_deploy.graph import Node

CODECS: tuple[LayerCodec, ...] = (
    InputCodec(),
    PopulationCodec(),
    ReadoutCodec(),
    MaxPoolCodec(),
    FlattenCodec(),
    ConcatCodec(),
)

LAYERS: dict[str, LayerCodec] = {codec.layer_type: codec for codec in CODECS if codec.layer_type} | dict.fromkeys(
    TYPES, SpikingLayer()
)
"""The codec that reads each NetX layer type."""


def codec_of(node: Node) -> LayerCodec:
    """The codec that writes `node`. Raises InputError if its type has none."""
    for codec in CODECS:
        if codec.node_type is type(node):
            return codec
    raise InputError(f"{type(node).__name__} '{node.name}' has no NetX form")
