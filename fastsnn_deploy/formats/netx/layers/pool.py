"""Max pool: NetX's `pool` keys, which stock lava-dl refuses to load, and the delay as extension."""

from __future__ import annotations

from collections.abc import Sequence

import h5py
import numpy as np

from fastsnn_deploy.formats.netx.codec import LayerCodec, Numbering, Placed, common, put_common, source_names
from fastsnn_deploy.formats.netx.fields import Fields, put_numbers, put_text
from fastsnn_deploy.graph import MaxPool2d


class MaxPoolCodec(LayerCodec):
    """NetX type `pool` with `ext/operator` = `max`."""

    layer_type = "pool"
    node_type = MaxPool2d

    def write(self, group: h5py.Group, node: MaxPool2d, numbering: Numbering) -> None:
        ext = put_common(group, self.layer_type, node, numbering)
        put_numbers(group, "kernelSize", node.kernel)
        for key in ("stride", "padding", "dilation"):
            put_numbers(group, key, getattr(node, key))
        put_text(ext, "operator", "max")
        ext.create_dataset("ceil_mode", data=np.bool_(node.ceil_mode))
        put_numbers(ext, "delay", node.delay)
        put_numbers(ext, "source", numbering.sources(node))

    def read(self, layer: Fields, names: Sequence[str]) -> list[Placed]:
        ext, order, fields = common(layer)
        if ext.text("operator") != "max":
            raise ext.wrong("operator", ext.text("operator"), "max")
        node = MaxPool2d(
            **fields,
            inputs=source_names(ext, names),
            kernel=layer.pair("kernelSize"),
            stride=layer.pair("stride"),
            padding=layer.pair("padding"),
            dilation=layer.pair("dilation"),
            ceil_mode=ext.flag("ceil_mode"),
            delay=ext.integer("delay"),
        )
        return [(order, node)]
