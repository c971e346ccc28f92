"""Populations and readouts, each one layer together with all of its synapses.

The first synapse lies at the layer itself, under NetX's own keys; every further one under `synapse/<j>` with the
same keys. What NetX does not know about synapse j lies in `synapse/<j>` too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

from fastsnn_deploy.formats.netx.codec import LayerCodec, Numbering, Placed, common, put_extension
from fastsnn_deploy.formats.netx.fields import INT32_MAX, Fields, put_integers_as_float32, put_numbers, put_text
from fastsnn_deploy.formats.netx.synapses import read_synapse, write_synapse
from fastsnn_deploy.graph import Linear, Node, Population, Readout, Synapse
from fastsnn_deploy.lava_dl.limits import BIAS_MAX_LAVA, CURRENT_MAX

SIGNED_IF = "SIGNED_IF"

ACCUMULATOR = "ACCUMULATOR"

LIMITS = ("floor", "ceiling", "min_spike", "max_spike")
"""Bounds of the net count and of one spike."""


class PopulationCodec(LayerCodec):
    """Neuron type SIGNED_IF, which stock lava-dl refuses to load."""

    node_type = Population

    def write(self, group: h5py.Group, node: Population, numbering: Numbering) -> None:
        ext = _write_layer(group, node, numbering)
        neuron = group.create_group("neuron")
        put_text(neuron, "type", SIGNED_IF)
        for key in ("threshold", "initial", *LIMITS):
            put_numbers(neuron, key, getattr(node, key))
        put_numbers(ext, "scale", node.scale)
        put_numbers(ext, "input_scale", node.input_scale)

    def read(self, layer: Fields, names: Sequence[str]) -> list[Placed]:
        return SpikingLayer().read(layer, names)


class ReadoutCodec(LayerCodec):
    """No neuron where stock lava-dl accumulates the same values; otherwise type ACCUMULATOR, which it refuses."""

    node_type = Readout

    def write(self, group: h5py.Group, node: Readout, numbering: Numbering) -> None:
        ext = _write_layer(group, node, numbering)
        if not stock_exact(node, numbering):
            put_text(group.create_group("neuron"), "type", ACCUMULATOR)
        put_numbers(ext, "scale", node.scale)

    def read(self, layer: Fields, names: Sequence[str]) -> list[Placed]:
        return SpikingLayer().read(layer, names)


class SpikingLayer(LayerCodec):
    """Reads layers of the types that hold synapses; the neuron decides between population and readout."""

    node_type = Node

    def write(self, group: h5py.Group, node: Node, numbering: Numbering) -> None:
        raise TypeError("written by PopulationCodec and ReadoutCodec")

    def read(self, layer: Fields, names: Sequence[str]) -> list[Placed]:
        ext, order, fields = common(layer, own_shape=False)
        synapses = _read_synapses(layer, fields["shape"], names)
        bias = layer.whole("bias")
        if bias.shape != (fields["shape"][0],):
            raise layer.wrong("bias", f"of shape {bias.shape}", f"one value for each of {fields['shape'][0]} channels")
        fields |= {"inputs": tuple(synapse.name for _, synapse in synapses), "bias": bias}
        neuron = layer.group("neuron") if "neuron" in layer else None
        kind = neuron.text("type") if neuron else ACCUMULATOR
        if neuron and kind == SIGNED_IF:
            return [*synapses, (order, _population(ext, neuron, fields))]
        if kind != ACCUMULATOR:
            raise layer.wrong("neuron/type", f"'{kind}'", f"{SIGNED_IF} or {ACCUMULATOR}")
        return [*synapses, (order, Readout(**fields, scale=ext.reals("scale", fields["shape"][0])))]


def _population(ext: Fields, neuron: Fields, fields: dict[str, Any]) -> Population:
    channels = fields["shape"][0]
    limits: dict[str, Any] = {key: neuron.integer(key) for key in LIMITS}
    if max(map(abs, limits.values())) > INT32_MAX:
        raise neuron.wrong(", ".join(LIMITS), tuple(limits.values()), f"at most {INT32_MAX} in magnitude")
    return Population(
        **fields,
        **limits,
        threshold=neuron.channels("threshold", channels),
        initial=neuron.channels("initial", channels),
        scale=ext.number("scale"),
        input_scale=ext.reals("input_scale", channels),
    )


def stock_exact(node: Readout, numbering: Numbering) -> bool:
    """Whether stock lava-dl's accumulator gives this readout's potential: then the layer needs no own neuron type."""
    first = numbering.graph[node.inputs[0]]
    source = numbering.layer[first.inputs[0]]
    bounds = numbering.graph.ranges[node.name + ".potential"]
    return (
        len(node.inputs) == 1
        and isinstance(first, Linear)
        and first.delay == 1
        and not first.exponent.any()
        and bool(first.weight.any())
        and source == numbering.layer[node.name] - 1
        and bounds.magnitude <= CURRENT_MAX
        and int(np.abs(node.bias).max(initial=0)) <= BIAS_MAX_LAVA
    )


def _write_layer(group: h5py.Group, node: Population | Readout, numbering: Numbering) -> h5py.Group:
    for index, name in enumerate(node.inputs):
        synapse = numbering.graph[name]
        assert isinstance(synapse, Synapse)  # a rule of the graph
        extension = group.create_group(f"synapse/{index}")
        write_synapse(group if index == 0 else extension, extension, synapse, numbering)
    put_integers_as_float32(group, "bias", node.bias)
    return put_extension(group, node, numbering)


def _read_synapses(layer: Fields, shape: tuple[int, ...], names: Sequence[str]) -> list[Placed]:
    group = layer.group("synapse")
    synapses: list[Placed] = []
    for index in range(max(len(group), 1)):
        where = f"{layer.where}, synapse {index}"
        extension = group.group(str(index), where=where)
        synapses.append(read_synapse(layer if index == 0 else extension, extension, shape, names))
    return synapses
