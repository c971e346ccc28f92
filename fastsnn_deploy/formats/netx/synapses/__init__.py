"""Codecs of the synapse types. To add one: write its file, add its codecs to `OPERATORS`."""

from __future__ import annotations

from collections.abc import Sequence

import h5py

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats.netx.codec import Numbering, Placed
from fastsnn_deploy.formats.netx.fields import Fields
from fastsnn_deploy.formats.netx.synapses.base import SynapseCodec, put_synapse, synapse_fields
from fastsnn_deploy.formats.netx.synapses.conv import ConvCodec, IdentityCodec, SumPoolCodec
from fastsnn_deploy.formats.netx.synapses.conv_transpose import ConvTransposeCodec
from fastsnn_deploy.formats.netx.synapses.dense import LinearCodec
from fastsnn_deploy.formats.netx.synapses.unpool import UpsampleCodec
from fastsnn_deploy.graph import Synapse

OPERATORS: dict[str, SynapseCodec] = {
    codec.operator: codec
    for codec in (
        ConvCodec(), IdentityCodec(), SumPoolCodec(), LinearCodec(), UpsampleCodec(), ConvTransposeCodec(),
    )
}  # fmt: skip
"""Synapse codecs by the extension's operator name."""

TYPES: tuple[str, ...] = tuple(dict.fromkeys(codec.layer_type for codec in OPERATORS.values()))
"""NetX layer types that hold synapses."""


def write_synapse(group: h5py.Group, extension: h5py.Group, synapse: Synapse, numbering: Numbering) -> None:
    """NetX's keys into `group`, everything else into `extension`. Raises InputError for a type without a codec."""
    for codec in OPERATORS.values():
        if codec.node_type is type(synapse):
            put_synapse(extension, codec.operator, synapse, numbering)
            codec.write(group, synapse)
            return
    raise InputError(f"{type(synapse).__name__} '{synapse.name}' has no NetX form")


def read_synapse(group: Fields, extension: Fields, shape: tuple[int, ...], names: Sequence[str]) -> Placed:
    """Inverse of `write_synapse`. shape: of the population that the synapse feeds."""
    operator = extension.text("operator")
    codec = OPERATORS.get(operator)
    if codec is None:
        raise extension.wrong("operator", f"'{operator}'", f"one of {', '.join(OPERATORS)}")
    if group.text("type") != codec.layer_type:
        raise extension.wrong("type", f"'{group.text('type')}'", f"'{codec.layer_type}' for operator '{operator}'")
    fields = synapse_fields(extension, shape, names)
    synapse = codec.read(group, fields)
    codec.check(group, synapse)
    return extension.integer("order"), synapse
