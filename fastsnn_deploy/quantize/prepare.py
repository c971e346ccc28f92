"""From a float `nn.Module` to its quantised twin, ready for training."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.errors import InputError, LoweringError, Problem
from fastsnn_deploy.quantize.canonical import add_module, canonicalise, insert_after, problem_at
from fastsnn_deploy.quantize.layers import (
    PadChannels,
    QuantActivation,
    QuantConv2d,
    QuantInput,
    QuantLinear,
    Subsample,
)

_RELU = (nn.ReLU, nn.ReLU6)
_WEIGHTED = (nn.Conv2d, nn.Linear)
_AVERAGE = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_VANISHES = (nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d)
"""Modules that compute nothing in deployment."""
_MOVES = (nn.MaxPool2d, nn.Upsample, Subsample, PadChannels)
"""Modules that select or copy spikes: what they read must be on a grid."""
_KEEPS_GRID = (*_VANISHES, *_MOVES)


def prepare(
    model: nn.Module,
    bits: int = 2,
    weight_bits: int = 4,
    *,
    first_bits: int = 8,
    last_bits: int = 8,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    input_step: float = 1 / 255,
    input_levels: tuple[int, int] = (0, 255),
) -> fx.GraphModule:
    """The quantised twin of a float network: same structure, weights copied, every activation quantised.

    bits: activation bits (1-8). weight_bits: weight bits (2-8) of inner layers; first_bits and last_bits those of
    the layers that read the image and that make the output. The output layer has one weight step, so that its
    integers compare across classes; all others have one per channel.
    mean, std: per channel, what the float network's images were normalised with. The twin takes *raw* images
    (floats in units of the data, [0, 1] for pixels) and normalises them itself, on the integer grid that the chip
    sees: step input_step, levels input_levels. Differences in std go into the first weights exactly.
    The float model is not changed. Raises LoweringError listing every unsupported place, InputError for options.
    """
    _check_options(bits, weight_bits, first_bits, last_bits)
    _check_input_options(mean, std, input_step, input_levels)
    parameter = next(model.parameters(), None)
    twin = canonicalise(copy.deepcopy(model).float().cpu())
    _require_one_input(twin)
    _require_own_weights(twin)
    _pull_relu_before_max_pool(twin)
    first, last = first_layers(twin), last_layers(twin)
    for node, module in _modules(twin):
        if type(module) in _WEIGHTED:
            chosen = last_bits if node in last else first_bits if node in first else weight_bits
            _replace(twin, node, _quantise_weighted(module, chosen, per_channel=node not in last))
        elif isinstance(module, _RELU):
            _replace(twin, node, QuantActivation(bits))
    _insert_input(twin, first, mean, std, input_step, input_levels)
    _insert_missing_activations(twin, bits)
    _tie_concatenated_steps(twin)
    twin.graph.lint()
    twin.recompile()
    twin.delete_all_unused_submodules()
    return twin.to(parameter.device) if parameter is not None else twin


def _check_options(bits: int, weight_bits: int, first_bits: int, last_bits: int) -> None:
    problems = [
        Problem(f"{name}={value!r}", f"must be a whole number from {low} to 8")
        for name, value, low in (
            ("bits", bits, 1),
            ("weight_bits", weight_bits, 2),
            ("first_bits", first_bits, 2),
            ("last_bits", last_bits, 2),
        )
        if type(value) is not int or not low <= value <= 8
    ]
    if problems:
        raise InputError("these bit widths cannot be used", problems)


def _check_input_options(mean: Sequence[float], std: Sequence[float], step: float, levels: tuple[int, int]) -> None:
    problems = []
    if not all(map(math.isfinite, mean)) or len(mean) == 0:
        problems.append(Problem(f"mean={tuple(mean)}", "must hold finite numbers, one or one for each channel"))
    if not all(0 < value < math.inf for value in std) or len(std) == 0:
        problems.append(Problem(f"std={tuple(std)}", "must hold positive numbers, one or one for each channel"))
    if len(mean) != len(std) and 1 not in (len(mean), len(std)):
        problems.append(Problem("mean and std", f"have {len(mean)} and {len(std)} values", "Give one for each channel"))
    if not 0 < step < math.inf:
        problems.append(Problem(f"input_step={step}", "must be a positive number"))
    if levels[0] >= levels[1]:
        problems.append(Problem(f"input_levels={levels}", "must increase"))
    if problems:
        raise InputError("these input options cannot be used", problems)


def _modules(twin: fx.GraphModule) -> Iterator[tuple[fx.Node, nn.Module]]:
    for node in list(twin.graph.nodes):
        if node.op == "call_module":
            yield node, twin.get_submodule(str(node.target))


def _module(twin: fx.GraphModule, node: Any) -> nn.Module | None:
    return twin.get_submodule(str(node.target)) if isinstance(node, fx.Node) and node.op == "call_module" else None


def _replace(twin: fx.GraphModule, node: fx.Node, new: nn.Module) -> None:
    """Put a new module at a call site. A reused nn.ReLU has no state, but each of its calls gets its own step."""
    if isinstance(new, QuantActivation):
        node.target = add_module(twin, node, new)
        return
    parent_path, _, name = str(node.target).rpartition(".")
    setattr(twin.get_submodule(parent_path), name, new.train(twin.training))


def _require_own_weights(twin: fx.GraphModule) -> None:
    """Layers with weights are called once each, and pad with zeros."""
    problems = []
    calls: dict[str, int] = {}
    for node, module in _modules(twin):
        calls[str(node.target)] = calls.get(str(node.target), 0) + 1
        if type(module) in _WEIGHTED and calls[str(node.target)] == 2:
            what = f"layer '{node.target}' is called more than once"
            problems.append(problem_at(node, what, "Give each call its own layer"))
        if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros" and calls[str(node.target)] == 1:
            problems.append(problem_at(node, f"padding_mode '{module.padding_mode}' is not supported", "Use 'zeros'"))
    if problems:
        raise LoweringError("layers with weights are used in a way that has no spiking form", problems)


def _quantise_weighted(module: nn.Module, bits: int, per_channel: bool) -> nn.Module:
    new: QuantConv2d | QuantLinear
    options: dict[str, Any] = {"bias": module.bias is not None, "weight_bits": bits, "per_channel": per_channel}
    options["device"] = "meta"  # weights are copied, so none are drawn
    if isinstance(module, nn.Conv2d):
        new = QuantConv2d(
            module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding,
            module.dilation, module.groups, **options,
        )  # fmt: skip
    else:
        assert isinstance(module, nn.Linear)
        new = QuantLinear(module.in_features, module.out_features, **options)
    new.to_empty(device="cpu")
    with torch.no_grad():
        new.weight.copy_(module.weight)
        if module.bias is not None and new.bias is not None:
            new.bias.copy_(module.bias)
    new.reset_weight_step()
    return new


def _require_one_input(twin: fx.GraphModule) -> None:
    inputs = [node for node in twin.graph.nodes if node.op == "placeholder"]
    outputs = next(node for node in twin.graph.nodes if node.op == "output").args
    problems = []
    if len(inputs) != 1:
        problems.append(
            Problem("forward", f"takes {len(inputs)} tensors", "Only networks with one input are supported")
        )
    if not isinstance(outputs[0], fx.Node):
        problems.append(Problem("forward", "returns several values", "Return one tensor"))
    if problems:
        raise LoweringError("the network's signature is not supported", problems)


def _pull_relu_before_max_pool(twin: fx.GraphModule) -> None:
    """relu(maxpool(x)) = maxpool(relu(x)): the spiking max pool needs quantised inputs, so ReLU goes first."""
    for node, module in _modules(twin):
        source = node.args[0]
        if not isinstance(module, _RELU) or not isinstance(_module(twin, source), nn.MaxPool2d):
            continue
        assert isinstance(source, fx.Node)
        if len(source.users) > 1 or isinstance(_module(twin, source.args[0]), _RELU):
            continue
        before = source.args[0]
        source.replace_input_with(before, node)  # type: ignore[arg-type]
        node.replace_all_uses_with(source, delete_user_cb=lambda user, pool=source: user is not pool)  # type: ignore[misc]
        node.args = (before,)
        source.prepend(node)


def _image_readers(twin: fx.GraphModule) -> list[fx.Node]:
    """What computes with the image, looking through what only moves pixels."""
    found, waiting = [], [node for node in twin.graph.nodes if node.op == "placeholder"]
    while waiting:
        for user in waiting.pop().users:
            if isinstance(_module(twin, user), (*_KEEPS_GRID, QuantInput)):
                waiting.append(user)
            else:
                found.append(user)
    return found


def first_layers(twin: fx.GraphModule) -> set[fx.Node]:
    """Layers with weights that read the image."""
    return {node for node in _image_readers(twin) if isinstance(_module(twin, node), _WEIGHTED)}


def last_layers(twin: fx.GraphModule) -> set[fx.Node]:
    """Layers with weights whose result reaches the output without an activation between."""
    found: set[fx.Node] = set()
    waiting = list(next(node for node in twin.graph.nodes if node.op == "output").all_input_nodes)
    while waiting:
        node = waiting.pop()
        module = _module(twin, node)
        if isinstance(module, _WEIGHTED):
            found.add(node)
        elif not isinstance(module, (*_RELU, QuantActivation)):
            waiting += node.all_input_nodes
    return found


def _insert_input(
    twin: fx.GraphModule,
    first: set[fx.Node],
    mean: Sequence[float],
    std: Sequence[float],
    step: float,
    levels: tuple[int, int],
) -> None:
    channels = _input_channels(twin, first, max(len(mean), len(std)))
    if len(mean) not in (1, channels):
        raise InputError(f"mean has {len(mean)} values, the image {channels} channels. Give one for each channel")
    common = float(torch.tensor(tuple(std), dtype=torch.float64).mean())
    if len(set(std)) > 1:
        _fold_std(twin, torch.tensor(tuple(std), dtype=torch.float64))
    image = next(node for node in twin.graph.nodes if node.op == "placeholder")
    insert_after(twin, image, QuantInput(channels, step, *levels, mean=mean, std=common), name="image")


def _fold_std(twin: fx.GraphModule, std: Tensor) -> None:
    """Divide the weights that read channel c by std[c] / mean(std)."""
    readers = sorted(set(_image_readers(twin)))
    problems = []
    for node in readers:
        layer = _module(twin, node)
        if not isinstance(layer, QuantConv2d) or layer.groups != 1 or layer.in_channels != len(std):
            fix = "Give one std for all channels, or read the image with an ordinary Conv2d only"
            what = "cannot take up a std that differs between channels"
            problems.append(problem_at(node, what, fix))
    if problems:
        raise LoweringError("the image's std cannot be folded into the first layer", problems)
    for node in readers:
        layer = _module(twin, node)
        assert isinstance(layer, QuantConv2d)
        with torch.no_grad():
            layer.weight.mul_((std.mean() / std).view(1, -1, 1, 1).to(layer.weight))
        layer.reset_weight_step()


def _input_channels(twin: fx.GraphModule, first: set[fx.Node], given: int) -> int:
    for node in first:
        layer = _module(twin, node)
        if isinstance(layer, nn.Conv2d):
            return layer.in_channels
        if isinstance(layer, nn.Linear) and given == 1 and isinstance(node.args[0], fx.Node):
            return layer.in_features if node.args[0].op == "placeholder" else 1
    return given


def _insert_missing_activations(twin: fx.GraphModule, bits: int) -> None:
    """Spikes can only leave a quantised activation: insert one wherever a layer reads something else.

    Sums without a ReLU get a signed one. Average pools round where they stand, unless only a flatten and a linear
    layer follow: there the division goes into the weight scale.
    """
    nonnegative: dict[fx.Node, bool | None] = {}  # None: not on a grid
    for node in list(twin.graph.nodes):
        if node.op == "placeholder":
            nonnegative[node] = None
            continue
        if node.op == "output":
            continue
        module = _module(twin, node)
        needs = isinstance(module, (QuantConv2d, QuantLinear, *_AVERAGE, *_MOVES))
        for source in list(node.all_input_nodes):
            if needs and nonnegative[source] is None and not _folds_into_linear(twin, source, module):
                pool = _behind(twin, source)
                unsigned = isinstance(_module(twin, pool), _AVERAGE) and nonnegative[pool.all_input_nodes[0]] is True
                activation = QuantActivation(bits if unsigned else max(bits, 2), signed=not unsigned)
                nonnegative[insert_after(twin, source, activation)] = unsigned
        sources = [nonnegative[source] for source in node.all_input_nodes]
        if isinstance(module, (QuantInput, QuantActivation)):
            nonnegative[node] = isinstance(module, QuantActivation) and not module.signed
        elif isinstance(module, _KEEPS_GRID):
            nonnegative[node] = sources[0]
        elif node.target is torch.cat:
            nonnegative[node] = None if None in sources else all(sources)
        else:
            nonnegative[node] = None


def _behind(twin: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The node whose values `node` hands on unchanged."""
    while isinstance(_module(twin, node), _VANISHES):
        node = node.all_input_nodes[0]
    return node


def _folds_into_linear(twin: fx.GraphModule, source: fx.Node, reader: nn.Module | None) -> bool:
    """True for average pool -> flatten -> linear, with dropout anywhere between."""
    return isinstance(reader, QuantLinear) and isinstance(_module(twin, _behind(twin, source)), _AVERAGE)


def _tie_concatenated_steps(twin: fx.GraphModule) -> None:
    """Activations that meet in a concat share one step, so that counts mean the same on every channel."""
    for node in twin.graph.nodes:
        if node.target is not torch.cat:
            continue
        owners = [owner for source in node.all_input_nodes for owner in _grid_owners(twin, source)]
        activations = [m for m in owners if isinstance(m, QuantActivation)]
        if len(activations) < len(owners):
            continue  # an image among them: lowering says what to do
        for activation in activations[1:]:
            replaced = activation.learned
            for _, other in _modules(twin):
                if isinstance(other, QuantActivation) and other.learned is replaced:
                    other.share(activations[0])


def _grid_owners(twin: fx.GraphModule, node: fx.Node) -> list[nn.Module]:
    """The QuantActivation or QuantInput modules whose grids `node`'s values lie on."""
    module = _module(twin, node)
    if isinstance(module, (QuantActivation, QuantInput)):
        return [module]
    if isinstance(module, _KEEPS_GRID) or node.target is torch.cat:
        return [owner for source in node.all_input_nodes for owner in _grid_owners(twin, source)]
    return []


def calibrate(twin: nn.Module, images: Tensor) -> None:
    """Set the steps of all activations that have not seen data from one batch of raw images [N, ...].

    Runs in evaluation mode: no dropout, and the statistics of batch norm stay.
    """
    modes = {module: module.training for module in twin.modules()}
    twin.eval()
    try:
        with torch.no_grad():
            twin(images)
    finally:
        for module, training in modes.items():
            module.training = training
