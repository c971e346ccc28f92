"""A convolution that reads pads, slices, chosen channels or pools: one kernel that reads what they read.

A layer that only moves or sums counts needs no neurons of its own where its reader can take it up exactly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.conversion import quant_graph as q
from fastsnn_deploy.conversion.expression import Arm, CannotLowerError, Expression
from fastsnn_deploy.graph import Conv2d, Node, SumPool2d, Synapse
from fastsnn_deploy.graph.synapses import zero_exponent

Int8 = npt.NDArray[np.int8]


def shift_kernel(before: int, after: int) -> tuple[int, Int8]:
    """(padding, taps) of the convolution along one axis that adds zeros, or cuts off where a number is negative."""
    padding = max(before, after, 0)
    taps = np.zeros(2 * padding - before - after + 1, dtype=np.int8)
    taps[padding - before] = 1
    return padding, taps


def input_channels(node: q.Convolution) -> Int8:
    """The weights over all input channels, int8 [O, I, kh, kw], whatever the groups."""
    outputs, per_group, *kernel = node.weight.shape
    whole = np.zeros((outputs, node.groups, per_group, *kernel), dtype=np.int8)
    whole[np.arange(outputs), np.arange(outputs) * node.groups // outputs] = node.weight
    return whole.reshape(outputs, -1, *kernel)


def kernel_through(nodes: Mapping[str, Node], node: q.Convolution, value: Expression) -> Arm | None:
    """The convolution as one that reads the source of `value`; None if it cannot be exactly."""
    arm = value.arms[0]
    first = arm.synapse.as_primitive()
    if len(value.arms) > 1 or arm.trained or value.constant.any() or len(set(arm.scale.tolist())) > 1:
        return None
    if not isinstance(first, Conv2d) or value.flat or first.dilation != (1, 1):
        return None
    if isinstance(arm.synapse, SumPool2d) and not _partitions(nodes, arm.synapse):
        return None
    partition = isinstance(arm.synapse, SumPool2d)
    made = _chosen(node, first) if first.groups == 1 and not partition else _shifted(node, first, partition)
    if made is None:
        return None
    synapse = dataclasses.replace(made, inputs=first.inputs)
    source = nodes[first.inputs[0]].shape
    try:
        if synapse.output_shape(source) != node.shape:
            return None
    except ValueError:
        return None
    return Arm(synapse, node.weight_scale * arm.scale[0])


def _partitions(nodes: Mapping[str, Node], pool: SumPool2d) -> bool:
    covered = (pool.shape[0], pool.shape[1] * pool.kernel[0], pool.shape[2] * pool.kernel[1])
    whole = pool.kernel == pool.stride and pool.padding == (0, 0)
    return whole and nodes[pool.inputs[0]].shape == covered


def _chosen(node: q.Convolution, first: Conv2d) -> Conv2d | None:
    """Weights of channels that a 1x1 convolution of zeros and ones has chosen go to where those come from."""
    if first.weight.shape[2:] != (1, 1) or first.stride != (1, 1) or first.padding != (0, 0):
        return None
    weight = np.einsum("omyx,mi->oiyx", input_channels(node).astype(np.int64), first.weight[:, :, 0, 0])
    return _conv(node, weight, node.stride, node.padding, node.dilation, 1)


def _shifted(node: q.Convolution, first: Conv2d, partition: bool) -> Conv2d | None:
    """Taps j of the kernel and r of a depthwise one before it meet at j * dilation * stride + r."""
    taps = first.weight[0, 0]
    if first.groups != first.weight.shape[0] or (first.weight != taps).any():
        return None
    outputs, inputs, *kernel = node.weight.shape
    reach = [(k - 1) * d * s for k, d, s in zip(kernel, node.dilation, first.stride, strict=True)]
    weight = np.zeros((outputs, inputs, *(r + t for r, t in zip(reach, taps.shape, strict=True))), dtype=np.int64)
    for y, x in np.ndindex(*kernel):
        top, left = y * node.dilation[0] * first.stride[0], x * node.dilation[1] * first.stride[1]
        place = weight[:, :, top : top + taps.shape[0], left : left + taps.shape[1]]
        place += node.weight[:, :, y, x, None, None] * taps
    if any(node.padding) and not (partition or _zero_outside(first)):
        return None
    padding = [p * s + f for p, s, f in zip(node.padding, first.stride, first.padding, strict=True)]
    stride = [a * b for a, b in zip(node.stride, first.stride, strict=True)]
    return _conv(node, weight, (stride[0], stride[1]), (padding[0], padding[1]), (1, 1), node.groups)


def _zero_outside(first: Conv2d) -> bool:
    """True if the formula of `first` gives zero wherever the padding of its reader lies: behind its own edges."""
    rows, columns = first.weight[0, 0].any(1).nonzero()[0], first.weight[0, 0].any(0).nonzero()[0]
    sides = zip((rows, columns), first.weight.shape[2:], first.padding, first.stride, strict=True)
    return all(t[-1] < p + s and t[0] >= k - 1 - p for t, k, p, s in sides)


def _conv(
    node: q.Convolution, weight: npt.NDArray[np.int64], stride: q.Pair, padding: q.Pair, dilation: q.Pair, groups: int
) -> Conv2d | None:
    if np.abs(weight).max(initial=0) > 127:
        return None
    return Conv2d(
        name=node.name, inputs=("",), shape=node.shape, module=node.module, weight=weight.astype(np.int8),
        exponent=zero_exponent(node.shape[0]), stride=stride, padding=padding, dilation=dilation, groups=groups,
    )  # fmt: skip


def with_zero_channels(value: Expression, node: q.QuantNode, around: q.Pair) -> Expression:
    """The value with channels of zeros before and after its own; `node` is what makes it so."""
    arms = tuple(
        Arm(_padded(arm.synapse, node, around), np.pad(arm.scale, around, constant_values=np.abs(arm.scale).max()))
        for arm in value.arms
    )
    shape = (value.shape[0] + sum(around), *value.shape[1:])
    return Expression(arms, np.pad(value.constant, around), shape, value.flat)


def _padded(synapse: Synapse, node: q.QuantNode, around: q.Pair) -> Conv2d:
    conv = synapse.as_primitive()
    if not isinstance(conv, Conv2d):
        raise CannotLowerError("pads channels of a value that no activation has rounded", "Pad after an activation")
    outputs, per_group, *kernel = conv.weight.shape
    whole = np.zeros((outputs, conv.groups, per_group, *kernel), dtype=np.int8)
    whole[np.arange(outputs), np.arange(outputs) * conv.groups // outputs] = conv.weight
    weight = np.pad(whole.reshape(outputs, -1, *kernel), (around, (0, 0), (0, 0), (0, 0)))
    shape = (len(weight), *conv.shape[1:])
    return dataclasses.replace(
        conv, name=node.name, shape=shape, module=node.module, weight=weight, groups=1,
        exponent=zero_exponent(len(weight)),
    )  # fmt: skip
