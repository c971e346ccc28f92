"""What a layer codec is, and the keys that every layer has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import h5py

from fastsnn_deploy.formats.netx.fields import Fields, put_numbers, put_text, put_type
from fastsnn_deploy.graph import Node, SpikingGraph, Synapse

Placed = tuple[int, Node]
"""A node with its position in the graph's node list."""


class Numbering:
    """Which layer each node is: synapses belong to the layer of the population or readout they feed.

    layers: the nodes that make a layer, in topological order. layer: number of each of them by name.
    position: place of every node in the graph's list.
    """

    def __init__(self, graph: SpikingGraph) -> None:
        self.graph = graph
        self.layers = [node for node in graph.nodes if not isinstance(node, Synapse)]
        self.layer = {node.name: index for index, node in enumerate(self.layers)}
        self.position = {node.name: index for index, node in enumerate(graph.nodes)}

    def sources(self, node: Node) -> list[int]:
        """Layer numbers of a node's inputs."""
        return [self.layer[name] for name in node.inputs]


class LayerCodec(ABC):
    """Writes one node type as a NetX layer and reads it back.

    layer_type: the NetX layer type it owns; empty where the synapse decides (population, readout).
    node_type: what it writes.
    """

    layer_type: ClassVar[str] = ""
    node_type: ClassVar[type[Node]]

    @abstractmethod
    def write(self, group: h5py.Group, node: Any, numbering: Numbering) -> None:
        """Fill `layer/<i>` with the node."""

    @abstractmethod
    def read(self, layer: Fields, names: Sequence[str]) -> list[Placed]:
        """The nodes of a layer, the one that gives the layer its output last. names: of the earlier layers."""


def put_common(group: h5py.Group, layer_type: str, node: Node, numbering: Numbering) -> h5py.Group:
    """NetX's `type` and `shape`, and the `ext` group with the node's identity. Returns `ext`."""
    put_type(group, layer_type)
    put_numbers(group, "shape", node.shape)
    return put_extension(group, node, numbering)


def put_extension(group: h5py.Group, node: Node, numbering: Numbering) -> h5py.Group:
    """The `ext` group with the keys that identify a node."""
    ext = group.create_group("ext")
    put_identity(ext, node, numbering)
    put_numbers(ext, "shape", node.shape)
    return ext


def put_identity(group: h5py.Group, node: Node, numbering: Numbering) -> None:
    """Name, module and position in the graph's node list."""
    put_text(group, "name", node.name)
    put_text(group, "module", node.module)
    put_numbers(group, "order", numbering.position[node.name])


def identity(fields: Fields) -> dict[str, Any]:
    """Inverse of `put_identity`, without the position."""
    return {"name": fields.text("name"), "module": fields.text("module")}


def common(layer: Fields, *, own_shape: bool = True) -> tuple[Fields, int, dict[str, Any]]:
    """The `ext` group of a layer, its position, and the fields that every node has except `inputs`.

    own_shape: NetX's `shape` must be the node's. Where it belongs to a synapse, the synapse's codec checks it.
    """
    ext = layer.group("ext")
    if own_shape and layer.shape() != ext.shape():
        raise layer.wrong("shape", layer.shape(), f"{ext.shape()} as in 'ext/shape'")
    return ext, ext.integer("order"), identity(ext) | {"shape": ext.shape()}


def source_names(fields: Fields, names: Sequence[str]) -> tuple[str, ...]:
    """Names of the layers under the key `source`."""
    return tuple(fields.reference(index, "source", names) for index in fields.integers("source"))
