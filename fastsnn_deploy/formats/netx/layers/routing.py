"""Flatten (stock NetX) and concat (which stock lava-dl refuses to load)."""

from __future__ import annotations

from collections.abc import Sequence

import h5py

from fastsnn_deploy.formats.netx.codec import LayerCodec, Numbering, Placed, common, put_common, source_names
from fastsnn_deploy.formats.netx.fields import Fields, put_numbers
from fastsnn_deploy.graph import Concat, Flatten


class FlattenCodec(LayerCodec):
    """NetX type `flatten`, in C, H, W order."""

    layer_type = "flatten"
    node_type = Flatten

    def write(self, group: h5py.Group, node: Flatten, numbering: Numbering) -> None:
        ext = put_common(group, self.layer_type, node, numbering)
        put_numbers(ext, "source", numbering.sources(node))

    def read(self, layer: Fields, names: Sequence[str]) -> list[Placed]:
        ext, order, fields = common(layer)
        return [(order, Flatten(**fields, inputs=source_names(ext, names)))]


class ConcatCodec(LayerCodec):
    """NetX type `concat`, on the channel axis, with an extra delay for each source."""

    layer_type = "concat"
    node_type = Concat

    def write(self, group: h5py.Group, node: Concat, numbering: Numbering) -> None:
        ext = put_common(group, self.layer_type, node, numbering)
        put_numbers(ext, "source", numbering.sources(node))
        put_numbers(ext, "delay", node.delays)

    def read(self, layer: Fields, names: Sequence[str]) -> list[Placed]:
        ext, order, fields = common(layer)
        return [(order, Concat(**fields, inputs=source_names(ext, names), delays=ext.integers("delay")))]
