"""What a synapse codec is, and the weights: NetX holds mantissa * 2**exponent, the extension the exponent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import h5py
import numpy as np
import numpy.typing as npt

from fastsnn_deploy.formats.netx.codec import Numbering, identity, put_identity
from fastsnn_deploy.formats.netx.fields import Fields, put_integers_as_float32, put_numbers, put_text
from fastsnn_deploy.graph import Synapse
from fastsnn_deploy.graph.synapses import MAX_EXPONENT


class SynapseCodec(ABC):
    """Writes one synapse type under NetX's keys and reads it back.

    layer_type: the NetX layer type. operator: the extension's name of the exact operator. node_type: what it writes.
    """

    layer_type: ClassVar[str]
    operator: ClassVar[str]
    node_type: ClassVar[type[Synapse]]

    @abstractmethod
    def write(self, group: h5py.Group, synapse: Any) -> None:
        """Fill `group` with NetX's keys."""

    @abstractmethod
    def read(self, group: Fields, fields: dict[str, Any]) -> Synapse:
        """The synapse; `fields` are those of `synapse_fields`."""

    def check(self, group: Fields, synapse: Synapse) -> None:
        """Raise InputError where NetX's keys disagree with the operator that the extension names."""
        shape = synapse.as_primitive().shape
        if group.shape() != shape:
            raise group.wrong("shape", group.shape(), f"{shape} for operator '{self.operator}'")


def put_synapse(extension: h5py.Group, operator: str, synapse: Synapse, numbering: Numbering) -> None:
    """The keys that NetX does not have."""
    put_identity(extension, synapse, numbering)
    put_text(extension, "operator", operator)
    put_numbers(extension, "source", numbering.layer[synapse.inputs[0]])
    put_numbers(extension, "delay", synapse.delay)
    put_numbers(extension, "weight_exponent", synapse.exponent)


def synapse_fields(extension: Fields, shape: tuple[int, ...], names: Sequence[str]) -> dict[str, Any]:
    """Inverse of `put_synapse`: every field of a synapse but its weight and window."""
    exponent = extension.channels("weight_exponent", shape[0])
    if exponent.min() < 0 or exponent.max() > MAX_EXPONENT:
        raise extension.wrong("weight_exponent", f"[{exponent.min()}, {exponent.max()}]", f"in [0, {MAX_EXPONENT}]")
    source = extension.reference(extension.integer("source"), "source", names)
    delay = extension.integer("delay")
    return identity(extension) | {"inputs": (source,), "shape": shape, "delay": delay, "exponent": exponent}


def put_weight(group: h5py.Group, synapse: Synapse) -> None:
    """NetX's float32 `weight`: the effective integers."""
    put_integers_as_float32(group, "weight", synapse.effective_weight)


def mantissa(group: Fields, exponent: npt.NDArray[np.int64], dimensions: int) -> npt.NDArray[np.int8]:
    """int8 weights from NetX's `weight`. Raises InputError unless every one is mantissa * 2**exponent."""
    effective = group.whole("weight")
    if effective.ndim != dimensions or effective.shape[0] != len(exponent) or not effective.size:
        raise group.wrong("weight", f"of shape {effective.shape}", f"{dimensions}-D with {len(exponent)} rows")
    shift = exponent.reshape((-1,) + (1,) * (dimensions - 1))
    small = effective >> shift
    bad = (small << shift != effective) | (np.abs(small + 0.5) > 128)
    if bad.any():
        at = tuple(map(int, np.argwhere(bad)[0]))
        raise group.wrong("weight", f"{effective[at]} at {at}", f"an 8-bit integer times 2**{exponent[at[0]]}")
    return small.astype(np.int8)
