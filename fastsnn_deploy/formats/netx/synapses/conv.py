"""NetX type `conv`: convolutions, and the operators that are depthwise convolutions with one weight per channel."""

from __future__ import annotations

from typing import Any, ClassVar

import h5py
import numpy as np
import numpy.typing as npt

from fastsnn_deploy.formats.netx.fields import Fields, put_numbers, put_type
from fastsnn_deploy.formats.netx.synapses.base import SynapseCodec, mantissa, put_weight
from fastsnn_deploy.graph import Conv2d, Identity, SumPool2d, Synapse


class ConvCodec(SynapseCodec):
    """Operator `conv2d`."""

    layer_type = "conv"
    operator = "conv2d"
    node_type: ClassVar[type[Synapse]] = Conv2d

    def write(self, group: h5py.Group, synapse: Synapse) -> None:
        conv = synapse.as_primitive()
        assert isinstance(conv, Conv2d)  # every operator of this file is one
        put_type(group, self.layer_type)
        put_numbers(group, "shape", conv.shape)
        put_weight(group, conv)
        for key in ("stride", "padding", "dilation"):
            put_numbers(group, key, getattr(conv, key))
        put_numbers(group, "groups", conv.groups)
        put_numbers(group, "kernelSize", conv.kernel)
        put_numbers(group, "inChannels", conv.weight.shape[1] * conv.groups)
        put_numbers(group, "outChannels", conv.channels)

    def check(self, group: Fields, synapse: Synapse) -> None:
        super().check(group, synapse)
        conv = synapse.as_primitive()
        for key in ("stride", "padding", "dilation"):
            if group.pair(key) != getattr(conv, key):
                raise group.wrong(key, group.pair(key), f"{getattr(conv, key)} for operator '{self.operator}'")

    def read(self, group: Fields, fields: dict[str, Any]) -> Synapse:
        return Conv2d(
            **fields,
            weight=mantissa(group, fields["exponent"], 4),
            stride=group.pair("stride"),
            padding=group.pair("padding"),
            dilation=group.pair("dilation"),
            groups=group.integer("groups"),
        )


class IdentityCodec(ConvCodec):
    """Operator `identity`: a depthwise 1 x 1 convolution."""

    operator = "identity"
    node_type = Identity

    def read(self, group: Fields, fields: dict[str, Any]) -> Synapse:
        return Identity(**fields, weight=_per_channel(group, mantissa(group, fields["exponent"], 4)))


class SumPoolCodec(ConvCodec):
    """Operator `sum_pool`: a depthwise convolution whose kernel holds one value per channel."""

    operator = "sum_pool"
    node_type = SumPool2d

    def read(self, group: Fields, fields: dict[str, Any]) -> Synapse:
        kernel = mantissa(group, fields["exponent"], 4)
        return SumPool2d(
            **fields,
            weight=_per_channel(group, kernel),
            kernel=(int(kernel.shape[2]), int(kernel.shape[3])),
            stride=group.pair("stride"),
            padding=group.pair("padding"),
        )


def _per_channel(group: Fields, kernel: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    weight = kernel[:, 0, 0, 0]
    if kernel.shape[1] != 1 or group.integer("groups") != len(kernel) or (kernel != weight[:, None, None, None]).any():
        raise group.wrong("weight", f"of shape {kernel.shape}", "depthwise with one value for each channel")
    return weight
