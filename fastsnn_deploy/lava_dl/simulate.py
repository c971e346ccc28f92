"""Integer simulation of stock networks, bit for bit what Lava 0.10.0 computes with its fixed-point CPU models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.lava_dl import neurons
from fastsnn_deploy.lava_dl.limits import ACTIVATION_LIMIT, BIAS_MAX_LAVA, MESSAGE_BITS, THRESHOLD_MAX
from fastsnn_deploy.lava_dl.network import (
    Lif,
    Neuron,
    Sdnn,
    StockConv,
    StockDense,
    StockFlatten,
    StockInput,
    StockLayer,
    StockNetwork,
)
from fastsnn_deploy.lava_dl.neurons import Series
from fastsnn_deploy.lava_dl.rules import check
from fastsnn_deploy.lava_dl.synapses import at_once, delayed

Int32 = npt.NDArray[np.int32]

ACCUMULATOR = Lif(threshold=THRESHOLD_MAX + 1, i_decay=0)
"""The neuron that lava-dl gives to a dense layer without one: its u accumulates, it never fires (netx/hdf5.py:350)."""


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
    last = len(network.layers) - 1
    recorded = [
        series if record == "all" or index == last else None
        for index, series in enumerate(layer_series(network, frames, steps, reset=reset))
    ]
    return StockRun(
        spikes=tuple(series and series.messages for series in recorded),
        potentials=tuple(series and series.state for series in recorded),
        currents=tuple(series and series.current for series in recorded),
    )


def layer_series(
    network: StockNetwork, frames: npt.NDArray[np.integer], steps: int, *, reset: Reset | None = None
) -> Iterator[Series]:
    """What `run` records, one layer after the other, so that no more than two need to be in memory."""
    check(network)
    messages = _frames(network, frames, steps)
    position = 0
    for index, layer in enumerate(network.layers):
        series = _layer(layer, messages, message_bits(network, index), _resets(reset, position, steps), delayed)
        position += isinstance(layer, (StockConv, StockDense)) or getattr(layer, "neuron", None) is not None
        messages = series.messages
        yield series


def inferences(network: StockNetwork, frames: npt.NDArray[np.integer]) -> Iterator[Series]:
    """One inference for each frame of a network that forgets, layer after layer, T = 1.

    frames: integers [N, *input shape]. Layer k gives what it would in step t + k for a frame of step t, whatever
    enters before and after. Raises InputError for a network with memory, else as `run`.
    """
    check(network)
    if not network.forgets:
        raise InputError("the network has neurons with memory: a step is no inference of its own. Use `run`")
    messages = _frames(network, frames[None], 1)
    for index, layer in enumerate(network.layers):
        series = _layer(layer, messages, message_bits(network, index), _resets(None, 0, 1), at_once)
        messages = series.messages
        yield series


def message_bits(network: StockNetwork, index: int) -> int:
    """Payload bits of what layer `index` receives; 0 if every message that is not 0 counts as 1 (hdf5.py:135-160)."""
    before = [layer for layer in network.layers[:index] if not isinstance(layer, StockFlatten)]
    if len(before) > 1 or (before and getattr(before[0], "neuron", None) is not None):
        return MESSAGE_BITS if isinstance(getattr(before[-1], "neuron", None), Sdnn) else 0
    return network.input_message_bits


Receive = Callable[[StockConv | StockDense, Int32], Int32]


def _layer(layer: StockLayer, messages: Int32, bits: int, resets: npt.NDArray[np.bool_], receive: Receive) -> Series:
    """One layer over all steps. bits: see `message_bits`. receive: when synaptic input arrives."""
    if isinstance(layer, StockInput):
        return _input(layer, messages, resets)
    if not isinstance(layer, (StockConv, StockDense)):
        return Series(messages.reshape(*messages.shape[:2], *layer.shape))
    synaptic_input = receive(layer, messages if bits else (messages != 0).astype(np.int32))
    bias = np.zeros(layer.shape[0], dtype=np.int32) if layer.bias is None else layer.bias.astype(np.int32)
    bias = bias.reshape(-1, *(1,) * (len(layer.shape) - 1))
    return _neuron(layer.neuron or ACCUMULATOR, synaptic_input, bias, resets)


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
    limit = 2**31 if neuron is None else BIAS_MAX_LAVA + 1 if isinstance(neuron, Lif) else ACTIVATION_LIMIT
    if frames.size and not -limit <= frames.min() <= frames.max() < limit:
        raise InputError(f"frames span [{frames.min()}, {frames.max()}], outside [{-limit}, {limit})")
    result = np.zeros((steps, *frames.shape[1:]), dtype=np.int32)
    result[: len(frames)] = frames[:steps]
    return result
