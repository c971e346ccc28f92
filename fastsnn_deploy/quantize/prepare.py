"""From a float `nn.Module` to its quantised twin, ready for training."""

from __future__ import annotations

import copy
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
_KEEPS_GRID = (nn.MaxPool2d, nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d, nn.Upsample, Subsample, PadChannels)
"""Modules whose output is on the grid of their input (dropout and identity vanish in deployment)."""


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
    twin = canonicalise(copy.deepcopy(model))
    _require_one_input(twin)
    _pull_relu_before_max_pool(twin)
    first, last = _first_layers(twin), _last_layers(twin)
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
    return twin


def _check_options(bits: int, weight_bits: int, first_bits: int, last_bits: int) -> None:
    problems = [
        Problem(f"{name}={value}", f"must be {low} to 8")
        for name, value, low in (
            ("bits", bits, 1),
            ("weight_bits", weight_bits, 2),
            ("first_bits", first_bits, 2),
            ("last_bits", last_bits, 2),
        )
        if not low <= value <= 8
    ]
    if problems:
        raise InputError("these bit widths cannot be used", problems)


def _modules(twin: fx.GraphModule) -> Iterator[tuple[fx.Node, nn.Module]]:
    for node in list(twin.graph.nodes):
        if node.op == "call_module":
            yield node, twin.get_submodule(str(node.target))


def _module(twin: fx.GraphModule, node: Any) -> nn.Module | None:
    return twin.get_submodule(str(node.target)) if isinstance(node, fx.Node) and node.op == "call_module" else None


def _replace(twin: fx.GraphModule, node: fx.Node, new: nn.Module) -> None:
    """Give a call site its own new module. A module called twice becomes two, except that weights would split."""
    if isinstance(new, QuantActivation):  # a reused nn.ReLU has no state, but each call needs its own step
        node.target = add_module(twin, node, new)
        return
    parent_path, _, name = str(node.target).rpartition(".")
    calls = [n for n in twin.graph.nodes if n.op == "call_module" and n.target == node.target]
    if len(calls) > 1:
        raise LoweringError(
            "a layer with weights is called more than once",
            [problem_at(node, f"'{node.target}' is called {len(calls)} times", "Give each call its own layer")],
        )
    setattr(twin.get_submodule(parent_path), name, new)


def _quantise_weighted(module: nn.Module, bits: int, per_channel: bool) -> nn.Module:
    new: QuantConv2d | QuantLinear
    if isinstance(module, nn.Conv2d):
        if module.padding_mode != "zeros":
            raise LoweringError("padding", [Problem("Conv2d", f"padding_mode '{module.padding_mode}'", "Use 'zeros'")])
        new = QuantConv2d(
            module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding,
            module.dilation, module.groups, module.bias is not None, weight_bits=bits, per_channel=per_channel,
        )  # fmt: skip
    else:
        assert isinstance(module, nn.Linear)
        new = QuantLinear(
            module.in_features, module.out_features, module.bias is not None, weight_bits=bits, per_channel=per_channel
        )
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


def _first_layers(twin: fx.GraphModule) -> set[fx.Node]:
    """Layers with weights that read the image."""
    image = next(node for node in twin.graph.nodes if node.op == "placeholder")
    found, waiting = set(), list(image.users)
    while waiting:
        node = waiting.pop()
        module = _module(twin, node)
        if type(module) in _WEIGHTED:
            found.add(node)
        elif isinstance(module, _KEEPS_GRID):
            waiting += list(node.users)
    return found


def _last_layers(twin: fx.GraphModule) -> set[fx.Node]:
    """Layers with weights whose result reaches the output without an activation between."""
    found: set[fx.Node] = set()
    waiting = list(next(node for node in twin.graph.nodes if node.op == "output").all_input_nodes)
    while waiting:
        node = waiting.pop()
        module = _module(twin, node)
        if type(module) in _WEIGHTED:
            found.add(node)
        elif not isinstance(module, _RELU):
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
    if len(mean) != len(std) and 1 not in (len(mean), len(std)):
        raise InputError(f"mean has {len(mean)} values and std {len(std)}. Give one for each channel")
    if min(std) <= 0 or step <= 0 or levels[0] >= levels[1]:
        raise InputError(f"std {tuple(std)} and input_step {step} must be positive, and levels {levels} increase")
    channels = _input_channels(twin, first, max(len(mean), len(std)))
    common = float(torch.tensor(tuple(std), dtype=torch.float64).mean())
    if len(set(std)) > 1:
        for node in first:
            layer = _module(twin, node)
            if not isinstance(layer, QuantConv2d) or layer.groups != 1 or layer.in_channels != len(std):
                fix = "Give one std for all channels, or read the image with an ordinary Conv2d"
                raise LoweringError("the image's std", [problem_at(node, "differs between channels", fix)])
            with torch.no_grad():
                ratio = common / torch.tensor(tuple(std), dtype=torch.float64)
                layer.weight.mul_(ratio.view(1, -1, 1, 1).to(layer.weight))
            layer.reset_weight_step()
    image = next(node for node in twin.graph.nodes if node.op == "placeholder")
    insert_after(twin, image, QuantInput(channels, step, *levels, mean=mean, std=common))


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
        needs = isinstance(module, (QuantConv2d, QuantLinear, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d))
        for source in list(node.all_input_nodes):
            if needs and nonnegative[source] is None and not _folds_into_linear(twin, source, module):
                pooled = isinstance(_module(twin, source), (nn.AvgPool2d, nn.AdaptiveAvgPool2d))
                unsigned = pooled and nonnegative[source.all_input_nodes[0]] is True
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


def _folds_into_linear(twin: fx.GraphModule, source: fx.Node, reader: nn.Module | None) -> bool:
    """True for average pool -> flatten -> linear."""
    flat = isinstance(_module(twin, source), nn.Flatten)
    pooled = flat and isinstance(_module(twin, source.args[0]), (nn.AvgPool2d, nn.AdaptiveAvgPool2d))
    return pooled and isinstance(reader, QuantLinear)


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
            shared, replaced = activations[0].step, activation.step
            for _, other in _modules(twin):
                if isinstance(other, QuantActivation) and other.step is replaced:
                    other.step = shared


def _grid_owners(twin: fx.GraphModule, node: fx.Node) -> list[nn.Module]:
    """The QuantActivation or QuantInput modules whose grids `node`'s values lie on."""
    module = _module(twin, node)
    if isinstance(module, (QuantActivation, QuantInput)):
        return [module]
    if isinstance(module, _KEEPS_GRID) or node.target is torch.cat:
        return [owner for source in node.all_input_nodes for owner in _grid_owners(twin, source)]
    return []


def calibrate(twin: nn.Module, images: Tensor) -> None:
    """Set the steps of all activations that have not seen data from one batch of raw images [N, ...]."""
    with torch.no_grad():
        twin(images)
