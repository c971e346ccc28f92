"""What stock Lava and the chip can hold: one function, one sentence, all broken rules reported together.

Stock lava-dl and Lava break most of these silently (they wrap, clip or give zeros), so nothing is exported that
breaks one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import GraphError, Problem
from fastsnn_deploy.graph.ranges import STATE_MAX
from fastsnn_deploy.lava_dl import Lif, StockConv, StockDense, StockInput, StockLayer, StockNetwork
from fastsnn_deploy.lava_dl import problems_of as stock_problems
from fastsnn_deploy.lava_dl.limits import (
    BIAS_MAX,
    BIAS_MIN,
    CURRENT_MAX,
    DECAY_UNITY,
    DELAY_MAX,
    INT8_MAX,
    THRESHOLD_MAX,
    WEIGHT_MAX,
    WEIGHT_MAX_EXCITATORY,
    WEIGHT_MIN_STOCK,
)

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Site:
    """One layer with weights: where it is, and the range of every input, int64 [I], zero included."""

    where: str
    layer: StockConv | StockDense
    low: Int64
    high: Int64


Rule = Callable[[Site], Iterator[str]]


def problems_of(network: StockNetwork, input_low: Int64, input_high: Int64) -> list[Problem]:
    """Every broken rule of every layer. input_low, input_high: int64 [C], range of the messages that enter."""
    problems = list(input_has_no_neuron(network)) + [p for layer in network.layers for p in layers_hold_neurons(layer)]
    if problems:
        return problems
    for site in _sites(network, input_low, input_high):
        fitting = [Problem(site.where, what) for what in shapes_fit(site)]
        rules: tuple[Rule, ...] = () if fitting else RULES
        problems += fitting + [Problem(site.where, what) for rule in rules for what in rule(site)]
    return problems or stock_problems(network)


def require_stock(network: StockNetwork, input_low: Int64, input_high: Int64) -> None:
    """Raise GraphError with every broken rule (see `problems_of`)."""
    problems = problems_of(network, input_low, input_high)
    if problems:
        raise GraphError("stock Lava cannot hold this network", problems)


def _sites(network: StockNetwork, input_low: Int64, input_high: Int64) -> Iterator[Site]:
    low, high = np.minimum(input_low, 0), np.maximum(input_high, 0)
    for index, layer in enumerate(network.layers):
        if isinstance(layer, (StockConv, StockDense)):
            inputs = layer.weight.shape[1] * getattr(layer, "groups", 1)
            each = max(inputs // len(low), 1)  # a flattened map repeats each channel's range
            where = f"layer {index}" + (f" ('{layer.name}')" if layer.name else "")
            yield Site(where, layer, low.repeat(each), high.repeat(each))
            # what leaves a LIF neuron is a spike or nothing
            low, high = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64)


def input_has_no_neuron(network: StockNetwork) -> Iterator[Problem]:
    """The first layer is an input without a neuron, whose messages go straight to the first weights."""
    first = network.layers[0] if network.layers else None
    if not isinstance(first, StockInput) or first.neuron is not None:
        yield Problem("layer 0", _said(input_has_no_neuron))


def layers_hold_neurons(layer: StockLayer) -> Iterator[Problem]:
    """Every layer has at least one neuron."""
    if min(layer.shape, default=0) < 1:
        yield Problem(f"layer '{layer.name}'", f"shape {layer.shape}: {_said(layers_hold_neurons)}")


def shapes_fit(site: Site) -> Iterator[str]:
    """Weights are [O, I, kh, kw] or [O, I], and a bias has one integer for each output."""
    layer = site.layer
    dimensions = 4 if isinstance(layer, StockConv) else 2
    if layer.weight.ndim != dimensions or layer.weight.shape[0] != layer.shape[0]:
        yield f"weight {layer.weight.shape}: {_said(shapes_fit)}"
    elif layer.bias is not None and layer.bias.shape != (layer.shape[0],):
        yield f"bias {layer.bias.shape}: {_said(shapes_fit)}"


def weights_fit(site: Site) -> Iterator[str]:
    """Weights lie in -128..127; a dense layer without negative weights may go to 255."""
    weight = site.layer.weight
    low, high = int(weight.min(initial=0)), int(weight.max(initial=0))
    excitatory = isinstance(site.layer, StockDense) and low == 0
    if low < WEIGHT_MIN_STOCK or high > (WEIGHT_MAX_EXCITATORY if excitatory else WEIGHT_MAX):
        yield f"weights span [{low}, {high}]: {_said(weights_fit)}"


def a_weight_is_positive(site: Site) -> Iterator[str]:
    """A dense layer has a positive weight; without one, stock lava-dl fails to load it or changes its weights."""
    if isinstance(site.layer, StockDense) and site.layer.weight.max(initial=0) <= 0:
        yield _said(a_weight_is_positive)


def groups_fit(site: Site) -> Iterator[str]:
    """A convolution has at most 127 groups; with more, stock Lava computes zeros."""
    if isinstance(site.layer, StockConv) and site.layer.groups > INT8_MAX:
        yield f"{site.layer.groups} groups: {_said(groups_fit)}"


def windows_fit(site: Site) -> Iterator[str]:
    """Kernel, stride, padding and dilation of a convolution are at most 127."""
    layer = site.layer
    if isinstance(layer, StockConv):
        sizes = (*layer.weight.shape[2:], *layer.stride, *layer.padding, *layer.dilation)
        if max(sizes) > INT8_MAX:
            yield f"a window has {max(sizes)}: {_said(windows_fit)}"


def neurons_forget(site: Site) -> Iterator[str]:
    """Every layer has LIF neurons with full decay (4096) of current and voltage."""
    neuron = site.layer.neuron
    if not isinstance(neuron, Lif) or (neuron.i_decay, neuron.v_decay) != (DECAY_UNITY, DECAY_UNITY):
        yield f"{neuron}: {_said(neurons_forget)}"


def thresholds_fit(site: Site) -> Iterator[str]:
    """Thresholds lie in 0..131071 (17 bits)."""
    if isinstance(site.layer.neuron, Lif) and not 0 <= site.layer.neuron.threshold <= THRESHOLD_MAX:
        yield f"threshold {site.layer.neuron.threshold}: {_said(thresholds_fit)}"


def biases_fit(site: Site) -> Iterator[str]:
    """Biases lie in -4096..4095 (13 bits)."""
    bias = site.layer.bias
    if bias is not None and (bias.min() < BIAS_MIN or bias.max() > BIAS_MAX):
        yield f"biases span [{bias.min()}, {bias.max()}]: {_said(biases_fit)}"


def inputs_fit(site: Site) -> Iterator[str]:
    """The synaptic input of a neuron, alone and with its bias, stays within 131071 in magnitude; beyond, stock LIF
    wraps."""
    low, high = input_range(site)
    bias = np.zeros(1, dtype=np.int64) if site.layer.bias is None else site.layer.bias
    reach = int(np.max(np.maximum(np.maximum(high, high + bias), -np.minimum(low, low + bias)), initial=0))
    if reach > CURRENT_MAX:
        yield f"a synaptic input may reach {reach}: {_said(inputs_fit)}"


def sums_fit(site: Site) -> Iterator[str]:
    """The sum of all positive, and of all negative contributions to a neuron stays within 24 signed bits."""
    low, high = input_range(site)
    reach = int(max(high.max(initial=0), -low.min(initial=0)))
    if reach > STATE_MAX:
        yield f"a sum may reach {reach}: {_said(sums_fit)}"


def delays_fit(site: Site) -> Iterator[str]:
    """Delays lie in 0..62 steps."""
    delay = site.layer.delay if isinstance(site.layer, StockDense) else None
    if delay is not None and (delay.min() < 0 or delay.max() > DELAY_MAX):
        yield f"delays span [{delay.min()}, {delay.max()}]: {_said(delays_fit)}"


RULES: tuple[Rule, ...] = (
    weights_fit,
    a_weight_is_positive,
    groups_fit,
    windows_fit,
    neurons_forget,
    thresholds_fit,
    biases_fit,
    inputs_fit,
    sums_fit,
    delays_fit,
)


def input_range(site: Site) -> tuple[Int64, Int64]:
    """Least and greatest synaptic input of every output channel, whatever enters: two int64 [O]."""
    outputs, per_group = site.layer.weight.shape[:2]
    groups = site.layer.groups if isinstance(site.layer, StockConv) else 1
    channel = np.arange(outputs) // max(outputs // groups, 1) * per_group
    read = channel[:, None] + np.arange(per_group)
    positive = np.maximum(site.layer.weight, 0).reshape(outputs, per_group, -1).sum(2)
    negative = np.minimum(site.layer.weight, 0).reshape(outputs, per_group, -1).sum(2)
    low, high = site.low[read], site.high[read]
    return (positive * low + negative * high).sum(1), (positive * high + negative * low).sum(1)


def _said(rule: Callable[..., object]) -> str:
    return (rule.__doc__ or "").strip()
