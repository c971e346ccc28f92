"""From a float `nn.Module` to its quantised model, ready for training."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.errors import InputError, LoweringError, Problem, known_name, wrong_type
from fastsnn_deploy.graph.images import PIXEL
from fastsnn_deploy.graph.preprocessing import KEY, Preprocessing
from fastsnn_deploy.quantisation.bit_plan import BitPlan
from fastsnn_deploy.quantisation.capture import Captured, capture, unwrapped
from fastsnn_deploy.quantisation.drop_in import quantised_layer
from fastsnn_deploy.quantisation.fixed.image import PIXELS
from fastsnn_deploy.quantisation.fixed.prepare import prepared_fixed
from fastsnn_deploy.quantisation.fixed.quantiser import is_fixed
from fastsnn_deploy.quantisation.graph_edit import add_module, compiled, insert_after, problem_at
from fastsnn_deploy.quantisation.image_grid import ImageGrid, checked_grid, fold_affine
from fastsnn_deploy.quantisation.images import input_of
from fastsnn_deploy.quantisation.layers import (
    QUANT_WEIGHTED,
    QuantActivation,
    QuantInput,
)
from fastsnn_deploy.quantisation.others import found_in
from fastsnn_deploy.quantisation.proof import holds_for_others, require_same
from fastsnn_deploy.quantisation.quantisers import WEIGHT_QUANTISERS
from fastsnn_deploy.quantisation.replaced import ReluInstead, told
from fastsnn_deploy.quantisation.structure import (
    AVERAGE,
    BETWEEN,
    KEEPS_GRID,
    MOVES,
    RELU,
    SPIKING_OUTPUT,
    WEIGHTED,
    averages_image,
    behind,
    first_layers,
    folds_into_linear,
    grid_owners,
    last_layers,
    module_at,
    modules,
    rescaled,
)

DEFAULT_BITS = (2, 4)
"""Of activations and weights."""


def prepare(
    model: nn.Module,
    bits: int = DEFAULT_BITS[0],
    weight_bits: int = DEFAULT_BITS[1],
    *,
    first_bits: int = 8,
    last_bits: int = 8,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    input_step: float = 1 / 255,
    input_levels: tuple[int, int] = (0, 255),
    activation: str = "lsq",
    weight: str = "uniform",
    levels: int | None = None,
    bits_by_layer: Mapping[str, int] | None = None,
    weight_bits_by_layer: Mapping[str, int] | None = None,
    output_bits: int | None = None,
    output_signed: bool = False,
    input_shape: Sequence[int] | None = None,
    output: str | int | None = None,
    replace_activations: str | None = None,
    preprocessing: Preprocessing | None = None,
) -> fx.GraphModule:
    """The quantised model of a float network: same structure, weights copied, every activation quantised.

    bits: activation bits (1-8). weight_bits: weight bits (2-8) of inner layers; first_bits and last_bits those of
    the layers that read the image and that make the output. The output layer has one weight step, so that its
    integers compare across classes; all others have one per channel, if their quantiser can.
    activation, weight: quantisers by name (`quantisers`); levels: L in place of 2**bits - 1. bits_by_layer,
    weight_bits_by_layer: other bits for layers that match a pattern. output_bits, output_signed: the last layer
    emits spikes of so many bits, so that the answer is a count. All as in `BitPlan`.
    mean, std: per channel, what the float network's images were normalised with. The quantised model takes *raw* images
    (floats in units of the data, [0, 1] for pixels) and normalises them itself, on the integer grid that the chip
    sees: step input_step, levels input_levels. Differences in std go into the first weights exactly, and so does an
    affine step before the first layer (batch norm, arithmetic with constants).
    preprocessing: a record of mean, std, step and levels in their place, with what is done to pictures before; `save`
    and `export` write it with the network.
    input_shape: (C, H, W) or (N,) of one image, with which the network is captured; without it usual ones are tried.
    A network of lines (C, L), as Conv1d takes them, becomes one of maps (C, 1, L), and takes such images; one that
    makes a map of its image first takes the map.
    output: name of the tensor to deploy where the network returns several: a key, or a position from 0, with dots
    between where they are nested. replace_activations: "relu" puts ReLU in the place of other rectifiers (SiLU, GELU,
    leaky ReLU, hard-swish, ...), and warns that the network computes something else and needs fine-tuning.
    The network is captured as it is in evaluation mode, and what comes out is proved: with its quantisers off it
    computes what `model` computes. Dropout and batch norm train as they do in `model`; frozen parameters stay frozen;
    the result is float32 on the device of `model`, which is not changed.
    Raises LoweringError listing every unsupported place, InputError for options.
    """
    plan = BitPlan(
        bits, weight_bits, first_bits, last_bits, levels, bits_by_layer or {}, weight_bits_by_layer or {}, output_bits,
        output_signed, activation, weight,
    )  # fmt: skip
    return prepare_planned(
        model, plan, mean=mean, std=std, input_step=input_step, input_levels=input_levels, input_shape=input_shape,
        output=output, replace_activations=replace_activations, preprocessing=preprocessing,
    )  # fmt: skip


def prepare_planned(
    model: nn.Module,
    plan: BitPlan,
    *,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    input_step: float = 1 / 255,
    input_levels: tuple[int, int] = (0, 255),
    input_shape: Sequence[int] | None = None,
    output: str | int | None = None,
    replace_activations: str | None = None,
    round_averages: bool = True,
    preprocessing: Preprocessing | None = None,
) -> fx.GraphModule:
    """`prepare` with bits and quantisers in one value.

    round_averages: average pools of counts round where they stand; else what reads them reads sums of counts.
    """
    if preprocessing is not None:
        if not isinstance(preprocessing, Preprocessing):
            raise wrong_type("preprocessing", preprocessing, "an fd.Preprocessing, as fd.preprocessing gives it")
        _require_alone(mean=mean, std=std, input_step=input_step, input_levels=input_levels)
        mean, std = preprocessing.mean, preprocessing.std
        input_step, input_levels = preprocessing.step, preprocessing.levels
    grid = checked_grid(mean, std, input_step, input_levels)
    if replace_activations is not None:
        known_name("replace_activations", replace_activations, ("relu",))
    if isinstance(model, nn.Module) and (kinds := found_in(model)):
        held = ", ".join(f"{count} {name}" for name, count in kinds.items())
        raise InputError(f"the network is quantised already ({held}). fd.from_quantised takes it as it is")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        captured = capture(model, input_shape, output, replace_activations is not None)
        if is_fixed(captured.original):
            quantised = prepared_fixed(_ready(captured), _grid_of_fixed(plan, grid))
        else:
            quantised = _prepared(_ready(captured), plan, grid, round_averages)
    finally:
        torch.set_default_dtype(before)
    if input_shape is not None:
        quantised.meta["input_shape"] = captured.taken
    source = input_of(quantised)  # a network that is quantised already may bring its own grid
    known = replace(
        preprocessing or Preprocessing(), step=source.step, levels=(source.low, source.high), mean=grid.mean,
        std=grid.std,
    )  # fmt: skip
    quantised.meta["metadata"] = {KEY: known.plain()}
    if captured.replaced:
        quantised.meta["replaced"] = captured.replaced
        warnings.warn(told(captured.replaced), UserWarning, stacklevel=3)
    parameter = next(unwrapped(model).parameters(), None)
    return quantised.to(parameter.device if parameter is not None else "cpu", torch.float32)


def _require_alone(**given: Any) -> None:
    """Raise InputError for options that a preprocessing says, too."""
    alone = {"mean": (0.0,), "std": (1.0,), "input_step": PIXEL, "input_levels": (0, 255)}
    both = [name for name, value in given.items() if value is not alone[name] and value != alone[name]]
    if both:
        raise InputError(f"preprocessing= says mean, std, step and levels itself. Leave out {', '.join(both)}")


def _ready(captured: Captured) -> Captured:
    """The captured network, if its signature and its layers have a form here."""
    if not captured.shape:
        raise InputError("none of the usual image shapes passes through the network. Give input_shape=(C, H, W)")
    _require_one_input(captured.graph)
    _require_known_forms(captured.graph)
    return captured


def _grid_of_fixed(plan: BitPlan, grid: ImageGrid) -> ImageGrid | None:
    """The grid of raw images of a network that is quantised, None if it is nobody's wish; such a network has its own
    bits. Raises InputError if others are asked for."""
    if plan != BitPlan(*DEFAULT_BITS):
        raise InputError("the network is quantised already, and keeps its own bits and quantisers. Leave out yours")
    return None if grid == PIXELS else grid


def _prepared(captured: Captured, plan: BitPlan, grid: ImageGrid, round_averages: bool) -> fx.GraphModule:
    quantised = captured.graph
    _pull_relu_before_max_pool(quantised)
    user_grid = grid
    grid = fold_affine(quantised, grid)
    first, last = first_layers(quantised), last_layers(quantised)
    _quantise_layers(quantised, plan, first, last)
    grid.insert(quantised, captured.taken)
    _insert_missing_activations(quantised, plan, round_averages)
    _require_matches(quantised, plan)
    _tie_concatenated_steps(quantised)
    compiled(quantised)
    shape, within = captured.shape, ReluInstead if captured.replaced else nullcontext

    def raw(images: Tensor) -> Tensor:
        return user_grid.raw(captured.as_taken(images))

    require_same(quantised, captured.original, shape, raw, within)
    quantised.meta["captured_shape"] = captured.taken
    reshaped = len(shape) == 1 < len(captured.taken)
    if reshaped or not holds_for_others(quantised, captured.original, shape, raw, within):
        quantised.meta["only_shape"] = captured.taken
    if plan.output_bits is not None:  # after the proof: an unsigned output holds no negative answers
        _insert_output(quantised, plan)
        compiled(quantised)
    return quantised


def _quantise_layers(quantised: fx.GraphModule, plan: BitPlan, first: set[fx.Node], last: set[fx.Node]) -> None:
    """Quantised layers in place of those with weights, and activations in place of ReLUs."""
    calls: dict[str, list[fx.Node]] = {}
    for node, module in modules(quantised):
        if type(module) in WEIGHTED:
            calls.setdefault(str(node.target), []).append(node)
        elif isinstance(module, RELU):
            limit = float(module.max_val) if isinstance(module, nn.Hardtanh) else None
            _replace(quantised, node, plan.make_activation(node.meta["module"], limit=limit))
    for target, nodes in calls.items():
        ends = {node in last for node in nodes}, {node in first for node in nodes}
        default = plan.last_bits if True in ends[0] else plan.first_bits if True in ends[1] else plan.weight_bits
        bits = plan.bits_of_weight(nodes[0].meta["module"], default)
        quantiser = WEIGHT_QUANTISERS[plan.weight].ends if True in ends[0] | ends[1] else plan.weight
        layer = quantised.get_submodule(target)
        _replace(quantised, nodes[0], quantised_layer(layer, bits, quantiser, per_channel=True not in ends[0]))


def _replace(quantised: fx.GraphModule, node: fx.Node, new: nn.Module) -> None:
    """Put a new module at a call site. A reused nn.ReLU has no state, but each of its calls gets its own step."""
    if isinstance(new, QuantActivation):
        node.target = add_module(quantised, node, new)
        return
    parent_path, _, name = str(node.target).rpartition(".")
    old = quantised.get_submodule(str(node.target))
    setattr(quantised.get_submodule(parent_path), name, new.train(old.training))


def _require_known_forms(quantised: fx.GraphModule) -> None:
    """What torch.fx leaves as it is: padding modes and clips without a form here."""
    problems = []
    for node, module in modules(quantised):
        if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
            problems.append(problem_at(node, f"padding_mode '{module.padding_mode}' is not supported", "Use 'zeros'"))
        if isinstance(module, nn.Hardtanh) and not (module.min_val == 0 < module.max_val):
            what = f"clips to {module.min_val} .. {module.max_val}"
            problems.append(problem_at(node, what, "Use ReLU, or clip from 0 to a positive number"))
        if isinstance(module, nn.ConvTranspose2d) and (len(node.args) > 1 or node.kwargs):
            problems.append(problem_at(node, "is called with an output_size", "Give the layer an output_padding"))
    if problems:
        raise LoweringError("layers are used in a way that has no spiking form", list(dict.fromkeys(problems)))


def _require_one_input(quantised: fx.GraphModule) -> None:
    inputs = [node for node in quantised.graph.nodes if node.op == "placeholder"]
    outputs = next(node for node in quantised.graph.nodes if node.op == "output").args
    problems = []
    if len(inputs) != 1:
        problems.append(
            Problem("forward", f"takes {len(inputs)} tensors", "Only networks with one input are supported")
        )
    if not isinstance(outputs[0], fx.Node):
        problems.append(Problem("forward", "returns several values", "Return one tensor"))
    if problems:
        raise LoweringError("the network's signature is not supported", problems)


def _pull_relu_before_max_pool(quantised: fx.GraphModule) -> None:
    """relu(maxpool(x)) = maxpool(relu(x)): the spiking max pool needs quantised inputs, so ReLU goes first."""
    for node, module in modules(quantised):
        source = node.args[0]
        if not isinstance(module, RELU) or not isinstance(module_at(quantised, source), nn.MaxPool2d):
            continue
        assert isinstance(source, fx.Node)
        if len(source.users) > 1 or isinstance(module_at(quantised, source.args[0]), RELU):
            continue
        before = source.args[0]
        source.replace_input_with(before, node)  # type: ignore[arg-type]
        node.replace_all_uses_with(source, delete_user_cb=lambda user, pool=source: user is not pool)  # type: ignore[misc]
        node.args = (before,)
        source.prepend(node)


def _insert_output(quantised: fx.GraphModule, plan: BitPlan) -> None:
    """Put a quantised activation behind what makes the answer."""
    answer = behind(quantised, next(node for node in quantised.graph.nodes if node.op == "output").all_input_nodes[0])
    if any(isinstance(owner, QuantActivation) for owner in grid_owners(quantised, answer)):
        fix = "Leave out output_bits, and name that activation in bits_by_layer"
        raise LoweringError("the output spikes already", [problem_at(answer, "is a quantised activation", fix)])
    if hasattr(quantised, SPIKING_OUTPUT):
        raise LoweringError(
            "the output cannot be made to spike", [Problem(SPIKING_OUTPUT, "is a name in use", "Rename that layer")]
        )
    insert_after(quantised, answer, plan.make_output(), name=SPIKING_OUTPUT)


def _require_matches(quantised: fx.GraphModule, plan: BitPlan) -> None:
    activations, weights = [], []
    for node, module in modules(quantised):
        if isinstance(module, QuantActivation) and node.target != SPIKING_OUTPUT:
            activations.append(node.meta["module"])
        elif isinstance(module, QUANT_WEIGHTED):
            weights.append(node.meta["module"])
    plan.require_matches(activations, weights)


def _insert_missing_activations(quantised: fx.GraphModule, plan: BitPlan, round_averages: bool) -> None:
    """Spikes can only leave a quantised activation: insert one wherever a layer reads something else.

    Sums without a ReLU get a signed one. Average pools round where they stand, unless only a flatten and a linear
    layer follow: there the division goes into the weight scale.
    """
    nonnegative: dict[fx.Node, bool | None] = {}  # None: not on a grid
    for node in list(quantised.graph.nodes):
        if node.op == "placeholder":
            nonnegative[node] = None
            continue
        if node.op == "output":
            continue
        module = module_at(quantised, node)
        needs = isinstance(module, (*QUANT_WEIGHTED, *BETWEEN, *MOVES))
        for source in list(node.all_input_nodes):
            value = behind(quantised, source)  # rounded before it is flattened: there its channels are told apart
            if needs and nonnegative[value] is None and not folds_into_linear(quantised, source, module):
                unsigned = (
                    isinstance(module_at(quantised, value), BETWEEN) and nonnegative[value.all_input_nodes[0]] is True
                )
                activation = plan.make_activation(value.meta["module"], signed=not unsigned)
                nonnegative[insert_after(quantised, value, activation)] = unsigned
        sources = [nonnegative[behind(quantised, source)] for source in node.all_input_nodes]
        if isinstance(module, (QuantInput, QuantActivation)):
            nonnegative[node] = isinstance(module, QuantActivation) and not module.signed
        elif isinstance(module, KEEPS_GRID):
            nonnegative[node] = sources[0]
        elif isinstance(module, AVERAGE) and (averages_image(quantised, node) or not round_averages):
            nonnegative[node] = sources[0]  # a sum of levels: whole numbers, not rounded again
        elif node.target is torch.cat:
            nonnegative[node] = None if None in sources else all(sources)
        else:
            nonnegative[node] = None


def _tie_concatenated_steps(quantised: fx.GraphModule) -> None:
    """Activations that meet in a concat share one step, so that counts mean the same on every channel.

    Where they cannot (one is the image, or has a factor or a limit of its own) each keeps its step, and the weights
    of the layer that reads them make up for it.
    """
    for node in quantised.graph.nodes:
        if node.target is not torch.cat:
            continue
        owners = [owner for source in node.all_input_nodes for owner in grid_owners(quantised, source)]
        activations = [m for m in owners if isinstance(m, QuantActivation)]
        if len(activations) < len(owners) or rescaled(quantised, node):
            continue
        for activation in activations[1:]:
            sharers = [*activation.sharers]
            if len({other.limit for other in (*sharers, *activations[0].sharers)}) == 1:
                for other in sharers:
                    other.share(activations[0])
