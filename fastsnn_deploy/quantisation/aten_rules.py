"""What every operation of a captured network becomes: one function an operation, registered by its name in aten."""

from __future__ import annotations

import dataclasses
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.quantisation.exported import Constant, Translator, aten
from fastsnn_deploy.quantisation.fixed.layers import fixed_activation
from fastsnn_deploy.quantisation.fixed.quantiser import ROUNDINGS, put_grid
from fastsnn_deploy.quantisation.graph_edit import UnsupportedError
from fastsnn_deploy.quantisation.moved import BATCH, Moved, unmoved
from fastsnn_deploy.quantisation.moves import Affine, PadSpace, Scale

Arguments = dict[str, Any]


# layers with weights


@aten("conv2d", "conv1d")
def _convolution(translator: Translator, a: Arguments) -> fx.Node:
    """Conv2d; of lines with a kernel of one row."""
    weight, source = _parameter(translator, a["weight"], "weight"), translator.tensor(a["input"])
    _require_map(translator, source, "convolution")
    outputs, inputs, *kernel = weight.tensor.shape
    height, width = pair(kernel, line=1)
    padding, dilation = a["padding"], pair(a["dilation"], line=1)
    if isinstance(padding, str):
        extents = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, (height, width), strict=True)]
        if any(extent % 2 for extent in extents):  # torch puts the odd row and column behind
            before = [extent // 2 for extent in extents]
            source = translator.call(
                PadSpace(before[1], extents[1] - before[1], before[0], extents[0] - before[0]), source, own=False
            )
            extents = [0, 0]
        padding = [extent // 2 for extent in extents]
    settings = (pair(a["stride"], line=1), pair(padding, line=0), dilation, int(a["groups"]))
    layer = nn.Conv2d(
        inputs * settings[3], outputs, (height, width), settings[0], settings[1], dilation, settings[3],
        a["bias"] is not None, device="meta",
    )  # fmt: skip
    return _weighted(translator, layer, weight, a["bias"], source, settings)


@aten("conv_transpose2d", "conv_transpose1d")
def _transposed_convolution(translator: Translator, a: Arguments) -> fx.Node:
    """ConvTranspose2d; of lines with a kernel of one row."""
    weight, source = _parameter(translator, a["weight"], "weight"), translator.tensor(a["input"])
    _require_map(translator, source, "convolution")
    inputs, per_group, *kernel = weight.tensor.shape
    groups = int(a["groups"])
    settings = (
        pair(a["stride"], line=1), pair(a["padding"], line=0), pair(a["output_padding"], line=0), groups,
    )  # fmt: skip
    dilation = pair(a["dilation"], line=1)
    layer = nn.ConvTranspose2d(
        inputs, per_group * groups, pair(kernel, line=1), *settings, a["bias"] is not None, dilation, device="meta"
    )
    return _weighted(translator, layer, weight, a["bias"], source, (*settings, dilation))


@aten("convolution", "_convolution")
def _either_convolution(translator: Translator, a: Arguments) -> Any:
    """Conv2d or ConvTranspose2d, as decomposed programs and TorchScript call both."""
    return (_transposed_convolution if a["transposed"] else _convolution)(translator, a)


def _require_map(translator: Translator, node: fx.Node, what: str) -> None:
    shape = translator.shape(node)
    if len(shape) != 3:
        raise UnsupportedError(f"{what} of shape {shape}", "Only maps (C, H, W) and lines (C, L) are supported")


@aten("linear")
def _linear(translator: Translator, a: Arguments) -> Any:
    """Linear; Conv2d with a kernel of one pixel where it reads the channels of maps, as (H, W, C)."""
    weight, value = _parameter(translator, a["weight"], "weight"), a["input"]
    if is_value(value) and len(translator.shape(value)) == 3:
        return _pixelwise(translator, weight, a["bias"], translator.moved(value))
    source = translator.tensor(value)
    if len(translator.shape(source)) != 1:
        raise UnsupportedError(f"linear layer on shape {translator.shape(source)}", "Flatten before it")
    layer = nn.Linear(weight.tensor.shape[1], weight.tensor.shape[0], a["bias"] is not None, device="meta")
    return _weighted(translator, layer, weight, a["bias"], source, ())


def _pixelwise(translator: Translator, weight: Constant, bias: Any, value: Moved) -> Moved:
    source = translator.tensor(Moved(value.node, value.source, value.index.permute(2, 0, 1)))
    outputs, inputs = weight.tensor.shape
    layer = nn.Conv2d(inputs, outputs, 1, bias=bias is not None, device="meta")
    made = _weighted(translator, layer, weight, bias, source, ())
    shape = translator.shape(made)
    return Moved(made, shape, unmoved(made, shape).index.permute(1, 2, 0))


@aten("addmm")
def _addmm(translator: Translator, a: Arguments) -> Any:
    """Linear."""
    if a["beta"] != 1 or a["alpha"] != 1:
        raise UnsupportedError("addmm with factors", "Use nn.Linear")
    weight = _parameter(translator, a["mat2"], "weight")
    return _linear(translator, {"input": a["mat1"], "weight": weight.t(), "bias": a["self"]})


@aten("matmul", "mm")
def _matmul(translator: Translator, a: Arguments) -> Any:
    """Linear, if one side is a constant."""
    other = a["other"] if "other" in a else a["mat2"]
    if not isinstance(other, Constant) or other.tensor.dim() != 2:
        raise UnsupportedError("calls matmul() of two activations", "Attention has no exact integrate-and-fire form")
    return _linear(translator, {"input": a["self"], "weight": other.t(), "bias": None})


def _weighted(
    translator: Translator,
    layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear,
    weight: Constant,
    bias: Any,
    source: fx.Node,
    settings: Any,
) -> fx.Node:
    """A layer with these weights; calls with the same weights and settings are calls of one layer."""
    key: Any = (type(layer), id(weight.tensor), id(getattr(bias, "tensor", None)), settings)
    if key in translator.placed:
        return translator.call(translator.root.get_submodule(translator.placed[key]), source, key)
    layer.to_empty(device="cpu")
    layer.weight = nn.Parameter(_owned(weight.tensor).view(layer.weight.shape), requires_grad=weight.trains)
    if bias is not None:
        bias = _parameter(translator, bias, "bias")
        layer.bias = nn.Parameter(_owned(bias.tensor), requires_grad=bias.trains)
    if weight.grid is not None:
        steps = weight.grid.steps.expand(weight.tensor.shape).reshape(layer.weight.shape)
        put_grid(layer, dataclasses.replace(weight.grid, steps=steps))
    translator.keep.append((weight, bias))
    return translator.call(layer, source, key)


def _parameter(translator: Translator, value: Any, what: str) -> Constant:
    if isinstance(value, Constant):
        return value
    raise UnsupportedError(f"its {what} is computed from the image", "Products of two activations have no spiking form")


def _owned(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().contiguous()


# batch norm, constants


@aten("batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit")
def _batch_norm(translator: Translator, a: Arguments) -> Any:
    """Batch norm with running statistics: thresholds and biases, or the image's grid."""
    mean, variance = a["running_mean"], a["running_var"]
    if mean is None or a.get("training"):
        raise UnsupportedError("batch norm without running statistics", "Use track_running_stats=True")
    if not bool((variance.tensor.double() + a["eps"] > 0).all()):
        raise UnsupportedError("batch norm divides by zero: variance + eps is not positive", "Use a positive eps")
    source = translator.tensor(a["input"])
    shape = translator.shape(source)
    kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
    user: Any = translator.module()
    norms = isinstance(user, nn.modules.batchnorm._BatchNorm)
    layer = kind(shape[0], eps=a["eps"], momentum=user.momentum if norms else a["momentum"],
                 affine=a["weight"] is not None)  # fmt: skip
    with torch.no_grad():
        layer.running_mean.copy_(mean.tensor)  # type: ignore[union-attr]
        layer.running_var.copy_(variance.tensor)  # type: ignore[union-attr]
        if norms and user.num_batches_tracked is not None:
            layer.num_batches_tracked.copy_(user.num_batches_tracked)  # type: ignore[union-attr]
        for name in ("weight", "bias") if layer.affine else ():
            value = a[name]
            if value is not None:
                getattr(layer, name).copy_(value.tensor)
            getattr(layer, name).requires_grad_(value is not None and value.trains)
    node = translator.call(
        layer, source, ("norm", id(mean.tensor), id(getattr(a["weight"], "tensor", None)), len(shape))
    )
    return node if "cudnn_enabled" in a else [node, None, None]


@aten("mul")
def _mul(translator: Translator, a: Arguments) -> Any:
    """A factor for each channel, if one side is a constant."""
    value, factor = _value_and_constant(a["self"], a["other"])
    if value is None:
        raise translator._unsupported("mul")
    return affine(translator, value, factor, None, "multiplies by")


@aten("div")
def _div(translator: Translator, a: Arguments) -> Any:
    """A factor for each channel, if the divisor is a constant."""
    divisor = a["other"]
    if a.get("rounding_mode") is not None or is_value(divisor):
        raise translator._unsupported("div")
    inverse = Constant(1 / divisor.tensor, divisor.trains) if isinstance(divisor, Constant) else 1 / divisor
    return affine(translator, a["self"], inverse, None, "divides by")


@aten("neg")
def _neg(translator: Translator, a: Arguments) -> Any:
    """The factor -1."""
    return affine(translator, a["self"], -1.0, None, "negates")


@aten("add")
def _add(translator: Translator, a: Arguments) -> Any:
    """A sum; a shift for each channel, if one side is a constant."""
    return _sum(translator, a["self"], a["other"], a.get("alpha", 1))


@aten("sub", "subtract")
def _sub(translator: Translator, a: Arguments) -> Any:
    """A sum with the factor -1."""
    return _sum(translator, a["self"], a["other"], -a.get("alpha", 1))


@aten("rsub")
def _rsub(translator: Translator, a: Arguments) -> Any:
    """A sum with the factor -1."""
    return _sum(translator, a["other"], a["self"], -a.get("alpha", 1))


def _sum(translator: Translator, first: Any, second: Any, factor: float) -> Any:
    """first + factor * second."""
    if not is_value(second):
        shift = Constant(second.tensor * factor, second.trains) if isinstance(second, Constant) else second * factor
        return affine(translator, first, None, shift, "adds")
    scaled = second if factor == 1 else affine(translator, second, float(factor), None, "multiplies by")
    if not is_value(first):
        return affine(translator, scaled, None, first, "adds")
    terms = (translator.tensor(first), translator.tensor(scaled))
    shapes = {translator.shape(term) for term in terms}
    if len(shapes) > 1:
        raise UnsupportedError(f"adds shapes {sorted(shapes)}", "Broadcasting is not supported")
    return translator.combine(operator.add, terms, shapes.pop())


def affine(translator: Translator, value: Any, gain: Any, shift: Any, what: str) -> Any:
    """gain * value + shift, constants that differ between channels at most; None: 1 and 0."""
    source = value if is_value(value) else translator.tensor(value)
    shape = translator.shape(source)
    gains, shifts = (_per_channel(c, shape, what) for c in (1.0 if gain is None else gain, shift or 0.0))
    trains = any(isinstance(c, Constant) and c.trains for c in (gain, shift))
    same = bool((gains == gains[0]).all()) and not shifts.any() and not trains
    if same and gains[0] == 1:
        return value
    if same and gains[0] > 0:
        return _each(translator, value, Scale(float(gains[0])))
    layer = Affine(shape[0])
    with torch.no_grad():
        layer.weight.copy_(gains)
        layer.bias.copy_(shifts)
    layer.weight.requires_grad_(isinstance(gain, Constant) and gain.trains)
    layer.bias.requires_grad_(isinstance(shift, Constant) and shift.trains)
    return translator.call(layer, translator.tensor(value))


def _per_channel(constant: Any, shape: tuple[int, ...], what: str) -> Tensor:
    """The constant's value for each channel, float64 [C]."""
    if not isinstance(constant, Constant):
        return torch.full((shape[0],), float(constant), dtype=torch.float64)
    try:
        full = constant.tensor.detach().double().broadcast_to(BATCH, *shape)
    except RuntimeError:
        raise UnsupportedError(
            f"{what} a tensor of shape {tuple(constant.tensor.shape)}", "Give one number for each channel"
        ) from None
    channels = full.reshape(BATCH, shape[0], -1)[0, :, :1]
    if not torch.equal(full.reshape(BATCH, shape[0], -1), channels.expand(BATCH, -1, full[0, 0].numel())):
        raise UnsupportedError(f"{what} a tensor that differs between places", "Give one number for each channel")
    return channels.flatten()


def _value_and_constant(first: Any, second: Any) -> tuple[Any, Any]:
    if is_value(first) and is_value(second):
        return None, None
    return (first, second) if is_value(first) else (second, first)


def is_value(value: Any) -> bool:
    """True for the output of a layer, however moved."""
    return isinstance(value, (fx.Node, Moved))


# activations


@aten("relu")
def _relu(translator: Translator, a: Arguments) -> Any:
    """A quantised activation."""
    return _each(translator, a["self"], nn.ReLU())


@aten("relu6")
def _relu6(translator: Translator, a: Arguments) -> Any:
    """A quantised activation with a ceiling."""
    return _each(translator, a["self"], nn.ReLU6())


@aten("hardtanh")
def _hardtanh(translator: Translator, a: Arguments) -> Any:
    """A quantised activation with a ceiling, if it clips from 0."""
    return _clip(translator, a["self"], a["min_val"], a["max_val"])


@aten("clamp", "clip")
def _clamp(translator: Translator, a: Arguments) -> Any:
    """A quantised activation, with a ceiling if there is one, if it clips from 0."""
    return _clip(translator, a["self"], a["min"], a["max"])


@aten("clamp_min")
def _clamp_min(translator: Translator, a: Arguments) -> Any:
    """A quantised activation, if it clips from 0."""
    return _clip(translator, a["self"], a["min"], None)


@aten("threshold")
def _threshold(translator: Translator, a: Arguments) -> Any:
    """ReLU, where it cuts off at 0."""
    if a["threshold"] != 0 or a["value"] != 0:
        raise UnsupportedError(f"cuts off at {a['threshold']}", "Use ReLU")
    return _clip(translator, a["self"], 0, None)


@aten("maximum")
def _maximum(translator: Translator, a: Arguments) -> Any:
    """A quantised activation, if it clips from 0."""
    value, low = _value_and_constant(a["self"], a["other"])
    if value is None or low.tensor.abs().max() != 0:
        raise translator._unsupported("maximum")
    return _clip(translator, value, 0, None)


def _clip(translator: Translator, value: Any, low: Any, high: Any) -> Any:
    if any(not isinstance(bound, (int, float, type(None))) for bound in (low, high)):
        raise UnsupportedError("clips to a tensor", "Clip to numbers")
    if low != 0 or (high is not None and high <= 0):
        raise UnsupportedError(f"clips to {low} .. {high}", "Use ReLU, or clip from 0 to a positive number")
    return _each(translator, value, nn.ReLU() if high is None else nn.Hardtanh(0.0, float(high)))


@aten("quantise")
def _quantise(translator: Translator, a: Arguments) -> Any:
    """A quantised activation with the step of the program that the network comes from."""
    layer = fixed_activation(a["step"], a["low"], a["high"], a["bits"], ROUNDINGS[a["rounding"]])
    return _each(translator, a["x"], layer)


@aten("dropout", "feature_dropout")
def _dropout(translator: Translator, a: Arguments) -> Any:
    """Nothing in evaluation; dropout again in training."""
    if a["train"]:
        raise UnsupportedError("drops values in evaluation mode too", "Pass training=self.training")
    value = next(value for value in a.values() if is_value(value))
    maps = len(translator.shape(value)) > 1 and "feature_dropout" in str(translator.here.target)
    return _each(translator, value, nn.Dropout2d(a["p"]) if maps else nn.Dropout(a["p"]))


def _each(translator: Translator, value: Any, layer: nn.Module) -> Any:
    """A layer that treats every value alike and keeps 0, so that it may come before a move or after it."""
    if not isinstance(value, Moved) or value.made is not None or not value.in_order:
        try:
            return translator.call(layer, translator.tensor(value))
        except UnsupportedError:
            if not isinstance(value, Moved):
                raise
    return Moved(translator.call(layer, value.node), value.source, value.index)


def pair(value: Any, line: int = 1) -> tuple[int, int]:
    """Two numbers from one or two; a list of one belongs to a line, whose height has the number `line`."""
    values = list(value) if isinstance(value, (tuple, list)) else [value, value]
    return (int(values[0]), int(values[1])) if len(values) > 1 else (line, int(values[0]))
