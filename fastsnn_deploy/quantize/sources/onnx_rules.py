"""What every operator of ONNX becomes: one function an operator, registered by its name."""

from __future__ import annotations

import operator as python
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F

from fastsnn_deploy.quantize.graph_edit import UnsupportedError
from fastsnn_deploy.quantize.sources.onnx import Array, Translator, Value, operator

Attributes = dict[str, Any]
Inputs = Sequence[Value]

# layers with weights


@operator("Conv")
def _convolution(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    weight, bias = _constant(inputs[1], "its weight"), _optional(inputs, 2)
    kernel = weight.shape[2:]
    a.pop("kernel_shape", None)
    stride, dilation, groups = a.pop("strides", [1, 1]), a.pop("dilations", [1, 1]), a.pop("group", 1)
    if len(kernel) != 2:
        raise UnsupportedError(f"is a convolution over {len(kernel)} dimensions", "Only maps are supported")
    extents = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    source, padding = _padded(t, inputs[0], a, extents, stride)
    layer = nn.Conv2d(
        weight.shape[1] * groups, weight.shape[0], kernel, tuple(stride), padding, tuple(dilation), groups,
        bias is not None,
    )  # fmt: skip
    return t.layer(_with(layer, weight, bias), source, t.here.input[1])


@operator("ConvTranspose")
def _transposed(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    weight, bias = _constant(inputs[1], "its weight"), _optional(inputs, 2)
    a.pop("kernel_shape", None)
    if a.get("auto_pad") in ("NOTSET", "VALID"):
        del a["auto_pad"]
    pads, groups = a.pop("pads", [0, 0, 0, 0]), a.pop("group", 1)
    if len(weight.shape) != 4 or pads[:2] != pads[2:]:
        raise UnsupportedError("has other pads before than behind, or no maps", "Use the same on both sides")
    layer = nn.ConvTranspose2d(
        weight.shape[0], weight.shape[1] * groups, weight.shape[2:], tuple(a.pop("strides", [1, 1])), tuple(pads[:2]),
        tuple(a.pop("output_padding", [0, 0])), groups, bias is not None, tuple(a.pop("dilations", [1, 1])),
    )  # fmt: skip
    return t.layer(_with(layer, weight, bias), inputs[0], t.here.input[1])


@operator("Gemm")
def _gemm(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    weight, bias = _constant(inputs[1], "its weight"), _optional(inputs, 2)
    alpha, beta = a.pop("alpha", 1.0), a.pop("beta", 1.0)
    turned = a.pop("transB", 0)
    if a.pop("transA", 0):
        raise UnsupportedError("transposes its input", "Give it [N, features]")
    weight = alpha * (weight if turned else weight.T)
    if bias is not None:
        bias = np.broadcast_to(beta * bias.reshape(-1), weight.shape[:1])
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    return t.layer(_with(layer, weight, bias), inputs[0], t.here.input[1])


@operator("MatMul")
def _matmul(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    if not isinstance(inputs[1], np.ndarray) or inputs[1].ndim != 2:
        return t.call(torch.matmul, inputs[0], inputs[1])
    weight = inputs[1].T
    return t.layer(_with(nn.Linear(weight.shape[1], weight.shape[0], False), weight, None), inputs[0], t.here.input[1])


@operator("BatchNormalization")
def _batch_norm(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    gain, shift, mean, variance = (_constant(value, "one of its statistics") for value in inputs[1:5])
    a.pop("momentum", None)
    if a.pop("training_mode", 0) or not a.pop("spatial", 1):
        raise UnsupportedError("normalises with the statistics of the batch", "Export the network in evaluation mode")
    kind = nn.BatchNorm2d if t.example(inputs[0]).dim() == 4 else nn.BatchNorm1d
    layer = kind(len(gain), eps=a.pop("epsilon", 1e-5))
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.running_mean.copy_(torch.from_numpy(mean.copy()))
    layer.running_var.copy_(torch.from_numpy(variance.copy()))
    return t.layer(_with(layer, gain, shift), inputs[0], t.here.input[1])


def _with(layer: Any, weight: Array, bias: Array | None) -> nn.Module:
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.array(weight, dtype=np.float32)))
        if bias is not None:
            layer.bias.copy_(torch.from_numpy(np.array(bias, dtype=np.float32)))
    made: nn.Module = layer
    return made


# activations and arithmetic

EACH: dict[str, Any] = {
    "Relu": nn.ReLU, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "HardSwish": F.hardswish, "Mish": F.mish,
    "HardSigmoid": F.hardsigmoid, "Softplus": F.softplus, "Elu": F.elu, "Selu": F.selu, "Gelu": F.gelu,
    "Erf": torch.erf, "Exp": torch.exp, "Sqrt": torch.sqrt, "Abs": torch.abs, "Neg": torch.neg,
    "LeakyRelu": F.leaky_relu,
}  # fmt: skip


@operator(*EACH)
def _each(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    for name in ("alpha", "beta", "gamma", "approximate"):  # of functions that are refused whatever these are
        a.pop(name, None)
    if t.here.op_type == "Relu":
        return t.layer(nn.ReLU(), inputs[0])
    return t.call(EACH[t.here.op_type], inputs[0])


@operator("Softmax", "LogSoftmax")
def _softmax(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    function = torch.softmax if t.here.op_type == "Softmax" else torch.log_softmax
    return t.call(function, inputs[0], dim=a.pop("axis", -1))


@operator("PRelu")
def _prelu(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    return t.call(F.prelu, inputs[0], _constant(inputs[1], "its slope").reshape(-1))


@operator("Clip")
def _clip(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    low, high = (_optional(inputs, i) for i in (1, 2))
    bounds = [a.pop(n, None) if v is None else float(v) for n, v in (("min", low), ("max", high))]
    return t.call(torch.clamp, inputs[0], *(_bound(bound) for bound in bounds))


def _bound(value: Any) -> float | None:
    """None for the numbers that exporters write where there is no bound."""
    return None if value is None or abs(value) > 3e38 else float(value)


ARITHMETIC = {"Add": python.add, "Sub": python.sub, "Mul": python.mul, "Div": python.truediv}


@operator(*ARITHMETIC)
def _arithmetic(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    return t.call(ARITHMETIC[t.here.op_type], *inputs)


@operator("Sum")
def _sum(t: Translator, inputs: Inputs, a: Attributes) -> Value:
    found = inputs[0]
    for value in inputs[1:]:
        found = t.call(python.add, found, value)
    return found


@operator("Identity", "Dropout", "Cast")
def _same(t: Translator, inputs: Inputs, a: Attributes) -> list[Value]:
    for name in ("ratio", "seed", "to", "saturate"):
        a.pop(name, None)
    return [inputs[0], None]


# pools


@operator("MaxPool", "AveragePool")
def _pool(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    kernel = a.pop("kernel_shape")
    stride, dilation = a.pop("strides", [1] * len(kernel)), a.pop("dilations", [1] * len(kernel))
    ceil, included = bool(a.pop("ceil_mode", 0)), bool(a.pop("count_include_pad", 0))
    a.pop("storage_order", None)
    if len(kernel) != 2:
        raise UnsupportedError(f"pools over {len(kernel)} dimensions", "Only maps are supported")
    extents = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    before, behind = _pads(t, inputs[0], a, extents, stride)
    if before != behind:
        raise UnsupportedError("has other pads before than behind", "Use the same on both sides")
    if t.here.op_type == "MaxPool":
        pool: nn.Module = nn.MaxPool2d(tuple(kernel), tuple(stride), before, tuple(dilation), ceil_mode=ceil)
    elif dilation != [1, 1]:
        raise UnsupportedError("is a dilated average", "Leave out dilations")
    else:
        pool = nn.AvgPool2d(tuple(kernel), tuple(stride), before, ceil, included)
    return t.layer(pool, inputs[0])


@operator("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    average = t.here.op_type == "GlobalAveragePool"
    return t.call(F.adaptive_avg_pool2d if average else F.adaptive_max_pool2d, inputs[0], 1)


@operator("ReduceMean", "ReduceSum", "ReduceMax")
def _reduce(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    a.pop("noop_with_empty_axes", None)
    axes, keep = _axes(inputs, a), bool(a.pop("keepdims", 1))
    if not axes or 0 in axes:
        raise UnsupportedError("reduces over the images of a batch", "Reduce over channels or places only")
    functions: dict[str, Any] = {"ReduceMean": torch.mean, "ReduceSum": torch.sum, "ReduceMax": torch.amax}
    return t.call(functions[t.here.op_type], inputs[0], axes, keep)


@operator("Resize", "Upsample")
def _resize(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    mode, how = a.pop("mode", "nearest"), a.pop("coordinate_transformation_mode", "half_pixel")
    rounding = a.pop("nearest_mode", "round_prefer_floor")
    for name in ("cubic_coeff_a", "exclude_outside", "extrapolation_value", "antialias"):
        a.pop(name, None)
    size = t.example(inputs[0]).shape[2:]
    scales = a.pop("scales", None) if t.here.op_type == "Upsample" and "scales" in a else _last(inputs)
    if scales is None:
        raise UnsupportedError("has neither scales nor sizes", "Export it with constants")
    sizes = _optional(inputs, 3)
    factors = (
        [float(s) for s in scales][2:] if sizes is None else [int(n) / s for n, s in zip(sizes[2:], size, strict=True)]
    )
    if mode != "nearest":
        return t.call(
            F.interpolate, inputs[0], scale_factor=factors, mode="bilinear", align_corners=how == "align_corners"
        )
    centred = how in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round")
    if t.here.op_type == "Resize" and not centred and (how, rounding) != ("asymmetric", "floor"):
        raise UnsupportedError(f"takes nearest values by {how}, {rounding}", "Use nearest upsampling by whole factors")
    return t.call(F.interpolate, inputs[0], scale_factor=factors, mode="nearest")


# moves


@operator("Concat")
def _concat(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    parts = [t._argument(value) for value in inputs]
    node = t.graph.call_function(torch.cat, (parts, axis := a.pop("axis")))
    t.examples[node] = torch.cat([t.examples[part] for part in parts], axis)
    return node


@operator("Flatten")
def _flatten(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    if a.pop("axis", 1) != 1:
        raise UnsupportedError("flattens other than all values of an image", "Use axis=1")
    return t.call(torch.flatten, inputs[0], 1)


@operator("Reshape")
def _reshape(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    sizes = [int(size) for size in _constant(inputs[1], "its shape")]
    before = t.example(inputs[0])
    if not a.pop("allowzero", 0):
        sizes = [before.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    after = before.reshape(sizes).shape
    if after[0] != t.batch:
        raise UnsupportedError("mixes the images of a batch", "Export the network with an open batch")
    return t.call(torch.reshape, inputs[0], (-1, *after[1:]))


@operator("Shape")
def _shape(t: Translator, inputs: Inputs, a: Attributes) -> Array:
    return np.array(t.example(inputs[0]).shape, dtype=np.int64)[a.pop("start", None) : a.pop("end", None)]


@operator("Transpose")
def _transpose(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    return t.call(torch.permute, inputs[0], tuple(a.pop("perm")))


@operator("Squeeze")
def _squeeze(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    axes = _axes(inputs, a) or [i for i, size in enumerate(t.example(inputs[0]).shape) if size == 1 and i > 0]
    return t.call(torch.squeeze, inputs[0], tuple(axes))


@operator("Unsqueeze")
def _unsqueeze(t: Translator, inputs: Inputs, a: Attributes) -> Value:
    found = inputs[0]
    for axis in sorted(_axes(inputs, a)):
        found = t.call(torch.unsqueeze, found, axis)
    return found


@operator("Pad")
def _pad(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    pads, value, axes = a.pop("pads", None), _optional(inputs, 2), _optional(inputs, 3)
    pads = [int(n) for n in (_constant(inputs[1], "its pads") if pads is None else pads)]
    mode = a.pop("mode", "constant")
    level = float(a.pop("value", 0.0) if value is None else value)
    rank = t.example(inputs[0]).dim()
    order = list(range(rank)) if axes is None else [int(axis) % rank for axis in axes]
    half = len(pads) // 2
    ends = {axis: (pads[i], pads[half + i]) for i, axis in enumerate(order)}
    flat = [n for axis in range(rank - 1, 0, -1) for n in ends.get(axis, (0, 0))]
    if any(ends.get(0, (0, 0))):
        raise UnsupportedError("adds images to the batch")
    if mode != "constant":
        flat = flat[: 2 * (rank - 2)]
    return t.call(F.pad, inputs[0], flat, {"edge": "replicate", "wrap": "circular"}.get(mode, mode), level)


@operator("Split")
def _split(t: Translator, inputs: Inputs, a: Attributes) -> list[Value]:
    axis, sizes = a.pop("axis", 0), _optional(inputs, 1)
    sizes = a.pop("split", None) if sizes is None else [int(size) for size in sizes]
    parts = a.pop("num_outputs", len(t.here.output))
    whole = t.example(inputs[0]).shape[axis]
    made = t.call(torch.split, inputs[0], sizes or -(-whole // parts), axis)
    return [t.call(python.getitem, made, i) for i in range(len(t.here.output))]


@operator("Slice")
def _slice(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    rank = t.example(inputs[0]).dim()
    starts = a.pop("starts", None) or [int(n) for n in _constant(inputs[1], "its start")]
    ends = a.pop("ends", None) or [int(n) for n in _constant(inputs[2], "its end")]
    axes, steps = _optional(inputs, 3), _optional(inputs, 4)
    places = a.pop("axes", None) or (range(len(starts)) if axes is None else [int(n) for n in axes])
    index = [slice(None)] * rank
    for i, axis in enumerate(places):
        step = 1 if steps is None else int(steps[i])
        if step < 1 or axis % rank == 0:
            raise UnsupportedError("slices backwards, or the images of a batch")
        index[axis % rank] = slice(starts[i], min(ends[i], 2**31), step)
    return t.call(python.getitem, inputs[0], tuple(index))


@operator("Gather")
def _gather(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    chosen, axis = _constant(inputs[1], "its index"), a.pop("axis", 0)
    if axis == 0:
        raise UnsupportedError("chooses images of a batch")
    if chosen.ndim == 0:
        return t.call(torch.select, inputs[0], axis, int(chosen))
    return t.call(torch.index_select, inputs[0], axis, chosen.reshape(-1))


# quantisers of QONNX and QDQ


@operator("Quant", "IntQuant")
def _quant(t: Translator, inputs: Inputs, a: Attributes) -> Value:
    scale, zero, bits = (_constant(value, "its scale, zero or bits") for value in inputs[1:4])
    signed, narrow = bool(a.pop("signed", 1)), bool(a.pop("narrow", 0))
    rounding = a.pop("rounding_mode", "ROUND")
    width = int(bits.reshape(-1)[0])
    low = -(2 ** (width - 1)) + narrow if signed else 0
    high = 2 ** (width - 1) - 1 if signed else 2**width - 1 - narrow
    if isinstance(inputs[0], np.ndarray):
        if rounding.upper() not in ("ROUND", "HALF_EVEN"):
            raise UnsupportedError(f"rounds weights by {rounding}", "Use ROUND")
        levels = np.clip(np.round(inputs[0] / scale + zero), low, high)
        return np.asarray((levels - zero) * scale, dtype=np.float32)
    return _ranged(t, inputs[0], scale, zero, low, high)


@operator("BipolarQuant")
def _bipolar(t: Translator, inputs: Inputs, a: Attributes) -> Value:
    if not isinstance(inputs[0], np.ndarray):
        raise UnsupportedError("makes activations -1 and 1", "Use unsigned activations")
    return np.asarray(np.where(inputs[0] >= 0, 1, -1) * inputs[1], dtype=np.float32)


@operator("QuantizeLinear")
def _quantise(t: Translator, inputs: Inputs, a: Attributes) -> Value:
    for name in ("axis", "saturate", "output_dtype", "block_size", "precision"):
        a.pop(name, None)
    scale, zero = _constant(inputs[1], "its scale"), _optional(inputs, 2)
    kind = np.iinfo(np.uint8 if zero is None else zero.dtype)
    return _ranged(t, inputs[0], scale, np.zeros(1) if zero is None else zero, kind.min, kind.max)


@operator("DequantizeLinear")
def _dequantise(t: Translator, inputs: Inputs, a: Attributes) -> Value:
    value, axis = inputs[0], a.pop("axis", 1)
    if a.pop("block_size", 0):
        raise UnsupportedError("has a scale for each block", "Use one for each channel")
    if not isinstance(value, np.ndarray):
        return value  # its QuantizeLinear has the range
    scale, zero = _constant(inputs[1], "its scale"), _optional(inputs, 2)
    sizes = [-1 if i == axis % value.ndim else 1 for i in range(value.ndim)] if scale.ndim else []
    levels = value.astype(np.float32) - (0 if zero is None else zero.reshape(sizes).astype(np.float32))
    return np.asarray(levels * scale.reshape(sizes), dtype=np.float32)


def _ranged(t: Translator, value: fx.Node, scale: Array, zero: Array, low: int, high: int) -> Value:
    """An activation within the range of a quantiser; its grid is found again by calibration, and that is said."""
    note = "activation quantisers of the file keep their ranges; their steps are calibrated, and weights rounded, anew"
    if note not in t.notes:
        t.notes.append(note)
    if scale.size != 1 or zero.size != 1:
        raise UnsupportedError("has an activation scale for each channel", "Use one scale")
    least, most = (float((level - float(zero.reshape(()))) * float(scale.reshape(()))) for level in (low, high))
    if value.op == "placeholder" or least < 0:  # the image has its own grid; sums get a signed one
        return value
    return t.call(F.hardtanh, value, 0.0, most)


# what rules read


def _constant(value: Value, what: str) -> Array:
    if not isinstance(value, np.ndarray):
        raise UnsupportedError(f"{what} is computed from the image", "Products of two activations have no spiking form")
    return value


def _optional(inputs: Inputs, index: int) -> Any:
    """An input that may be left out, as a constant."""
    if len(inputs) <= index or inputs[index] is None or (index > 1 and getattr(inputs[index], "size", 1) == 0):
        return None
    return _constant(inputs[index], f"input {index}")


def _last(inputs: Inputs) -> Any:
    return next((v for v in reversed(inputs[1:]) if isinstance(v, np.ndarray) and v.size), None)


def _axes(inputs: Inputs, a: Attributes) -> list[int]:
    given = _optional(inputs, 1)
    return [int(axis) for axis in (a.pop("axes", []) if given is None else given)]


def _pads(
    t: Translator, source: Value, a: Attributes, extents: Sequence[int], stride: Sequence[int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, left), (bottom, right)) zeros around a map."""
    auto, pads = a.pop("auto_pad", "NOTSET"), a.pop("pads", [0, 0, 0, 0])
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        size = t.example(source).shape[2:]
        whole = [max(0, (-(-n // s) - 1) * s + k - n) for n, s, k in zip(size, stride, extents, strict=True)]
        small, large = [n // 2 for n in whole], [n - n // 2 for n in whole]
        pads = [*small, *large] if auto == "SAME_UPPER" else [*large, *small]
    elif auto == "VALID":
        pads = [0, 0, 0, 0]
    return (pads[0], pads[1]), (pads[2], pads[3])


def _padded(
    t: Translator, source: Value, a: Attributes, extents: Sequence[int], stride: Sequence[int]
) -> tuple[Value, tuple[int, int]]:
    """A map and the zeros that a convolution puts on both sides; uneven ones are put around the map itself."""
    before, behind = _pads(t, source, a, extents, stride)
    if before == behind:
        return source, before
    return t.call(F.pad, source, [before[1], behind[1], before[0], behind[0]]), (0, 0)
