"""NetX type `convT`, which stock lava-dl refuses to load: transposed convolution."""

from __future__ import annotations

from typing import Any

import h5py

from fastsnn_deploy.formats.netx.fields import Fields, put_numbers, put_type
from fastsnn_deploy.formats.netx.synapses.base import SynapseCodec, mantissa, put_weight
from fastsnn_deploy.graph import ConvTranspose2d, Synapse

WINDOW = ("stride", "padding", "output_padding", "dilation")


class ConvTransposeCodec(SynapseCodec):
    """Operator `conv_transpose2d`; `weight` has the output channels first."""

    layer_type = "convT"
    operator = "conv_transpose2d"
    node_type = ConvTranspose2d

    def write(self, group: h5py.Group, synapse: ConvTranspose2d) -> None:
        put_type(group, self.layer_type)
        put_numbers(group, "shape", synapse.shape)
        put_weight(group, synapse)
        for key in WINDOW:
            put_numbers(group, key, getattr(synapse, key))
        put_numbers(group, "groups", synapse.groups)
        put_numbers(group, "kernelSize", synapse.kernel)
        put_numbers(group, "inChannels", synapse.weight.shape[1] * synapse.groups)
        put_numbers(group, "outChannels", synapse.channels)

    def read(self, group: Fields, fields: dict[str, Any]) -> Synapse:
        window: dict[str, Any] = {key: group.pair(key) for key in WINDOW}
        weight = mantissa(group, fields["exponent"], 4)
        return ConvTranspose2d(**fields, **window, weight=weight, groups=group.integer("groups"))
