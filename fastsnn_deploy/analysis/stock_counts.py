"""Counts of a stock network: neurons, synapses, spikes and synaptic operations, zero weights left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.lava_dl import (
    Sdnn,
    StockConv,
    StockDense,
    StockFlatten,
    StockInput,
    StockLayer,
    StockNetwork,
    StockRun,
)

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StockCounts:
    """Sums over a stream of frames. neurons, synapses: of the network; synapses with weight 0 are not counted.

    spikes: everything sent, the input included. synaptic_operations: for each message the synapses that it reaches,
    whatever its payload.
    """

    neurons: int
    synapses: int
    parameters: int
    spikes: int
    synaptic_operations: int


def count_stock(network: StockNetwork, frames: Int64, run: StockRun) -> StockCounts:
    """Count what F frames that enter in successive steps cause in a network of memoryless or sigma-delta neurons.

    frames: int [F, N, *input shape]; run: `stock.run(network, frames, F + number of layers with weights)`. A frame is
    in layer k in step frame + k, and only that counts: neurons that fire without input do so in every step, and each
    step is an inference of its own. Sigma-delta neurons send changes, so there all steps of the run count, of the
    input as well; the sum that a Sigma output reports in every step is no message.
    """
    spikes = _entering(network, frames, run)
    neurons = synapses = parameters = sent = operations = 0
    sent += int(np.count_nonzero(spikes))
    number = 0
    for index, layer in enumerate(network.layers):
        if isinstance(layer, StockFlatten):
            spikes = spikes.reshape(*spikes.shape[:2], -1)
        if not isinstance(layer, (StockConv, StockDense)):
            continue
        number += 1
        fan = fan_out(layer, spikes.shape[2:])
        synapses += int(fan.sum())
        parameters += int(np.count_nonzero(layer.weight))
        neurons += int(np.prod(layer.shape))
        operations += int(((spikes != 0).sum((0, 1)) * fan).sum())
        series = run.spikes[index]
        if series is not None and not _reports(layer):
            spikes = series if isinstance(layer.neuron, Sdnn) else series[number : number + len(frames)]
            sent += int(np.count_nonzero(spikes))
    return StockCounts(neurons, synapses, parameters, sent, operations)


def _entering(network: StockNetwork, frames: Int64, run: StockRun) -> npt.NDArray[np.integer]:
    """What the first layer with weights receives: the frames, or what a Delta sends of them."""
    first, series = network.layers[0], run.spikes[0]
    if isinstance(first, StockInput) and isinstance(first.neuron, Sdnn) and series is not None:
        return series
    return np.asarray(frames)


def _reports(layer: StockLayer) -> bool:
    neuron = getattr(layer, "neuron", None)
    return isinstance(neuron, Sdnn) and neuron.sigma_output


def fan_out(layer: StockConv | StockDense, source: tuple[int, ...]) -> Int64:
    """Synapses of nonzero weight that leave each source neuron, borders exact: int64 of shape `source`."""
    if isinstance(layer, StockDense):
        return np.asarray(np.count_nonzero(layer.weight, axis=0), dtype=np.int64)
    outputs, per_group, height, width = layer.weight.shape
    used = (layer.weight != 0).reshape(layer.groups, outputs // layer.groups, per_group, height, width)
    taps = used.sum(1).reshape(-1, height, width)  # [I, kh, kw]
    rows = np.stack([_reached(layer, 0, tap, source[1]) for tap in range(height)])
    columns = np.stack([_reached(layer, 1, tap, source[2]) for tap in range(width)])
    return np.asarray(np.einsum("ckl,kh,lw->chw", taps, rows, columns), dtype=np.int64)


def _reached(layer: StockConv, axis: int, tap: int, size: int) -> Int64:
    """How many outputs read each position through one tap of one axis: int64 [size], 0 or 1."""
    outputs = np.arange(layer.shape[1 + axis])
    positions = outputs * layer.stride[axis] - layer.padding[axis] + tap * layer.dilation[axis]
    hits = np.zeros(size, dtype=np.int64)
    hits[positions[(positions >= 0) & (positions < size)]] = 1
    return hits
