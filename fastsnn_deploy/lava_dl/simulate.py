"""Integer simulation of stock networks, bit for bit what Lava 0.10.0 computes with its fixed-point CPU models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.lava_dl import neurons
from fastsnn_deploy.lava_dl.network import (
    Lif,
    Neuron,
    Sdnn,
    StockConv,
    StockDense,
    StockInput,
    StockLayer,
    StockNetwork,
)
from fastsnn_deploy.lava_dl.neurons import Series
from fastsnn_deploy.lava_dl.rules import check
from fastsnn_deploy.lava_dl.synapses import conv_input, dense_input

Int32 = npt.NDArray[np.int32]

ACCUMULATOR = Lif(threshold=2**17, i_decay=0, v_decay=4096)
"""The neuron that lava-dl gives to a dense layer without one: its u accumulates, it never fires (netx/hdf5.py:350)."""

SDNN_MESSAGE_BITS = 16
"""Message bits after an SDNN layer; after a LIF layer messages are binary (netx/hdf5.py:135-160)."""


@dataclass(frozen=True)
class Reset:
    """`Network(reset_interval=interval, reset_offset=offset)` of lava-dl.

    Layer k of those that have a process (from 0) starts from rest in the steps t = 1, 2, ... with
    t % interval == (offset + 1 + k) % interval (netx/hdf5.py:585, lif/models.py:434). SDNN layers never reset.
    """

    interval: int
    offset: int = 0


@dataclass(frozen=True)
class StockRun:
    """Series of each layer of the network, in its order, int32 [T, N, *shape]; None where it has none.

    spikes: messages sent in each step. potentials: v of LIF after its reset, in 1/64 of a weight; in sigma-delta
    networks activation (input) or sigma, in 1/4096 of an activation unit. currents: u of LIF.
    """

    spikes: tuple[Int32 | None, ...]
    potentials: tuple[Int32 | None, ...]
    currents: tuple[Int32 | None, ...]


def run(
    network: StockNetwork,
    frames: npt.NDArray[np.integer],
    steps: int,
    *,
    reset: Reset | None = None,
    record: Literal["all", "outputs"] = "all",
) -> StockRun:
    """Simulate a batch.

    frames: integers [T', N, *input shape], one for each step, zeros after the last. Without an input neuron they are
    the messages sent; with one they are its biases (Lif, 16 bits) or activations (Sdnn). steps: T. record: 'outputs'
    keeps the last layer only. Raises InputError for a network that stock lava-dl does not run as written
    (`rules.problems_of`), for frames of a wrong shape or dtype, and for synaptic inputs beyond 32 bits.
    """
    check(network)
    messages, bits = _frames(network, frames, steps), network.input_message_bits
    recorded: list[Series | None] = []
    position = 0
    for index, layer in enumerate(network.layers):
        series = _layer(layer, messages, bits, _resets(reset, position, steps))
        neuron = getattr(layer, "neuron", None)
        if isinstance(layer, (StockConv, StockDense)) or neuron is not None:
            position += 1
            bits = SDNN_MESSAGE_BITS if isinstance(neuron, Sdnn) else 0
        messages = series.messages
        recorded.append(series if record == "all" or index == len(network.layers) - 1 else None)
    return StockRun(
        spikes=tuple(series and series.messages for series in recorded),
        potentials=tuple(series and series.state for series in recorded),
        currents=tuple(series and series.current for series in recorded),
    )


def _layer(layer: StockLayer, messages: Int32, bits: int, resets: npt.NDArray[np.bool_]) -> Series:
    """One layer over all steps. bits: of the messages; 0 turns every message that is not 0 into 1."""
    if isinstance(layer, StockInput):
        return _input(layer, messages, resets)
    if not isinstance(layer, (StockConv, StockDense)):
        return Series(messages.reshape(*messages.shape[:2], *layer.shape))
    received = messages if bits else (messages != 0).astype(np.int32)
    synaptic_input = conv_input(layer, received) if isinstance(layer, StockConv) else dense_input(layer, received)
    bias = np.zeros(layer.shape[0], dtype=np.int32) if layer.bias is None else layer.bias.astype(np.int32)
    return _neuron(
        layer.neuron or ACCUMULATOR, synaptic_input, bias.reshape(-1, *(1,) * (len(layer.shape) - 1)), resets
    )


def _input(layer: StockInput, data: Int32, resets: npt.NDArray[np.bool_]) -> Series:
    if layer.neuron is None:
        return Series(data)
    if isinstance(layer.neuron, Sdnn):
        return neurons.delta(data, layer.neuron.threshold)
    return neurons.lif(np.zeros_like(data), layer.neuron, data, resets)


def _neuron(neuron: Neuron, synaptic_input: Int32, bias: Int32, resets: npt.NDArray[np.bool_]) -> Series:
    if isinstance(neuron, Lif):
        return neurons.lif(synaptic_input, neuron, bias, resets)
    if neuron.sigma_output:
        return neurons.sigma(synaptic_input)
    return neurons.sigma_delta(synaptic_input, neuron.threshold, bias)


def _resets(reset: Reset | None, position: int, steps: int) -> npt.NDArray[np.bool_]:
    times = np.arange(1, steps + 1)
    if reset is None:
        return np.zeros(steps, dtype=np.bool_)
    if reset.interval < 1:
        raise InputError(f"reset interval {reset.interval} must be at least 1")
    return np.asarray(times % reset.interval == (reset.offset + 1 + position) % reset.interval)


def _frames(network: StockNetwork, frames: npt.NDArray[np.integer], steps: int) -> Int32:
    layer = network.layers[0]
    frames = np.asarray(frames)
    if frames.dtype.kind not in "iub" or frames.ndim < 2 or frames.shape[2:] != layer.shape:
        raise InputError(
            f"frames are {frames.dtype} of shape {frames.shape}, must be integers [T, N, "
            f"{', '.join(map(str, layer.shape))}]"
        )
    if steps < 0:
        raise InputError(f"steps={steps} must not be negative")
    neuron = layer.neuron if isinstance(layer, StockInput) else None
    # bias_mant is int16, the activation of a Delta is shifted by 12 bits, messages are int32
    limit = 2**31 if neuron is None else 2**15 if isinstance(neuron, Lif) else 2**19
    if frames.size and not -limit <= frames.min() <= frames.max() < limit:
        raise InputError(f"frames span [{frames.min()}, {frames.max()}], outside [{-limit}, {limit})")
    result = np.zeros((steps, *frames.shape[1:]), dtype=np.int32)
    result[: len(frames)] = frames[:steps]
    return result
