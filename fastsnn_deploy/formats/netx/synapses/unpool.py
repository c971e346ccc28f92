"""NetX type `unpool`, which stock lava-dl refuses to load: nearest-neighbour upsampling."""

from __future__ import annotations

from typing import Any

import h5py

from fastsnn_deploy.formats.netx.fields import Fields, put_numbers, put_type
from fastsnn_deploy.formats.netx.synapses.base import SynapseCodec, mantissa, put_weight
from fastsnn_deploy.graph import Synapse, Upsample


class UpsampleCodec(SynapseCodec):
    """Operator `upsample`; `stride` holds the factor (height, width), `weight` one value per channel."""

    layer_type = "unpool"
    operator = "upsample"
    node_type = Upsample

    def write(self, group: h5py.Group, synapse: Upsample) -> None:
        put_type(group, self.layer_type)
        put_numbers(group, "shape", synapse.shape)
        put_weight(group, synapse)
        put_numbers(group, "kernelSize", synapse.factor)
        put_numbers(group, "stride", synapse.factor)

    def read(self, group: Fields, fields: dict[str, Any]) -> Synapse:
        return Upsample(**fields, weight=mantissa(group, fields["exponent"], 1), factor=group.pair("stride"))
