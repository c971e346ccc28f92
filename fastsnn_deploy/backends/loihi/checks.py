"""Limits of Loihi 2 that the public software does not enforce, as rules on a stock network.

Lava's CPU models accept more than the chip. Every limit is checked here before a run, since nothing is known about
what the closed compiler does beyond them. Sources: Lava 0.10.0 (lif/models.py, conv/models.py, dense/models.py,
weightutils.py), lava-dl 0.6.0 (netx/hdf5.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.lava_dl import Lif, StockConv, StockDense, StockInput, StockLayer, StockNetwork, rules
from fastsnn_deploy.lava_dl.limits import (
    BIAS_MAX,
    BIAS_MIN,
    CURRENT_MAX,
    MESSAGE_BITS,
    THRESHOLD_MAX,
    WEIGHT_MAX,
    WEIGHT_MAX_EXCITATORY,
    WEIGHT_MIN_STOCK,
)

Int64 = npt.NDArray[np.int64]

PAYLOAD_MAX_BITS = 32
"""Greatest payload of a graded spike (Intel, Loihi 2 technology brief)."""


def check(network: StockNetwork, low: int | None = None, high: int | None = None) -> None:
    """Raise InputError with every limit that the network breaks (`problems_of`)."""
    problems = problems_of(network, low, high)
    if problems:
        raise InputError("Loihi 2 cannot run this network as written", problems)


def problems_of(network: StockNetwork, low: int | None = None, high: int | None = None) -> list[Problem]:
    """Every limit of stock Lava (`stock.problems_of`) or of the chip that the network breaks; empty if none.

    low, high: least and greatest message that enters; default 0 and what `input_message_bits` can hold.
    """
    problems = list(rules.problems_of(network))
    if problems:
        return problems
    if network.input_message_bits > PAYLOAD_MAX_BITS:
        what = f"input messages of {network.input_message_bits} bits exceed {PAYLOAD_MAX_BITS}"
        problems.append(Problem("network", what, "Use a coarser input"))
    received = (min(low or 0, 0), max(2**network.input_message_bits - 1 if high is None else high, 1))
    if not network.input_message_bits:
        received = (0, 1)  # Lava turns every message into a spike
    for index, layer in enumerate(network.layers):
        where = f"layer {index}" + (f" ('{layer.name}')" if layer.name else "")
        problems += [Problem(where, what, fix) for what, fix in _layer_problems(layer, received)]
        neuron = layer.neuron if isinstance(layer, (StockConv, StockDense, StockInput)) else None
        if neuron is not None:
            received = (0, 1) if isinstance(neuron, Lif) else (-(2 ** (MESSAGE_BITS - 1)), 2 ** (MESSAGE_BITS - 1) - 1)
    return problems


def _layer_problems(layer: StockLayer, received: tuple[int, int]) -> Iterator[tuple[str, str]]:
    """What is wrong and what to do. received: least and greatest message from one source in one step."""
    if not isinstance(layer, (StockConv, StockDense)):
        return
    if not _fits_weight(layer.weight):
        span = f"[{layer.weight.min()}, {layer.weight.max()}]"
        yield f"weights span {span}, beyond 8 bits", "Use -128..127, or even weights of -256..254"
    if layer.bias is not None and layer.bias.size and (layer.bias.min() < BIAS_MIN or layer.bias.max() > BIAS_MAX):
        span = f"[{layer.bias.min()}, {layer.bias.max()}]"
        yield (
            f"biases span {span}, beyond 13 bits ({BIAS_MIN}..{BIAS_MAX})",
            "Scale the layer down, or center its biases",
        )
    if isinstance(layer.neuron, Lif):
        if not 0 <= layer.neuron.threshold <= THRESHOLD_MAX:
            yield f"threshold {layer.neuron.threshold} is not in 0..{THRESHOLD_MAX} (17 bits)", "Scale the layer"
        synaptic_input = _greatest_input(layer.weight, *received)
        if synaptic_input > CURRENT_MAX:
            yield (
                f"the synaptic input of one step may reach {synaptic_input}, beyond {CURRENT_MAX}, where u wraps",
                "Use smaller weights",
            )


def _fits_weight(weight: Int64) -> bool:
    """8 bits with a sign mode: signed, of one sign, or even and signed (weightutils.py)."""
    low, high = int(weight.min()), int(weight.max())
    even = not (weight % 2).any()
    one_sign = 0 <= low <= high <= WEIGHT_MAX_EXCITATORY or -WEIGHT_MAX_EXCITATORY <= low <= high <= 0
    signed = low >= WEIGHT_MIN_STOCK and high <= WEIGHT_MAX
    return one_sign or signed or (even and low >= 2 * WEIGHT_MIN_STOCK and high <= 2 * WEIGHT_MAX)


def _greatest_input(weight: Int64, low: int, high: int) -> int:
    """Greatest magnitude of the synaptic input of one step; every source sends at most one message of [low, high]."""
    rows = weight.reshape(len(weight), -1)
    positive, negative = np.clip(rows, 0, None).sum(1), np.clip(rows, None, 0).sum(1)
    return int(max((positive * high + negative * low).max(), -(positive * low + negative * high).min()))
