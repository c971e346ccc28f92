"""One lowering rule a node type of the quantised graph. A new type is one function with `@lowers`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from fastsnn_deploy.conversion import quant_graph as q
from fastsnn_deploy.conversion.context import Context
from fastsnn_deploy.conversion.expression import Arm, CannotLowerError, Expression, Parts, Signal, Value
from fastsnn_deploy.conversion.through import input_channels, kernel_through, shift_kernel, with_zero_channels
from fastsnn_deploy.graph import Conv2d, ConvTranspose2d, Input, Linear, MaxPool2d, SumPool2d, Synapse, Upsample
from fastsnn_deploy.graph.ranges import STATE_MAX
from fastsnn_deploy.graph.synapses import zero_exponent

Rule = Callable[[Context, Any, list[Value]], Value]

RULES: dict[type[q.QuantNode], Rule] = {}


def lowers(kind: type[q.QuantNode]) -> Callable[[Rule], Rule]:
    """Register rule(context, node, input values) -> value for a node type."""

    def decorator(rule: Rule) -> Rule:
        RULES[kind] = rule
        return rule

    return decorator


def _ones(channels: int) -> dict[str, Any]:
    return {"weight": np.ones(channels, dtype=np.int8), "exponent": zero_exponent(channels)}


def _single(arm: Arm, shape: tuple[int, ...]) -> Expression:
    return Expression((arm,), np.zeros(shape[0]), shape)


@lowers(q.QuantImage)
def _image(context: Context, node: q.QuantImage, inputs: list[Value]) -> Value:
    source = Input(
        name=node.name, shape=node.shape, module=node.module, step=node.step, low=node.low, high=node.high,
        offset=node.offset, scale=node.scale,
    )  # fmt: skip
    return Signal(context.add(source), node.shape, node.scale)


@lowers(q.Scaling)
def _scaling(context: Context, node: q.Scaling, inputs: list[Value]) -> Value:
    """Counts stay, what one is worth changes."""

    def scaled(value: Signal | Expression) -> Signal | Expression:
        if isinstance(value, Signal):
            return dataclasses.replace(value, scale=value.scale * node.factor)
        return value.affine(np.full(value.shape[0], node.factor), np.zeros(value.shape[0]))

    value = inputs[0]
    return Parts(tuple(map(scaled, value.parts))) if isinstance(value, Parts) else scaled(value)


def per_part(rule: Rule) -> Rule:
    """Let a rule that treats every channel alike treat each part of a concatenation."""

    def of_parts(context: Context, node: Any, inputs: list[Value]) -> Value:
        value = inputs[0]
        if not isinstance(value, Parts):
            return rule(context, node, inputs)
        made: list[Signal | Expression] = []
        for i, part in enumerate(value.parts):
            shape = (part.shape[0], *node.shape[1:])
            result = rule(context, dataclasses.replace(node, name=f"{node.name}.part{i}", shape=shape), [part])
            made += result.parts if isinstance(result, Parts) else [result]
        return Parts(tuple(made))

    return of_parts


@lowers(q.Convolution)
def _convolution(context: Context, node: q.Convolution, inputs: list[Value]) -> Value:
    value = inputs[0]
    if not isinstance(value, Parts):
        return Expression((_convolution_arm(context, node, value),), node.bias, node.shape)
    whole = input_channels(node)
    cuts = np.cumsum([part.shape[0] for part in value.parts])[:-1]
    arms = []
    for i, (part, weight) in enumerate(zip(value.parts, np.split(whole, cuts, axis=1), strict=True)):
        if weight.any() or i == 0:
            piece = dataclasses.replace(node, name=f"{node.name}.part{i}", weight=weight, groups=1)
            arms.append(_convolution_arm(context, piece, part))
    return Expression(tuple(arms), node.bias, node.shape)


def _convolution_arm(context: Context, node: q.Convolution, value: Signal | Expression) -> Arm:
    """The convolution of one value; pads, slices and pools of the image before it go into its kernel."""
    through = kernel_through(context.nodes, node, value) if isinstance(value, Expression) else None
    if through is not None:
        return through
    signal = context.signal(value, node)
    synapse = Conv2d(
        name=node.name, inputs=(signal.source,), shape=node.shape, module=node.module, weight=node.weight,
        exponent=zero_exponent(node.shape[0]), stride=node.stride, padding=node.padding, dilation=node.dilation,
        groups=node.groups,
    )  # fmt: skip
    return Arm(synapse, node.weight_scale * signal.scale)


@lowers(q.TransposedConvolution)
def _transposed_convolution(context: Context, node: q.TransposedConvolution, inputs: list[Value]) -> Value:
    signal = context.signal(inputs[0], node)
    synapse = ConvTranspose2d(
        name=node.name, inputs=(signal.source,), shape=node.shape, module=node.module, weight=node.weight,
        exponent=zero_exponent(node.shape[0]), stride=node.stride, padding=node.padding,
        output_padding=node.output_padding, dilation=node.dilation, groups=node.groups,
    )  # fmt: skip
    return Expression((Arm(synapse, node.weight_scale * signal.scale),), node.bias, node.shape)


@lowers(q.Dense)
def _dense(context: Context, node: q.Dense, inputs: list[Value]) -> Value:
    value = inputs[0]
    if not isinstance(value, Parts):
        return Expression((_dense_arm(context, node, value),), node.bias, node.shape)
    sizes = [int(np.prod(part.shape, dtype=np.int64)) for part in value.parts]
    arms = []
    for i, (part, weight) in enumerate(zip(value.parts, np.split(node.weight, np.cumsum(sizes)[:-1], 1), strict=True)):
        arms.append(_dense_arm(context, dataclasses.replace(node, name=f"{node.name}.part{i}", weight=weight), part))
    return Expression(tuple(arms), node.bias, node.shape)


def _dense_arm(context: Context, node: q.Dense, value: Signal | Expression) -> Arm:
    if isinstance(value, Expression) and value.flat and (folded := _fold_pool(context, node, value)) is not None:
        weight, pool = folded
        source = context.nodes[pool.inputs[0]]
        unpooled = Signal(source.name, source.shape, float(value.arms[0].scale[0]))
        signal = context.flatten(unpooled, f"{node.name}.flat", node)
    else:
        shift = _pool_shift(context, node, value) if isinstance(value, Expression) else 0
        weight, signal = node.weight, context.signal(value, node, shift)
    synapse = Linear(
        name=node.name, inputs=(signal.source,), shape=node.shape, module=node.module, weight=weight,
        exponent=zero_exponent(node.shape[0]),
    )  # fmt: skip
    return Arm(synapse, node.weight_scale * signal.scale)


POOL_LEVELS = 255
"""Levels that a sum over a map keeps at least where its reader has no room for all."""


def _pool_shift(context: Context, node: q.Dense, value: Expression) -> int:
    """Bits that a pooled sum may lose so that the layer's own sum fits a potential: 0 if it fits as it is."""
    pool = value.arms[0].synapse
    if not isinstance(pool, SumPool2d):
        return 0
    source = context.ranges[pool.inputs[0]]
    low, high = pool.input_bounds(source.low, source.high)
    most = np.maximum(high, -low)
    positions = int(np.prod(value.shape[1:], dtype=np.int64))
    reach = int((np.abs(node.weight.astype(np.int64)) @ np.repeat(most, positions)).max(initial=0))
    fits = (reach // STATE_MAX).bit_length()
    return int(min(fits, max(0, (int(most.max()) // POOL_LEVELS).bit_length() - 1)))


FOLD_MARGIN = 2
"""Room that a folded pool leaves in the potential for bias and threshold."""


def _fold_pool(context: Context, node: q.Dense, value: Expression) -> tuple[np.ndarray, SumPool2d] | None:
    """Weights of a linear layer over the unpooled map: every position of a window gets the window's weight.

    None if the pool is not a partition of its source into equal windows, or if the sum of all positions would not fit
    a potential; it then needs a population of its own, which sends sums.
    """
    pool = value.arms[0].synapse
    if len(value.arms) > 1 or not isinstance(pool, SumPool2d) or value.constant.any():
        return None
    if pool.kernel != pool.stride or pool.padding != (0, 0) or len(set(value.arms[0].scale.tolist())) > 1:
        return None
    covered = (pool.shape[0], pool.shape[1] * pool.kernel[0], pool.shape[2] * pool.kernel[1])
    if context.nodes[pool.inputs[0]].shape != covered:
        return None
    outputs = len(node.weight)
    windows = node.weight.reshape(outputs, *pool.shape)
    source = context.ranges[pool.inputs[0]]
    sums = np.abs(windows.astype(np.int64)).sum((2, 3)) * int(np.prod(pool.kernel))
    if (sums @ np.maximum(source.high, -source.low)).max(initial=0) > STATE_MAX // FOLD_MARGIN:
        return None
    weight = np.empty((outputs, int(np.prod(covered))), dtype=windows.dtype)
    _, high, wide = pool.shape
    weight.reshape(outputs, -1, high, pool.kernel[0], wide, pool.kernel[1])[:] = windows[:, :, :, None, :, None]
    weight.flags.writeable = False  # the synapse keeps it without a copy
    return weight, pool


@lowers(q.Normalisation)
def _normalisation(context: Context, node: q.Normalisation, inputs: list[Value]) -> Value:
    value = inputs[0]
    parts = value.parts if isinstance(value, Parts) else (value,)
    if any(isinstance(part, Expression) and part.flat and part.shape[1:] != (1, 1) for part in parts):
        raise CannotLowerError("batch norm after flatten has a gain for each position", "Put it before the flatten")
    if isinstance(value, Parts):
        pieces = zip(value.parts, value.split(node.gain), value.split(node.shift), strict=True)
        return Parts(tuple(context.expression(part, node).affine(gain, shift) for part, gain, shift in pieces))
    return context.expression(value, node).affine(node.gain, node.shift)


@lowers(q.Addition)
def _addition(context: Context, node: q.Addition, inputs: list[Value]) -> Value:
    terms = [context.expression(value, node) for value in inputs]
    if len({(term.flat, term.shape) for term in terms}) > 1:
        raise CannotLowerError("adds flattened and unflattened values", "Flatten after the addition")
    arms = tuple(arm for term in terms for arm in term.arms)
    constant = np.sum([term.constant for term in terms], axis=0)
    return Expression(arms, constant, terms[0].shape, terms[0].flat)


@lowers(q.Concatenation)
def _concatenation(context: Context, node: q.Concatenation, inputs: list[Value]) -> Value:
    if all(isinstance(value, Signal) for value in inputs):
        signals = [value for value in inputs if isinstance(value, Signal)]
        if len({signal.scale for signal in signals}) == 1:
            return context.concatenate(signals, node)
    parts: list[Signal | Expression] = []
    for value in inputs:
        parts += value.parts if isinstance(value, Parts) else (value,)
    return Parts(tuple(parts))


@lowers(q.Activation)
def _activation(context: Context, node: q.Activation, inputs: list[Value]) -> Value:
    value = inputs[0]
    if not isinstance(value, Parts):
        return _rounded(context, value, node)
    pieces = [dataclasses.replace(node, name=f"{node.name}.part{i}") for i in range(len(value.parts))]
    populations = [_rounded(context, part, piece) for part, piece in zip(value.parts, pieces, strict=True)]
    return context.concatenate(populations, node)


def _rounded(context: Context, value: Signal | Expression, node: q.Activation) -> Signal:
    expression = context.expression(value, node)
    if node.shift:
        channels = expression.shape[0]
        expression = expression.affine(np.ones(channels), np.full(channels, node.shift * node.step))
    return context.population(expression, node, node.step, node.low, node.high, node.even)


@lowers(q.MaxPooling)
@per_part
def _max_pooling(context: Context, node: q.MaxPooling, inputs: list[Value]) -> Value:
    signal = context.signal(inputs[0], node)
    pool = MaxPool2d(
        name=node.name, inputs=(signal.source,), shape=node.shape, module=node.module, kernel=node.kernel,
        stride=node.stride, padding=node.padding, dilation=node.dilation, ceil_mode=node.ceil_mode,
    )  # fmt: skip
    return Signal(context.add(pool), node.shape, signal.scale)


@lowers(q.AveragePooling)
@per_part
def _average_pooling(context: Context, node: q.AveragePooling, inputs: list[Value]) -> Value:
    signal = context.signal(inputs[0], node)
    synapse = SumPool2d(
        name=node.name, inputs=(signal.source,), shape=node.shape, module=node.module, kernel=node.kernel,
        stride=node.stride, padding=node.padding, **_ones(node.shape[0]),
    )  # fmt: skip
    return _single(Arm(synapse, np.full(node.shape[0], signal.scale / node.divisor)), node.shape)


@lowers(q.Upsampling)
@per_part
def _upsampling(context: Context, node: q.Upsampling, inputs: list[Value]) -> Value:
    signal = context.signal(inputs[0], node)
    synapse = Upsample(
        name=node.name, inputs=(signal.source,), shape=node.shape, module=node.module, factor=node.factor,
        **_ones(node.shape[0]),
    )  # fmt: skip
    return _single(Arm(synapse, np.full(node.shape[0], signal.scale)), node.shape)


@lowers(q.Subsampling)
@per_part
def _subsampling(context: Context, node: q.Subsampling, inputs: list[Value]) -> Value:
    signal = context.signal(inputs[0], node)
    channels = node.shape[0]
    synapse = Conv2d(
        name=node.name, inputs=(signal.source,), shape=node.shape, module=node.module, stride=node.stride,
        groups=channels, weight=np.ones((channels, 1, 1, 1), dtype=np.int8), exponent=zero_exponent(channels),
    )  # fmt: skip
    return _single(Arm(synapse, np.full(channels, signal.scale)), node.shape)


@lowers(q.SpacePadding)
@per_part
def _space_padding(context: Context, node: q.SpacePadding, inputs: list[Value]) -> Value:
    signal = context.signal(inputs[0], node)
    channels = node.shape[0]
    (top, rows), (left, columns) = shift_kernel(node.top, node.bottom), shift_kernel(node.left, node.right)
    weight = np.zeros((channels, 1, len(rows), len(columns)), dtype=np.int8)
    weight[:, 0] = rows[:, None] * columns
    synapse = Conv2d(
        name=node.name, inputs=(signal.source,), shape=node.shape, module=node.module, padding=(top, left),
        groups=channels, weight=weight, exponent=zero_exponent(channels),
    )  # fmt: skip
    return _single(Arm(synapse, np.full(channels, signal.scale)), node.shape)


@lowers(q.Selection)
def _selection(context: Context, node: q.Selection, inputs: list[Value]) -> Value:
    value = inputs[0]
    if isinstance(value, Parts):
        return _selection_of_parts(context, node, value)
    signal = context.signal(value, node)
    chosen = np.array(node.channels)
    weight = ((chosen[:, None] == np.arange(signal.shape[0])) & (chosen[:, None] >= 0)).astype(np.int8)
    common: dict[str, Any] = {
        "name": node.name, "inputs": (signal.source,), "shape": node.shape, "module": node.module,
        "exponent": zero_exponent(len(weight)),
    }  # fmt: skip
    flat = len(node.shape) == 1
    synapse: Synapse = Linear(**common, weight=weight) if flat else Conv2d(**common, weight=weight[:, :, None, None])
    return _single(Arm(synapse, np.full(len(weight), signal.scale)), node.shape)


def _selection_of_parts(context: Context, node: q.Selection, value: Parts) -> Value:
    """Runs of channels from one part each."""
    ends = np.cumsum([part.shape[0] for part in value.parts])
    owners = [int(np.searchsorted(ends, channel, side="right")) if channel >= 0 else -1 for channel in node.channels]
    made: list[Signal | Expression] = []
    start = 0
    while start < len(owners):
        owner = next((o for o in owners[start:] if o >= 0), 0)
        stop = start
        while stop < len(owners) and owners[stop] in (owner, -1):
            stop += 1
        first = int(ends[owner]) - value.parts[owner].shape[0]
        channels = tuple(c - first if c >= 0 else -1 for c in node.channels[start:stop])
        shape = (stop - start, *node.shape[1:])
        piece = dataclasses.replace(node, name=f"{node.name}.part{len(made)}", channels=channels, shape=shape)
        result = _selection(context, piece, [value.parts[owner]])
        made += result.parts if isinstance(result, Parts) else [result]
        start = stop
    return Parts(tuple(made))


@lowers(q.ChannelPadding)
def _channel_padding(context: Context, node: q.ChannelPadding, inputs: list[Value]) -> Value:
    """Every arm becomes a convolution with channels of zeros around its own."""
    return with_zero_channels(context.expression(inputs[0], node), node, (node.before, node.after))


@lowers(q.Flattening)
def _flattening(context: Context, node: q.Flattening, inputs: list[Value]) -> Value:
    value = inputs[0]
    if isinstance(value, Signal):
        return context.flatten(value, node.name, node)
    if isinstance(value, Expression):
        return dataclasses.replace(value, flat=True)
    signals = [context.signal(part, node) for part in value.parts]
    if len({signal.scale for signal in signals}) == 1:
        return context.flatten(context.concatenate(signals, node), node.name, node)
    return Parts(tuple(context.flatten(s, f"{node.name}.part{i}", node) for i, s in enumerate(signals)))
