"""What a synapse codec is, and its weights: mantissas under NetX's key, exponents in the extension."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import h5py
import numpy as np
import numpy.typing as npt

from fastsnn_deploy.formats.netx.codec import Numbering, identity, put_identity
from fastsnn_deploy.formats.netx.fields import Fields, put_mantissas, put_numbers, put_text
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
    """NetX's `weight`, of mantissas: where exponents are 0, as in all that stock lava-dl loads, the integers."""
    put_mantissas(group, "weight", synapse.weight)


def mantissa(group: Fields, exponent: npt.NDArray[np.int64], dimensions: int) -> npt.NDArray[np.int8]:
    """int8 weights from NetX's `weight`, one row for each exponent."""
    found = group.mantissas("weight")
    if found.ndim != dimensions or found.shape[0] != len(exponent) or not found.size:
        raise group.wrong("weight", f"of shape {found.shape}", f"{dimensions}-D with {len(exponent)} rows")
    found.flags.writeable = False  # the synapse keeps it without a copy
    return found
