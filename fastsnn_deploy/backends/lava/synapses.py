"""Lava processes for synapses. Imports Lava, so only the job imports this."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.utils.weightutils import SignMode

from fastsnn_deploy.backends.lava.processes.upsample import NearestUpsample
from fastsnn_deploy.errors import BackendError
from fastsnn_deploy.graph import Conv2d, Linear, Synapse, Upsample
from fastsnn_deploy.lava_dl.limits import INT8_MAX

MESSAGE_BITS = 24
"""Stock synapses read spikes as booleans when this is 0, so -1 would count as 1."""

Wire = Callable[[], Any]
"""A fresh output port, possibly with its axes rearranged; a port may connect to one input port only once."""


def connect_synapse(synapse: Synapse, source: tuple[int, ...], wires: list[Wire], target: Any, models: str) -> None:
    """Build the processes of a synapse with a delay of one step, from `wires` to the input port `target`.

    source: shape of the spikes, (C, H, W) or (N,). Raises BackendError for what the stock model cannot compute.
    """
    primitive = synapse.as_primitive()
    if isinstance(primitive, Conv2d):
        _conv(primitive, source, wires, target, models)
    elif isinstance(primitive, Linear):
        _linear(primitive, wires, target)
    elif isinstance(primitive, Upsample):
        process = NearestUpsample(
            shape=source[::-1], weight=primitive.effective_weight.astype(np.int32), factor=primitive.factor[::-1]
        )
        join(wires, process.s_in)
        process.a_out.connect(target)
    else:
        raise BackendError(f"{type(synapse).__name__} '{synapse.name}' has no Lava process")


def join(wires: list[Wire], port: Any) -> None:
    """Connect every wire to an input port, which adds them."""
    for wire in wires:
        wire().connect(port)


def _conv(conv: Conv2d, source: tuple[int, ...], wires: list[Wire], target: Any, models: str) -> None:
    values = (*conv.kernel, *conv.stride, *conv.padding, *conv.dilation, conv.groups)
    if models == "stock" and max(values) > INT8_MAX:
        raise BackendError(
            f"synapse '{conv.name}': stock Lava's Conv model stores kernel, stride, padding, dilation and groups in "
            f"8 bits, {max(values)} does not fit and would give zeros. Use models='fast'"
        )
    pixel = len(source) == 1  # an identity between vectors is a convolution of one pixel
    process = Conv(
        # OIHW correlation -> O, W, H, I convolution
        weight=conv.effective_weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1).astype(np.int32),
        input_shape=(1, 1, *source) if pixel else source[::-1],
        stride=conv.stride[::-1],
        padding=conv.padding[::-1],
        dilation=conv.dilation[::-1],
        groups=conv.groups,
        num_message_bits=MESSAGE_BITS,
    )
    for wire in wires:
        port = wire()
        (port.reshape((1, 1, *source)) if pixel else port).connect(process.s_in)
    (process.a_out.reshape(target.shape) if pixel else process.a_out).connect(target)


def _linear(linear: Linear, wires: list[Wire], target: Any) -> None:
    """One Dense process for each weight exponent, zero in the rows of the others; their synaptic inputs add.

    In sign mode MIXED Lava keeps even weights of 9 bits, so the mantissa is doubled and the exponent lowered by
    one: exact for every 8-bit mantissa.
    """
    for exponent in np.unique(linear.exponent):
        rows = linear.exponent == exponent
        process = Dense(
            weights=2 * linear.weight.astype(np.int32) * rows[:, None],
            weight_exp=int(exponent) - 1,
            num_weight_bits=8,
            sign_mode=SignMode.MIXED,
            num_message_bits=MESSAGE_BITS,
        )
        join(wires, process.s_in)
        process.a_out.connect(target)
