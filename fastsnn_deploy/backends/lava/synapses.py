"""Lava processes for synapses. Imports Lava, so only the job imports this."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.utils.weightutils import SignMode

from fastsnn_deploy.backends.lava.processes.spread import Spread
from fastsnn_deploy.backends.lava.processes.upsample import NearestUpsample
from fastsnn_deploy.errors import BackendError
from fastsnn_deploy.graph import Conv2d, ConvTranspose2d, Linear, Synapse, Upsample
from fastsnn_deploy.lava_dl.limits import INT8_MAX

MESSAGE_BITS = 24
"""Stock synapses read spikes as booleans when this is 0, so -1 would count as 1."""

Wire = Callable[[], Any]
"""A fresh output port, possibly with its axes rearranged; a port may connect to one input port only once."""


def connect_synapse(synapse: Synapse, source: tuple[int, ...], wires: list[Wire], target: Any, models: str) -> None:
    """Build the processes of a synapse with a delay of one step, from `wires` to the input port `target`.

    source: shape of the spikes, (C, H, W) or (N,). Raises BackendError for what the stock model cannot compute.
    """
    form = synapse if type(synapse) in CONNECT else synapse.as_primitive()
    CONNECT[type(form)](form, source, wires, target, models)


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


def _linear(linear: Linear, source: tuple[int, ...], wires: list[Wire], target: Any, models: str) -> None:
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


def _upsample(synapse: Upsample, source: tuple[int, ...], wires: list[Wire], target: Any, models: str) -> None:
    process = NearestUpsample(
        shape=source[::-1], weight=synapse.effective_weight.astype(np.int32), factor=synapse.factor[::-1]
    )
    join(wires, process.s_in)
    process.a_out.connect(target)


def _conv_transpose(
    conv: ConvTranspose2d, source: tuple[int, ...], wires: list[Wire], target: Any, models: str
) -> None:
    """Spikes put apart on an empty map, then a convolution with the flipped kernel and a stride of one."""
    before = [conv.dilation[i] * (conv.kernel[i] - 1) - conv.padding[i] for i in (0, 1)]
    size = [conv.shape[1 + i] + conv.dilation[i] * (conv.kernel[i] - 1) for i in (0, 1)]
    spread = Spread(shape=source[::-1], size=tuple(size[::-1]), first=tuple(before[::-1]), step=conv.stride[::-1])
    join(wires, spread.s_in)
    flipped = Conv2d(
        name=conv.name, shape=conv.shape, weight=conv.weight[:, :, ::-1, ::-1], exponent=conv.exponent,
        dilation=conv.dilation, groups=conv.groups,
    )  # fmt: skip
    _conv(flipped, (source[0], *size), [lambda: spread.s_out], target, models)


CONNECT: dict[type[Synapse], Callable[[Any, tuple[int, ...], list[Wire], Any, str], None]] = {
    Conv2d: _conv, Linear: _linear, Upsample: _upsample, ConvTranspose2d: _conv_transpose
}  # fmt: skip
"""How each synapse type is built; others through their primitive form."""
