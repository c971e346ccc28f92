"""What every operator of ONNX becomes: one function an operator, registered by its name."""

from __future__ import annotations

import operator as python
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F

from fastsnn_deploy.quantisation.fixed.quantiser import WeightGrid, put_grid
from fastsnn_deploy.quantisation.graph_edit import UnsupportedError
from fastsnn_deploy.quantisation.sources.onnx import Array, Translator, Value, operator

Attributes = dict[str, Any]
Inputs = Sequence[Value]

# layers with weights


@operator("Conv")
def _convolution(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    weight, bias = constant(inputs[1], "its weight"), optional(inputs, 2)
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
    return t.layer(_with(layer, weight, bias, t.grid_of(inputs[1])), source, _name(t))


@operator("ConvTranspose")
def _transposed(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    weight, bias = constant(inputs[1], "its weight"), optional(inputs, 2)
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
    return t.layer(_with(layer, weight, bias, t.grid_of(inputs[1])), inputs[0], _name(t))


@operator("Gemm")
def _gemm(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    weight, bias = constant(inputs[1], "its weight"), optional(inputs, 2)
    alpha, beta = a.pop("alpha", 1.0), a.pop("beta", 1.0)
    turned = a.pop("transB", 0)
    if a.pop("transA", 0):
        raise UnsupportedError("transposes its input", "Give it [N, features]")
    grid = t.grid_of(inputs[1])
    if grid is not None:
        grid = replace(grid, steps=alpha * (grid.steps if turned else grid.steps.T))
    weight = alpha * (weight if turned else weight.T)
    if bias is not None:
        bias = np.broadcast_to(beta * bias.reshape(-1), weight.shape[:1])
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    return t.layer(_with(layer, weight, bias, grid), inputs[0], _name(t))


@operator("MatMul")
def _matmul(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    if not isinstance(inputs[1], np.ndarray) or inputs[1].ndim != 2:
        return t.call(torch.matmul, inputs[0], inputs[1])
    weight, grid = inputs[1].T, t.grid_of(inputs[1])
    if grid is not None:
        grid = replace(grid, steps=grid.steps.T)
    layer = nn.Linear(weight.shape[1], weight.shape[0], False)
    return t.layer(_with(layer, weight, None, grid), inputs[0], _name(t))


@operator("BatchNormalization")
def _batch_norm(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    gain, shift, mean, variance = (constant(value, "one of its statistics") for value in inputs[1:5])
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


def _name(t: Translator) -> str:
    """The name of a layer's weights in the file, before their quantiser."""
    name = t.here.input[3 if t.here.op_type.startswith("QLinear") else 1]
    made = {output: node for node in t.model.graph.node for output in node.output}
    while name in made and made[name].input:
        name = made[name].input[0]
    return str(name)


def _with(layer: Any, weight: Array, bias: Array | None, grid: WeightGrid | None = None) -> nn.Module:
    if grid is not None:
        put_grid(layer, grid)
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
    return t.call(F.prelu, inputs[0], constant(inputs[1], "its slope").reshape(-1))


def clip_bounds(inputs: Inputs) -> list[tuple[str, Any]]:
    """The bounds of Clip, by the names of the attributes that older versions have in their place."""
    return [(name, optional(inputs, i)) for i, name in ((1, "min"), (2, "max"))]


@operator("Clip")
def _clip(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    bounds = [_bound(a.pop(n, None) if v is None else float(v)) for n, v in clip_bounds(inputs)]
    return t.call(torch.clamp, inputs[0], *bounds)


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


# what rules read


def constant(value: Value, what: str) -> Array:
    """A constant that an operator needs. Raises UnsupportedError if it is computed from the image."""
    if not isinstance(value, np.ndarray):
        raise UnsupportedError(f"{what} is computed from the image", "Products of two activations have no spiking form")
    return value


def optional(inputs: Inputs, index: int) -> Any:
    """An input that may be left out, as a constant."""
    if len(inputs) <= index or inputs[index] is None or (index > 1 and getattr(inputs[index], "size", 1) == 0):
        return None
    return constant(inputs[index], f"input {index}")


def pads(
    t: Translator, source: Value, a: Attributes, extents: Sequence[int], stride: Sequence[int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, left), (bottom, right)) zeros around a map."""
    auto, zeros = a.pop("auto_pad", "NOTSET"), a.pop("pads", [0, 0, 0, 0])
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        size = t.example(source).shape[2:]
        whole = [max(0, (-(-n // s) - 1) * s + k - n) for n, s, k in zip(size, stride, extents, strict=True)]
        small, large = [n // 2 for n in whole], [n - n // 2 for n in whole]
        zeros = [*small, *large] if auto == "SAME_UPPER" else [*large, *small]
    elif auto == "VALID":
        zeros = [0, 0, 0, 0]
    return (zeros[0], zeros[1]), (zeros[2], zeros[3])


def _padded(
    t: Translator, source: Value, a: Attributes, extents: Sequence[int], stride: Sequence[int]
) -> tuple[Value, tuple[int, int]]:
    """A map and the zeros that a convolution puts on both sides; uneven ones are put around the map itself."""
    before, behind = pads(t, source, a, extents, stride)
    if before == behind:
        return source, before
    return t.call(F.pad, source, [before[1], behind[1], before[0], behind[0]]), (0, 0)
