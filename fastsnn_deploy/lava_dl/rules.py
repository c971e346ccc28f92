"""What unmodified lava-dl 0.6.0 and Lava 0.10.0 compute as written, as rules on a stock network.

The stock software refuses little: it truncates, wraps and clips, or hangs. Whatever it would compute differently from
what the network says is a problem here. Limits of a chip beyond those of Lava's CPU models are not checked.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.graph.synapses.conv2d import output_size
from fastsnn_deploy.lava_dl.dense_weights import computed_weight
from fastsnn_deploy.lava_dl.limits import (
    ACTIVATION_LIMIT,
    BIAS_MAX_LAVA,
    DECAY_UNITY,
    DELAY_MAX,
    FLOAT32_EXACT,
    INT8_MAX,
    THRESHOLD_LIMIT,
)
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


def check(network: StockNetwork) -> None:
    """Raise InputError with every problem of the network."""
    problems = problems_of(network)
    if problems:
        raise InputError("stock lava-dl cannot run this network as written", problems)


def problems_of(network: StockNetwork) -> list[Problem]:
    """Every reason why the stock software would not compute what the network says; empty if there is none."""
    problems = list(_network_problems(network))
    source: tuple[int, ...] | None = None
    for index, layer in enumerate(network.layers):
        problems += [Problem(_at(index, layer), what) for what in _layer_problems(layer, source, first=index == 0)]
        source = layer.shape
    return problems


def _at(index: int, layer: StockLayer) -> str:
    return f"layer {index}" + (f" ('{layer.name}')" if layer.name else "")


def _network_problems(network: StockNetwork) -> Iterator[Problem]:
    layers = network.layers
    if not layers or not isinstance(layers[0], StockInput):
        yield Problem("layer 0", "is not an input")
    if not 0 <= network.input_message_bits <= 32:
        yield Problem("network", f"input_message_bits {network.input_message_bits} is not in 0..32")
    if not any(isinstance(layer, (StockConv, StockDense)) for layer in layers):
        yield Problem("network", "has no layer with weights")
    for index, (layer, after) in enumerate(zip(layers, (*layers[1:], None), strict=True)):
        if isinstance(layer, StockFlatten) and not isinstance(after, StockDense):
            yield Problem(_at(index, layer), "is a flatten without a dense layer after it")


def _layer_problems(layer: StockLayer, source: tuple[int, ...] | None, *, first: bool) -> Iterator[str]:
    if len(layer.shape) not in (1, 3) or min(layer.shape, default=0) < 1:
        yield f"shape {layer.shape} is not (C, H, W) or (N,) with positive sizes"
    elif isinstance(layer, StockInput):
        if not first:
            yield "is an input, but not the first layer"
        yield from _neuron_problems(layer.neuron)
        for name, value in (("weight", layer.weight), ("bias", layer.bias)):
            if value is not None and value.shape != (1,):
                yield f"{name} of the input has shape {value.shape}, must be (1,)"
    elif source is not None:
        if isinstance(layer, StockConv):
            yield from _conv_problems(layer, source)
        elif isinstance(layer, StockDense):
            yield from _dense_problems(layer, source)
        elif len(source) != 3 or layer.shape != (int(np.prod(source)),):
            yield f"flattens {source} to {layer.shape}"


def _conv_problems(layer: StockConv, source: tuple[int, ...]) -> Iterator[str]:
    weight, groups = layer.weight, layer.groups
    if weight.ndim != 4 or 0 in weight.shape:
        yield f"weight of shape {weight.shape} is not [O, I / groups, kh, kw]"
        return
    geometry = (*weight.shape[2:], *layer.stride, *layer.padding, *layer.dilation, groups)
    if max(geometry) > INT8_MAX:
        yield f"kernel, stride, padding, dilation and groups {geometry} exceed {INT8_MAX}, beyond which Lava wraps them"
    if min(*layer.stride, *layer.dilation, groups) < 1 or min(layer.padding) < 0:
        steps = f"stride {layer.stride}, dilation {layer.dilation}, padding {layer.padding}"
        yield f"{steps} or groups {groups} is too small"
    elif len(source) != 3 or source[0] != weight.shape[1] * groups or weight.shape[0] % groups:
        yield f"weight of shape {weight.shape} in {groups} groups cannot read {source}"
    else:
        geometry_of_axis = zip(source[1:], weight.shape[2:], layer.stride, layer.padding, layer.dilation, strict=True)
        made = (weight.shape[0], *(output_size(*axis) for axis in geometry_of_axis))
        if made != layer.shape:
            yield f"has shape {layer.shape}, but its input makes {made}"
    yield from _integer_problems("weight", weight, FLOAT32_EXACT)
    yield from _bias_problems(layer.bias, weight.shape[0], layer.neuron)
    yield from _neuron_problems(layer.neuron)


def _dense_problems(layer: StockDense, source: tuple[int, ...]) -> Iterator[str]:
    weight = layer.weight
    if weight.ndim != 2 or not weight.size or weight.shape != (*layer.shape, *source):
        yield f"weight of shape {weight.shape} does not lead from {source} to {layer.shape}"
        return
    yield from _integer_problems("weight", weight, FLOAT32_EXACT)
    if weight.dtype.kind in "iu":
        yield from _dense_weight_problems(weight.astype(np.int64))
    yield from _bias_problems(layer.bias, weight.shape[0], layer.neuron)
    yield from _neuron_problems(layer.neuron)
    if layer.delay is not None:
        if layer.delay.shape not in (weight.shape[:1], weight.shape):
            yield f"delay of shape {layer.delay.shape} is neither [O] nor [O, I]"
        elif layer.delay.min() < 0 or layer.delay.max() > DELAY_MAX:
            yield f"delay spans [{layer.delay.min()}, {layer.delay.max()}], outside 0..{DELAY_MAX}"


def _dense_weight_problems(weight: npt.NDArray[np.int64]) -> Iterator[str]:
    computed = computed_weight(weight)
    if computed is None:
        yield "all weights of a dense layer are 0, which lava-dl cannot load"
    elif not np.array_equal(computed, weight):
        at = tuple(map(int, np.argwhere(computed != weight)[0]))
        change = f"weight {weight[at]} at {at} is {computed[at]:g} in stock Lava"
        yield f"{change}; matrices of -128..127 with both signs stay as they are"


def _bias_problems(bias: npt.NDArray[np.int64] | None, channels: int, neuron: Neuron | None) -> Iterator[str]:
    if bias is None:
        return
    if bias.shape != (channels,):
        yield f"bias of shape {bias.shape} is not one for each of {channels} channels"
    # sdn/process.py shifts the bias by 12 into 32 bits
    yield from _integer_problems("bias", bias, ACTIVATION_LIMIT - 1 if isinstance(neuron, Sdnn) else BIAS_MAX_LAVA)
    if isinstance(neuron, Sdnn) and neuron.sigma_output:
        yield "has a bias, which Lava's Sigma neuron does not take"


def _integer_problems(name: str, values: npt.NDArray[np.int64], limit: int) -> Iterator[str]:
    if values.dtype.kind not in "iu":
        yield f"{name} is {values.dtype}, must be integers"
    elif values.size and (values.max() > limit or values.min() < -limit):
        yield f"{name} spans [{values.min()}, {values.max()}], beyond {limit} in magnitude"


def _neuron_problems(neuron: Neuron | None) -> Iterator[str]:
    if isinstance(neuron, Lif):
        if not -THRESHOLD_LIMIT < neuron.threshold < THRESHOLD_LIMIT:
            yield f"threshold {neuron.threshold} is beyond 25 bits"
        if not (0 <= neuron.i_decay <= DECAY_UNITY and 0 <= neuron.v_decay <= DECAY_UNITY):
            yield f"decays {neuron.i_decay} and {neuron.v_decay} are not in 0..{DECAY_UNITY}"
    elif isinstance(neuron, Sdnn) and not 0 <= neuron.threshold < ACTIVATION_LIMIT:
        yield f"threshold {neuron.threshold} is not in 0..{ACTIVATION_LIMIT}"
