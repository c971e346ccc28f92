"""Quantisers of ONNX (QDQ, QLinear operators), QONNX (Quant, Trunc) and QCDQ, as they are: one function an operator.

A node that stands for integers carries the real values that they mean, and `Translator.codes` says their scale and
zero point, until a node of QDQ or a QLinear operator reads them.
"""

from __future__ import annotations

import operator as python
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.nn import functional as F

from fastsnn_deploy.quantisation.fixed.quantiser import DYNAMIC, affine, refused
from fastsnn_deploy.quantisation.graph_edit import UnsupportedError
from fastsnn_deploy.quantisation.sources.onnx import OF_INTEGERS, RULES, Array, Translator, Value, operator
from fastsnn_deploy.quantisation.sources.onnx_rules import Attributes, Inputs, clip_bounds, constant, optional

ROUNDING = {"ROUND": "even", "HALF_EVEN": "even", "HALF_UP": "half_up", "FLOOR": "floor"}
"""Modes of QONNX by the names of `fixed.quantiser.ROUNDINGS`; others are refused by their own name."""


# QONNX


@operator("Quant", "IntQuant")
def _quant(t: Translator, inputs: Inputs, a: Attributes) -> Value:
    signed, narrow = bool(a.pop("signed", 1)), bool(a.pop("narrow", 0))
    rounding = str(a.pop("rounding_mode", "ROUND")).upper()
    if any(isinstance(value, fx.Node) for value in inputs[1:4]):
        return t.layer(refused("computes its scale, zero point or bits from each image", DYNAMIC), inputs[0])
    scale, zero, bits = (np.asarray(constant(value, "its scale, zero or bits")) for value in inputs[1:4])
    widths = {float(width) for width in bits.reshape(-1)}
    width = widths.pop()
    if widths or width % 1 or width < 1:
        named = ", ".join(f"{each:g}" for each in sorted({width, *widths}))
        return _refuse(t, inputs[0], f"has {named} bits", "Use one whole number of bits, 1 to 8, in a layer")
    low, high = _bounds(int(width), signed, narrow)
    if not isinstance(inputs[0], np.ndarray):
        if int(width) == 1 and signed:
            return t.layer(refused("makes activations -1 and 1", "Use unsigned activations"), inputs[0])
        return _activation(t, inputs[0], scale, zero, low, high, int(width), ROUNDING.get(rounding, rounding))
    if ROUNDING.get(rounding) != "even":
        return _refuse(t, inputs[0], f"rounds weights by {rounding}", "Use ROUND")
    levels = np.round(np.clip(inputs[0] / scale + zero, low, high)) - zero
    if int(width) == 1 and signed:
        levels = np.where(inputs[0] >= 0, 1.0, -1.0)
    return _weights(t, levels, scale, int(width))


def _bounds(bits: int, signed: bool, narrow: bool) -> tuple[int, int]:
    half = 2 ** (bits - 1)
    return (narrow - half, half - 1) if signed else (0, 2 * half - 1 - narrow)


@operator("BipolarQuant")
def _bipolar(t: Translator, inputs: Inputs, a: Attributes) -> Value:
    if not isinstance(inputs[0], np.ndarray):
        return t.layer(refused("makes activations -1 and 1", "Use unsigned activations"), inputs[0])
    return _weights(t, np.where(inputs[0] >= 0, 1.0, -1.0), constant(inputs[1], "its scale"), 2)


@operator("Trunc")
def _trunc(t: Translator, inputs: Inputs, a: Attributes) -> Value:
    """The second version names the scale of its result; the first keeps the scale and drops bits of the integers."""
    mode, newer = str(a.pop("rounding_mode", "FLOOR")).upper(), len(inputs) == 6
    scale, zero, before, *behind = (float(constant(each, "its scale, zero or bits")) for each in inputs[1:])
    signed, narrow = bool(a.pop("signed", not _unsigned(t, inputs[0]))), bool(a.pop("narrow", 0))
    if zero:
        return t.layer(refused(f"truncates with the zero point {zero:g}", "Use 0"), inputs[0])
    power = float(np.exp2(np.round(np.log2(behind[0] / scale)))) if newer else 2.0 ** (before - behind[0])
    low, high = _bounds(int(behind[-1]), signed, narrow)
    rounding = "floor" if mode == "DOWN" and not signed else ROUNDING.get(mode, mode)
    step = np.float32(scale * power)
    value = _activation(t, inputs[0], step, np.zeros(1), low, high, int(behind[-1]), rounding)
    factor = (behind[0] if newer else scale) / float(step)
    return value if abs(factor - 1) < 1e-6 else t.call(torch.mul, value, factor)


def _unsigned(t: Translator, value: Value) -> bool:
    """Whether an example, and its opposite, give no negative value: behind an unsigned quantiser or a ReLU."""
    return isinstance(value, fx.Node) and bool((t.example(value) >= 0).all())


# QDQ and QCDQ


@operator("QuantizeLinear")
def _quantise(t: Translator, inputs: Inputs, a: Attributes) -> Value:
    axis = a.pop("axis", 1)
    for name in ("saturate", "output_dtype", "precision"):
        a.pop(name, None)
    if a.pop("block_size", 0):
        return _refuse(t, inputs[0], "has a scale for each block", "Use one for each channel")
    if any(isinstance(value, fx.Node) for value in inputs[1:3]):
        return t.layer(refused("computes its scale from each image", DYNAMIC), inputs[0])
    scale, zero = constant(inputs[1], "its scale"), optional(inputs, 2)
    if isinstance(inputs[0], np.ndarray):
        zero = np.zeros(scale.shape, np.uint8) if zero is None else zero
        low, high, _ = _range(zero)
        shape = _along(inputs[0], scale, axis)
        levels = np.round(inputs[0] / scale.reshape(shape)) + zero.reshape(shape).astype(np.float64)
        return np.clip(levels, low, high).astype(zero.dtype)
    return _coded(t, inputs[0], scale, zero)


@operator("DequantizeLinear")
def _dequantise(t: Translator, inputs: Inputs, a: Attributes) -> Value:
    value, axis = inputs[0], a.pop("axis", 1)
    if a.pop("block_size", 0):
        return _refuse(t, value, "has a scale for each block", "Use one for each channel")
    if not isinstance(value, np.ndarray):
        return _meant(t, inputs, 0)
    scale, zero = constant(inputs[1], "its scale"), optional(inputs, 2)
    shape = _along(value, scale, axis)
    levels = value.astype(np.float32) - (0 if zero is None else zero.reshape(shape).astype(np.float32))
    if value.dtype.itemsize > 1:  # a bias
        return np.asarray(levels * scale.reshape(shape), dtype=np.float32)
    clipped = t.grid_of(value)
    return _weights(t, levels, scale.reshape(shape), _range(value)[2] if clipped is None else clipped.bits)


@operator("DynamicQuantizeLinear")
def _dynamic(t: Translator, inputs: Inputs, a: Attributes) -> list[Value]:
    value = t.layer(refused("computes its scale from each image", DYNAMIC), inputs[0])
    return [value, np.float32(1), np.uint8(0)]


@operator(OF_INTEGERS["Clip"])
def _clip(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    """Fewer bits, between the two nodes of QDQ."""
    scale, zero, *ends = t.codes[t.here.input[0]]
    given = [a.pop(name, None) if value is None else value for name, value in clip_bounds(inputs)]
    low, high = (end if bound is None else int(bound) for bound, end in zip(given, ends, strict=True))
    t.codes[t.here.output[0]] = (scale, zero, low, high)
    return _activation(t, inputs[0], scale, zero, low, high, max(1, int(high - low).bit_length()), "even")


# operators on integers: what they compute with real values, rounded to the grid of their result


@operator("QLinearConv")
def _linear_convolution(t: Translator, inputs: Inputs, a: Attributes) -> Value:
    weight, bias = _linear_weight(t, inputs, 3, 0), optional(inputs, 8)
    real = [_meant(t, inputs, 0), weight]
    if bias is not None:
        real.append(np.asarray(bias * (inputs[1] * inputs[4]), dtype=np.float32))
    return _coded(t, RULES["Conv"](t, real, a), inputs[6], inputs[7])


@operator("QLinearMatMul")
def _linear_product(t: Translator, inputs: Inputs, a: Attributes) -> Value:
    real = [_meant(t, inputs, 0), _linear_weight(t, inputs, 3, 1)]
    return _coded(t, RULES["MatMul"](t, real, a), inputs[6], inputs[7])


@operator("QGemm")
def _linear_gemm(t: Translator, inputs: Inputs, a: Attributes) -> Value:
    real = [_meant(t, inputs, 0), _linear_weight(t, inputs, 3, 0 if a.get("transB") else 1)]
    bias = optional(inputs, 6)
    if bias is not None:
        real.append(np.asarray(bias * (inputs[1] * inputs[4]), dtype=np.float32))
    made = RULES["Gemm"](t, real, a)
    return _coded(t, made, inputs[7], inputs[8]) if len(inputs) > 7 and inputs[7] is not None else made


@operator("QLinearAdd")
def _linear_sum(t: Translator, inputs: Inputs, a: Attributes) -> Value:
    made = t.call(python.add, _meant(t, inputs, 0), _meant(t, inputs, 3))
    return _coded(t, made, inputs[6], inputs[7])


@operator("QLinearConcat")
def _linear_concat(t: Translator, inputs: Inputs, a: Attributes) -> Value:
    made = RULES["Concat"](t, [_meant(t, inputs, i) for i in range(2, len(inputs), 3)], a)
    return _coded(t, made, inputs[0], inputs[1])


@operator("QLinearAveragePool", "QLinearGlobalAveragePool")
def _linear_average(t: Translator, inputs: Inputs, a: Attributes) -> Value:
    if a.pop("channels_last", 0):
        raise UnsupportedError("has its channels last", "Export it with channels first")
    value = _meant(t, inputs, 0)
    made = RULES["AveragePool"](t, [value], a) if "kernel_shape" in a else t.call(F.adaptive_avg_pool2d, value, 1)
    return _coded(t, made, inputs[3], inputs[4])


# what they have in common


def _activation(
    t: Translator, value: fx.Node, scale: Any, zero: Any, low: int, high: int, bits: int, rounding: str
) -> fx.Node:
    scales, zeros = (np.asarray(each, dtype=np.float64).reshape(-1).tolist() for each in (scale, zero))
    return t.layer(affine(scales, zeros, low, high, bits, rounding), value)


def _coded(t: Translator, value: fx.Node, scale: Value, zero: Value) -> fx.Node:
    """A quantiser whose result is integers in the file."""
    if isinstance(scale, fx.Node) or isinstance(zero, fx.Node):
        return t.layer(refused("computes its scale from each image", DYNAMIC), value)
    zero = np.zeros(scale.shape, np.uint8) if zero is None else zero
    low, high, bits = _range(zero)
    t.codes[t.here.output[0]] = (scale, zero, low, high)
    return _activation(t, value, scale, zero, low, high, bits, "even")


def _meant(t: Translator, inputs: Inputs, i: int) -> fx.Node:
    """The real values of integers, whose scale and zero point follow them. Raises UnsupportedError if they were made
    with others."""
    value, name = inputs[i], t.here.input[i]
    scale, zero = constant(inputs[i + 1], "its scale"), optional(inputs, i + 2)
    if name not in t.codes and isinstance(value, fx.Node) and value.op == "placeholder":  # images are integers
        low, high, bits = _range(np.zeros(1, t.image_type) if zero is None else zero)
        return _activation(t, value, scale, np.zeros(1) if zero is None else zero, low, high, bits, "even")
    if name not in t.codes:
        raise UnsupportedError("reads integers that no QuantizeLinear has made", "Put a QuantizeLinear before it")
    made, shift, *_ = t.codes[name]
    same = np.array_equal(made.reshape(-1), scale.reshape(-1))
    if not same or not np.array_equal(shift.reshape(-1), np.zeros(1) if zero is None else zero.reshape(-1)):
        raise UnsupportedError("has another scale or zero point than what made its integers", "Use the same for both")
    node: fx.Node = value
    return node


def _linear_weight(t: Translator, inputs: Inputs, i: int, axis: int) -> Array:
    weight, scale, zero = (constant(each, "its weight, scale or zero point") for each in inputs[i : i + 3])
    shape = _along(weight, scale, axis)
    levels = weight.astype(np.float32) - zero.reshape(_along(weight, zero, axis)).astype(np.float32)
    return _weights(t, levels, scale.reshape(shape), _range(weight)[2])


def _refuse(t: Translator, value: Value, what: str, fix: str) -> Value:
    """A quantiser that cannot be taken, of weights or of activations."""
    if not isinstance(value, np.ndarray):
        return t.layer(refused(what, fix), value)
    real = np.asarray(value, dtype=np.float32).copy()
    return t.on_grid(real, np.ones(1, np.float32), 8, ((what, fix),))


def _weights(t: Translator, levels: Array, scale: Array, bits: int) -> Array:
    steps = np.asarray(scale, dtype=np.float32)
    real = np.asarray(levels.astype(np.float32) * steps, dtype=np.float32)
    return t.on_grid(real, steps, bits)


def _along(value: Array, scale: Array, axis: int) -> list[int]:
    """The shape in which scales for one axis meet the values."""
    if scale.size == 1:
        return []
    return [-1 if i == axis % value.ndim else 1 for i in range(value.ndim)]


def _range(values: Array) -> tuple[int, int, int]:
    """(least, greatest, bits) of a type of integers."""
    if values.dtype.kind in "iu":
        info: Any = np.iinfo(values.dtype)
    else:  # int4, uint4 and int2
        from ml_dtypes import iinfo

        info = iinfo(values.dtype)  # type: ignore[no-untyped-call]
    return int(info.min), int(info.max), int(info.bits)
