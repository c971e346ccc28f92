"""The input layer: stock `shape` without a neuron, and the meaning of a level as extension."""

from __future__ import annotations

from collections.abc import Sequence

import h5py

from fastsnn_deploy.formats.netx.codec import LayerCodec, Numbering, Placed, common, put_common
from fastsnn_deploy.formats.netx.fields import INT32_MAX, Fields, put_numbers
from fastsnn_deploy.graph import Input


class InputCodec(LayerCodec):
    """NetX type `input`."""

    layer_type = "input"
    node_type = Input

    def write(self, group: h5py.Group, node: Input, numbering: Numbering) -> None:
        ext = put_common(group, self.layer_type, node, numbering)
        for key in ("step", "low", "high", "offset", "scale"):
            put_numbers(ext, key, getattr(node, key))

    def read(self, layer: Fields, names: Sequence[str]) -> list[Placed]:
        ext, order, fields = common(layer)
        low, high = ext.integer("low"), ext.integer("high")
        if max(abs(low), abs(high)) > INT32_MAX:
            raise ext.wrong("low, high", (low, high), f"at most {INT32_MAX} in magnitude")
        node = Input(
            **fields,
            step=ext.number("step"),
            low=low,
            high=high,
            offset=ext.channels("offset", fields["shape"][0]),
            scale=ext.number("scale"),
        )
        return [(order, node)]
