"""From a quantised model (torch) to a `QuantGraph` (NumPy): one rule a module type, all problems at once."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import fx, nn

from fastsnn_deploy.conversion import quant_graph as q
from fastsnn_deploy.errors import InputError, LoweringError, Problem
from fastsnn_deploy.graph.images import image_shape
from fastsnn_deploy.quantisation.capture import canonicalise
from fastsnn_deploy.quantisation.filters import Bilinear, BorderAverage, Filter, UnevenAverage
from fastsnn_deploy.quantisation.graph_edit import FLOAT_MODULES, problem_at
from fastsnn_deploy.quantisation.layers import (
    QuantActivation,
    QuantConv2d,
    QuantConvTranspose2d,
    QuantInput,
    QuantLinear,
)
from fastsnn_deploy.quantisation.moves import Affine, PadChannels, PadSpace, Scale, SelectChannels, Subsample
from fastsnn_deploy.quantisation.proof import require_shape

M = TypeVar("M", bound=nn.Module)
Rule = Callable[[Any, dict[str, Any], tuple[int, ...]], q.QuantNode | None]

RAW_IMAGE = ""
"""Stands for the network's argument where the name of a node is expected."""

NOTHING = (nn.Identity, nn.Dropout, nn.Dropout2d)
"""Modules that vanish in deployment."""

_RULES: dict[type[nn.Module], Rule] = {}


class _CannotTraceError(Exception):
    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


def traces(*types: type[nn.Module]) -> Callable[[Rule], Rule]:
    """Register how module types become nodes: rule(module, common fields, source shape), None for a no-op."""

    def decorator(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(types, rule))
        return rule

    return decorator


def trace(quantised: nn.Module, input_shape: tuple[int, ...]) -> q.QuantGraph:
    """The quantised graph of a quantised model made by `fd.prepare` or built from the drop-in layers.

    input_shape: (C, H, W) or (N,) of one raw image. Raises LoweringError listing every place that cannot be
    traced, InputError if an image of that shape does not pass through the network.
    """
    module = canonicalise(quantised)
    require_shape(module, input_shape)
    _check_signature(module)
    problems = _untrained(module)
    if problems:  # a run would set steps in the user's network
        module = copy.deepcopy(module)
    _propagate_shapes(module, input_shape)
    made: dict[fx.Node, str] = {}
    nodes: list[q.QuantNode] = []
    output = ""
    for node in module.graph.nodes:
        if node.op == "placeholder":
            made[node] = RAW_IMAGE
        elif node.op == "output":
            output = made[node.args[0]]
        else:
            try:
                new = _node(module, node, made)
            except _CannotTraceError as error:
                problems.append(problem_at(node, str(error), error.fix))
                new, made[node] = None, node.name
            if new is not None:
                nodes.append(new)
            made.setdefault(node, new.name if new is not None else made[node.all_input_nodes[0]])
    if problems:
        raise LoweringError(f"{len(problems)} places cannot be traced", problems)
    if output == RAW_IMAGE:
        raise LoweringError("the network cannot be traced", [Problem("forward", "returns the raw image")])
    return q.QuantGraph(tuple(nodes), output)


def _check_signature(module: fx.GraphModule) -> None:
    inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
    returned = next(node for node in module.graph.nodes if node.op == "output").args[0]
    problems = []
    if len(inputs) != 1:
        fix = "Only networks with one input are supported"
        problems.append(Problem("forward", f"takes {len(inputs)} tensors", fix))
    if not isinstance(returned, fx.Node):
        problems.append(Problem("forward", "does not return one tensor", "Return one tensor"))
    if problems:
        raise LoweringError("the network's signature is not supported", problems)


def _untrained(module: fx.GraphModule) -> list[Problem]:
    problems = []
    for node in module.graph.nodes:
        if node.op != "call_module":
            continue
        layer = module.get_submodule(str(node.target))
        if isinstance(layer, QuantActivation) and not layer.initialised:
            problems.append(problem_at(node, "has never seen data", "Train the network, or call fd.calibrate"))
        for name, tensor in layer.state_dict().items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                problems.append(problem_at(node, f"{name} holds NaN or infinity", "Train again"))
    return problems


class _Shapes(fx.Interpreter):
    """Notes the shape of every value in node.meta["shape"], without the batch."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            n.meta["shape"] = tuple(result.shape[1:])
        return result


def _propagate_shapes(module: fx.GraphModule, input_shape: tuple[int, ...]) -> None:
    shape = image_shape(input_shape)
    was_training = module.training
    module.eval()
    parameter = next(module.parameters(), None)
    image = torch.zeros(1, *shape, device=parameter.device if parameter is not None else "cpu")
    try:
        with torch.no_grad():
            _Shapes(module).run(image)
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(
            f"an image of shape {shape} does not pass through the network ({reason}). Check input_shape"
        ) from error
    finally:
        module.train(was_training)


def _shape(node: fx.Node) -> tuple[int, ...]:
    shape: tuple[int, ...] = node.meta["shape"]
    return shape


def _node(module: fx.GraphModule, node: fx.Node, made: dict[fx.Node, str]) -> q.QuantNode | None:
    operands = node.args[0] if node.target is torch.cat else node.args
    inputs = tuple(made[arg] for arg in operands if isinstance(arg, fx.Node))  # type: ignore[union-attr]
    common = {
        "name": node.name,
        "inputs": tuple(name for name in inputs if name != RAW_IMAGE),
        "shape": _shape(node),
        "module": node.meta.get("module", ""),
        "line": node.meta.get("line", ""),
    }
    layer = module.get_submodule(str(node.target)) if node.op == "call_module" else None
    if RAW_IMAGE in inputs and not isinstance(layer, (QuantInput, *NOTHING)):
        raise _CannotTraceError("reads the raw image", "Put a QuantInput in front, as fd.prepare does")
    if node.target is operator.add:
        shapes = {_shape(source) for source in node.all_input_nodes}
        if len(shapes) > 1:
            raise _CannotTraceError(f"adds shapes {sorted(shapes)}", "Broadcasting is not supported")
        return q.Addition(**common)
    if node.target is torch.cat:
        return q.Concatenation(**common)
    assert layer is not None
    if isinstance(layer, FLOAT_MODULES) and type(layer) not in _RULES:
        fix = "Call fd.prepare, and train"
        raise _CannotTraceError(f"{type(layer).__name__} is not quantised", fix)
    if isinstance(layer, QuantInput) and RAW_IMAGE not in inputs:
        raise _CannotTraceError("is an input in the middle of the network", "Use a QuantActivation here")
    return _RULES[type(layer)](layer, common, _shape(node.all_input_nodes[0]))


def _array(tensor: torch.Tensor) -> q.Float64:
    return tensor.detach().double().cpu().numpy()


def _pair(value: Any) -> q.Pair:
    return (int(value[0]), int(value[1])) if isinstance(value, (tuple, list)) else (int(value), int(value))


@traces(*NOTHING)
def _nothing(layer: nn.Module, common: dict[str, Any], source: tuple[int, ...]) -> None:
    return None


@traces(QuantInput)
def _image(layer: QuantInput, common: dict[str, Any], source: tuple[int, ...]) -> q.QuantNode:
    offset = layer.offset.cpu().numpy().astype(np.int64)
    if offset.shape != (source[0],):
        if len(set(offset.tolist())) > 1:
            raise _CannotTraceError(f"has {len(offset)} means for {source[0]} channels", "Give one mean a channel")
        offset = np.full(source[0], offset[0])
    return q.QuantImage(**common, step=layer.step, low=layer.low, high=layer.high, offset=offset, scale=layer.scale)


@traces(QuantActivation)
def _activation(layer: QuantActivation, common: dict[str, Any], source: tuple[int, ...]) -> q.QuantNode:
    step, rule = float(layer.step_in_use().double()), layer.rule
    return q.Activation(**common, step=step, low=layer.low, high=layer.high, shift=rule.shift, even=rule.even)


def _weights(layer: QuantConv2d | QuantConvTranspose2d | QuantLinear) -> dict[str, Any]:
    weight, scale = layer.integer_weight()
    bias = np.zeros(len(weight)) if layer.bias is None else _array(layer.bias)
    return {"weight": weight.cpu().numpy(), "weight_scale": _array(scale), "bias": bias}


@traces(QuantConv2d)
def _convolution(layer: QuantConv2d, common: dict[str, Any], source: tuple[int, ...]) -> q.QuantNode:
    return q.Convolution(
        **common,
        **_weights(layer),
        stride=_pair(layer.stride),
        padding=_conv_padding(layer),
        dilation=_pair(layer.dilation),
        groups=layer.groups,
    )


@traces(QuantConvTranspose2d)
def _transposed_convolution(
    layer: QuantConvTranspose2d, common: dict[str, Any], source: tuple[int, ...]
) -> q.QuantNode:
    return q.TransposedConvolution(
        **common,
        **_weights(layer),
        stride=_pair(layer.stride),
        padding=_pair(layer.padding),
        output_padding=_pair(layer.output_padding),
        dilation=_pair(layer.dilation),
        groups=layer.groups,
    )


def _conv_padding(layer: nn.Conv2d) -> q.Pair:
    if layer.padding_mode != "zeros":
        raise _CannotTraceError(f"padding_mode '{layer.padding_mode}'", "Only zero padding is supported")
    if layer.padding == "valid":
        return (0, 0)
    if layer.padding == "same":
        extents = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        if any(extent % 2 for extent in extents):
            raise _CannotTraceError("padding='same' with an even kernel is asymmetric", "Use an odd kernel")
        return (extents[0] // 2, extents[1] // 2)
    return _pair(layer.padding)


@traces(QuantLinear)
def _dense(layer: QuantLinear, common: dict[str, Any], source: tuple[int, ...]) -> q.QuantNode:
    if len(source) != 1:
        raise _CannotTraceError(f"linear layer on shape {source}", "Flatten before it")
    return q.Dense(**common, **_weights(layer))


@traces(nn.BatchNorm2d, nn.BatchNorm1d)
def _norm(layer: nn.BatchNorm2d, common: dict[str, Any], source: tuple[int, ...]) -> q.QuantNode:
    if layer.running_mean is None or layer.running_var is None:
        raise _CannotTraceError("batch norm without running statistics", "Use track_running_stats=True")
    variance = _array(layer.running_var) + layer.eps
    if not (variance > 0).all():
        raise _CannotTraceError("batch norm divides by zero: variance + eps is not positive", "Use a positive eps")
    deviation = np.sqrt(variance)
    gain = (_array(layer.weight) if layer.affine else np.ones_like(deviation)) / deviation
    shift = (_array(layer.bias) if layer.affine else 0.0) - gain * _array(layer.running_mean)
    return q.Normalisation(**common, gain=gain, shift=shift)


@traces(nn.MaxPool2d)
def _max_pool(layer: nn.MaxPool2d, common: dict[str, Any], source: tuple[int, ...]) -> q.QuantNode:
    if layer.return_indices:
        raise _CannotTraceError("max pool returns indices", "Use return_indices=False")
    return q.MaxPooling(
        **common,
        kernel=_pair(layer.kernel_size),
        stride=_pair(layer.stride or layer.kernel_size),
        padding=_pair(layer.padding),
        dilation=_pair(layer.dilation),
        ceil_mode=bool(layer.ceil_mode),
    )


@traces(nn.AvgPool2d)
def _avg_pool(layer: nn.AvgPool2d, common: dict[str, Any], source: tuple[int, ...]) -> q.QuantNode:
    kernel, stride = _pair(layer.kernel_size), _pair(layer.stride or layer.kernel_size)
    padding = _pair(layer.padding)
    if padding != (0, 0) and not layer.count_include_pad and layer.divisor_override is None:
        raise _CannotTraceError("average pool with count_include_pad=False divides borders by less", "Use padding=0")
    floored = tuple((source[1 + i] + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i in (0, 1))
    if layer.ceil_mode and floored != common["shape"][1:]:
        raise _CannotTraceError("average pool with ceil_mode divides the last windows by less", "Use ceil_mode=False")
    divisor = float(layer.divisor_override or kernel[0] * kernel[1])
    if divisor <= 0:
        raise _CannotTraceError(f"divisor_override {divisor} is not positive", "Use a positive divisor")
    return q.AveragePooling(**common, kernel=kernel, stride=stride, padding=padding, divisor=divisor)


@traces(nn.AdaptiveAvgPool2d)
def _adaptive_avg_pool(layer: nn.AdaptiveAvgPool2d, common: dict[str, Any], source: tuple[int, ...]) -> q.QuantNode:
    outputs = common["shape"][1:]
    if len(source) != 3 or any(source[1 + i] % outputs[i] for i in (0, 1)):
        raise _CannotTraceError(f"adaptive pool from {source[1:]} to {outputs}", "Use sizes that divide")
    kernel = (source[1] // outputs[0], source[2] // outputs[1])
    return q.AveragePooling(
        **common, kernel=kernel, stride=kernel, padding=(0, 0), divisor=float(kernel[0] * kernel[1])
    )


@traces(nn.Flatten)
def _flatten(layer: nn.Flatten, common: dict[str, Any], source: tuple[int, ...]) -> q.QuantNode | None:
    if layer.start_dim != 1 or layer.end_dim not in (-1, len(source)):
        raise _CannotTraceError(f"flatten from axis {layer.start_dim} to {layer.end_dim}", "Use nn.Flatten(1)")
    return None if len(source) == 1 else q.Flattening(**common)


@traces(nn.Upsample)
def _upsample(layer: nn.Upsample, common: dict[str, Any], source: tuple[int, ...]) -> q.QuantNode:
    shape = common["shape"]
    factor = (shape[1] // source[1], shape[2] // source[2])
    given = layer.scale_factor if layer.scale_factor is not None and not layer.recompute_scale_factor else factor
    scale = tuple(given) if isinstance(given, (tuple, list)) else (given, given)
    # 2.2 may give the size of factor 2, but copies other pixels
    whole = scale == factor and (source[1] * factor[0], source[2] * factor[1]) == shape[1:]
    if layer.mode != "nearest" or not whole:
        raise _CannotTraceError(f"upsample mode '{layer.mode}' by {layer.scale_factor}", "Use nearest, whole factors")
    return q.Upsampling(**common, factor=factor)


@traces(BorderAverage, UnevenAverage, Bilinear)
def _filter(layer: Filter, common: dict[str, Any], source: tuple[int, ...]) -> q.QuantNode:
    rows, columns = (_array(layer.matrix(source[1 + axis], axis)) for axis in (0, 1))
    steady = [layer.regular(axis) for axis in (0, 1)]
    first, second = (None if found is None else q.Taps(tuple(found[0]), *found[1:]) for found in steady)
    return q.Resampling(**common, rows=rows, columns=columns, regular=(first, second), up=layer.up)


@traces(Subsample)
def _subsample(layer: Subsample, common: dict[str, Any], source: tuple[int, ...]) -> q.QuantNode:
    return q.Subsampling(**common, stride=layer.stride)


@traces(PadChannels)
def _pad_channels(layer: PadChannels, common: dict[str, Any], source: tuple[int, ...]) -> q.QuantNode:
    return q.ChannelPadding(**common, before=layer.before, after=layer.after)


@traces(PadSpace)
def _pad_space(layer: PadSpace, common: dict[str, Any], source: tuple[int, ...]) -> q.QuantNode:
    return q.SpacePadding(**common, left=layer.left, right=layer.right, top=layer.top, bottom=layer.bottom)


@traces(SelectChannels)
def _select_channels(layer: SelectChannels, common: dict[str, Any], source: tuple[int, ...]) -> q.QuantNode:
    return q.Selection(**common, channels=layer.channels)


@traces(Scale)
def _scale(layer: Scale, common: dict[str, Any], source: tuple[int, ...]) -> q.QuantNode:
    return q.Scaling(**common, factor=layer.factor)


@traces(Affine)
def _affine(layer: Affine, common: dict[str, Any], source: tuple[int, ...]) -> q.QuantNode:
    return q.Normalisation(**common, gain=_array(layer.weight), shift=_array(layer.bias))
