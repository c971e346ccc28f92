"""NetX type `dense`: fully connected."""

from __future__ import annotations

from typing import Any

import h5py

from fastsnn_deploy.formats.netx.fields import Fields, put_numbers, put_type
from fastsnn_deploy.formats.netx.synapses.base import SynapseCodec, mantissa, put_weight
from fastsnn_deploy.graph import Linear, Synapse


class LinearCodec(SynapseCodec):
    """Operator `linear`."""

    layer_type = "dense"
    operator = "linear"
    node_type = Linear

    def write(self, group: h5py.Group, synapse: Linear) -> None:
        put_type(group, self.layer_type)
        put_numbers(group, "shape", synapse.shape)
        put_weight(group, synapse)
        put_numbers(group, "inFeatures", synapse.weight.shape[1])
        put_numbers(group, "outFeatures", synapse.weight.shape[0])

    def read(self, group: Fields, fields: dict[str, Any]) -> Synapse:
        return Linear(**fields, weight=mantissa(group, fields["exponent"], 2))
