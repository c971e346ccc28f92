"""What pools and moves of ONNX become: one function an operator, as in `onnx_rules`."""

from __future__ import annotations

import operator as python
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F

from fastsnn_deploy.quantisation.graph_edit import UnsupportedError
from fastsnn_deploy.quantisation.sources.onnx import Array, Translator, Value, operator
from fastsnn_deploy.quantisation.sources.onnx_rules import Attributes, Inputs, constant, optional, pads

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
    before, behind = pads(t, inputs[0], a, extents, stride)
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
    sizes = optional(inputs, 3)
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
    sizes = [int(size) for size in constant(inputs[1], "its shape")]
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
    given, value, places = a.pop("pads", None), optional(inputs, 2), optional(inputs, 3)
    zeros = [int(n) for n in (constant(inputs[1], "its pads") if given is None else given)]
    mode = a.pop("mode", "constant")
    level = float(a.pop("value", 0.0) if value is None else value)
    rank = t.example(inputs[0]).dim()
    order = list(range(rank)) if places is None else [int(axis) % rank for axis in places]
    half = len(zeros) // 2
    ends = {axis: (zeros[i], zeros[half + i]) for i, axis in enumerate(order)}
    flat = [n for axis in range(rank - 1, 0, -1) for n in ends.get(axis, (0, 0))]
    if any(ends.get(0, (0, 0))):
        raise UnsupportedError("adds images to the batch")
    if mode != "constant":
        flat = flat[: 2 * (rank - 2)]
    return t.call(F.pad, inputs[0], flat, {"edge": "replicate", "wrap": "circular"}.get(mode, mode), level)


@operator("Split")
def _split(t: Translator, inputs: Inputs, a: Attributes) -> list[Value]:
    axis, sizes = a.pop("axis", 0), optional(inputs, 1)
    sizes = a.pop("split", None) if sizes is None else [int(size) for size in sizes]
    parts = a.pop("num_outputs", len(t.here.output))
    whole = t.example(inputs[0]).shape[axis]
    made = t.call(torch.split, inputs[0], sizes or -(-whole // parts), axis)
    return [t.call(python.getitem, made, i) for i in range(len(t.here.output))]


@operator("Slice")
def _slice(t: Translator, inputs: Inputs, a: Attributes) -> fx.Node:
    rank = t.example(inputs[0]).dim()
    starts = a.pop("starts", None) or [int(n) for n in constant(inputs[1], "its start")]
    ends = a.pop("ends", None) or [int(n) for n in constant(inputs[2], "its end")]
    axes, steps = optional(inputs, 3), optional(inputs, 4)
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
    chosen, axis = constant(inputs[1], "its index"), a.pop("axis", 0)
    if axis == 0:
        raise UnsupportedError("chooses images of a batch")
    if chosen.ndim == 0:
        return t.call(torch.select, inputs[0], axis, int(chosen))
    return t.call(torch.index_select, inputs[0], axis, chosen.reshape(-1))


def _last(inputs: Inputs) -> Any:
    return next((v for v in reversed(inputs[1:]) if isinstance(v, np.ndarray) and v.size), None)


def _axes(inputs: Inputs, a: Attributes) -> list[int]:
    given = optional(inputs, 1)
    return [int(axis) for axis in (a.pop("axes", []) if given is None else given)]
