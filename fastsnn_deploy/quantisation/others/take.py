"""From a quantised network of another project to our quantised model: thresholds and weights as they are."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.errors import InputError, LoweringError, Problem, whole_number, wrong_type
from fastsnn_deploy.quantisation.bit_plan import BitPlan
from fastsnn_deploy.quantisation.calibration import EXAMPLES, OFFICIAL, calibration_images
from fastsnn_deploy.quantisation.capture import unwrapped
from fastsnn_deploy.quantisation.functional import weight_limit
from fastsnn_deploy.quantisation.image_grid import checked_grid
from fastsnn_deploy.quantisation.layers import QUANT_WEIGHTED, QuantActivation, QuantInput
from fastsnn_deploy.quantisation.moves import Scale, SelectChannels
from fastsnn_deploy.quantisation.others.base import Taken
from fastsnn_deploy.quantisation.others.find import Weights, found_in, taken_of
from fastsnn_deploy.quantisation.others.proof import Counts, compare, official_counts
from fastsnn_deploy.quantisation.others.stand_in import parts_of, stand_in
from fastsnn_deploy.quantisation.prepare import prepare_planned
from fastsnn_deploy.quantisation.structure import modules

PROOF_IMAGES = 2

NOTES = "notes"
"""Key of a model's `meta` for lines for the user; under OFFICIAL lies what `compare_with_official` needs."""


@dataclass(frozen=True)
class Official:
    """What is needed to compare a taken model with the official code again.

    official: a copy in evaluation mode, with T = 0. activations: by path. values: exact weights, float64, by target.
    std: of the image, for each channel.
    """

    official: nn.Module
    activations: Mapping[str, Taken]
    values: Mapping[str, Tensor]
    std: tuple[float, ...]


def from_quantised(
    model: nn.Module,
    *,
    weight_bits: int = 8,
    steps: int | None = None,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    input_shape: Sequence[int] | None = None,
    input_step: float = 1 / 255,
    input_levels: tuple[int, int] = (0, 255),
    output: str | int | None = None,
    images: Any = None,
) -> fx.GraphModule:
    """The quantised model of a network that is quantised already, by the modules of another project.

    Known are QCFS (`IF`, `MyFloor`), Fast-SNN (`QuantReLU`, `QuantAvgPool2d`, `QuantConv2d`, `QuantLinear`,
    `first_conv`, `last_fc`) and SpikingJelly's ann2snn (`IFNode` between scalers). Thresholds, levels, batch norms and
    quantised weights stay what they are; each layer is compared with the official code's own counts, in float64, and
    the network refused if one differs that does not lie on a rounding edge. Weights that the project leaves in floating
    point get `weight_bits` bits, as `model.meta["notes"]` says; docs/official_codes.md has what that moves.

    Args:
        model: The network with its trained weights; it stays as it is. Of QCFS with L set (`model.set_L(8)`).
        weight_bits: Of weights that the project does not quantise, 2 to 8; the first and the last layer have 8.
        steps: Of SpikingJelly: after how many steps its rates are read, which are the levels.
        mean: What its images were normalised with, per channel; rounded to whole levels of the image.
        std: Likewise, not rounded.
        input_shape: (C, H, W) or (N,) of one image.
        input_step: Real value of one level of a raw image.
        input_levels: Least and greatest level.
        output: Which tensor is the answer, if there are several.
        images: Raw images, as `calibrate` takes them, for the steps of places that round here and not in the project's
            code (sums that no quantiser follows); they change no threshold that is there.

    Returns:
        What `prepare` gives, with all thresholds set: `convert`, `fit` and `save` take it.

    Raises:
        InputError: the network holds no quantisers that are known, or an option cannot be used.
        LoweringError: lists every module that cannot be taken.
    """
    if not isinstance(model, nn.Module):
        raise wrong_type("the network", model, "a torch.nn.Module with the quantisers of another project")
    width, steps = whole_number("weight_bits", weight_bits, 2, 8), steps and whole_number("steps", steps, 1, 255)
    grid = checked_grid(mean, std, input_step, input_levels)
    official = at_rest(model)
    if not found_in(official):
        raise InputError(
            f"{type(official).__name__} holds no quantisers of QCFS, Fast-SNN or SpikingJelly. "
            "Quantise it with fd.prepare or fd.quantize"
        )
    activations, layers = taken_of(official, steps)
    float_network = stand_in(official, activations, layers)
    apart = _stds_apart(float_network, layers, grid.std)
    plan = BitPlan(max((taken.levels for taken in activations.values()), default=255).bit_length(), width)
    quantised = prepare_planned(
        float_network, plan, mean=mean, std=(sum(apart) / len(apart),) if apart else grid.std, input_shape=input_shape,
        output=output, input_step=input_step, input_levels=input_levels, round_averages=False,
    )  # fmt: skip
    if apart:
        _scale_channels(quantised, [sum(apart) / len(apart) / each for each in apart])
    own = _set_activations(quantised, activations)
    if images is not None:
        _set_own_steps(quantised, images)
    found = Official(official, activations, _set_weights(quantised, layers), grid.std)
    proof = _proved(quantised, found)
    quantised.meta[OFFICIAL] = found
    quantised.meta[NOTES] = (*_notes(found_in(official), activations, layers, own, width), f"proved: {proof}")
    return quantised


def at_rest(model: nn.Module) -> nn.Module:
    """A copy as its quantised form computes, in evaluation mode: QCFS networks with T = 0."""
    alone = copy.deepcopy(unwrapped(model)).to("cpu").eval()
    timed = "QCFS IF" in found_in(alone)
    for module in alone.modules():
        if timed and type(getattr(module, "T", None)) is int:
            setattr(module, "T", 0)  # noqa: B010  nn.Module declares its attributes as tensors
    return alone


def _stds_apart(network: nn.Module, layers: Mapping[str, Weights], std: Sequence[float]) -> Sequence[float]:
    """Standard deviations that differ, if the layer that reads the image has integer weights, which stay."""
    first = next((path for path, module in network.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))), "")
    whole = any(first == path or first.startswith(f"{path}.parts.") for path, found in layers.items() if found.step)
    return std if whole and len(set(std)) > 1 else ()


def _scale_channels(quantised: fx.GraphModule, factors: Sequence[float]) -> None:
    """A factor for each channel of the image, in the place of one in the weights that read it."""
    image = next(node for node, module in modules(quantised) if isinstance(module, QuantInput))
    readers, parts = list(image.users), []
    last = image
    for i, factor in enumerate(factors):
        for name, layer, source in ((f"channel{i}", SelectChannels([i]), image), (f"scale{i}", Scale(factor), None)):
            quantised.add_submodule(name, layer)
            with quantised.graph.inserting_after(last):
                last = quantised.graph.call_module(name, (source or last,))
            last.meta.update(module="", line="")
        parts.append(last)
    with quantised.graph.inserting_after(last):
        whole = quantised.graph.call_function(torch.cat, (tuple(parts), 1))
    whole.meta.update(module="", line="")
    for reader in readers:
        reader.replace_input_with(image, whole)
    quantised.graph.lint()
    quantised.recompile()


def _set_activations(quantised: fx.GraphModule, activations: Mapping[str, Taken]) -> list[str]:
    """Put in the official thresholds and levels; paths of activations that only we need."""
    own = []
    for node, module in modules(quantised):
        if not isinstance(module, QuantActivation):
            continue
        path = node.meta["module"]
        if path not in activations:
            own.append(path or node.name)
            continue
        taken = activations[path]
        new = QuantActivation(taken.levels.bit_length(), False, taken.quantiser, taken.levels)
        new.learned.data.fill_(taken.top)
        new.initialised.fill_(True)
        parent, _, name = str(node.target).rpartition(".")
        setattr(quantised.get_submodule(parent), name, new.to(module.learned.device).train(module.training))
    return own


def _set_own_steps(quantised: fx.GraphModule, images: Any) -> None:
    """Steps of what has none yet: they start from the first batch. The model keeps some images to compare on."""
    raw = calibration_images(quantised, images)
    quantised.eval()
    with torch.no_grad():
        quantised(raw)
    quantised.meta["examples"] = raw[:EXAMPLES]


def _set_weights(quantised: fx.GraphModule, layers: Mapping[str, Weights]) -> dict[str, Tensor]:
    """Put in the official integer weights; exact values of all that are not folded into, by target."""
    values = {}
    for path, found in layers.items():
        if found.step is None:
            continue
        parts = parts_of(found)
        names = [path] if len(parts) == 1 else [f"{path}.parts.{i}" for i in range(len(parts))]
        for name, whole in zip(names, parts, strict=True):
            for target, layer in _calls(quantised, name):
                bits = next(b for b in range(2, 9) if weight_limit(b) >= int(whole.abs().max()))
                layer.weight_bits = bits
                layer._learned().data.fill_(found.step)
                values[target] = found.values if len(parts) == 1 else whole * found.step
                if not torch.equal(layer.integer_weight()[0].double(), whole):
                    fix = "Its step may be too small for float32"
                    raise LoweringError("weights cannot be taken", [Problem(path, "integers change in float32", fix)])
    return values


def _calls(quantised: fx.GraphModule, path: str) -> list[tuple[str, Any]]:
    return [
        (str(node.target), module)
        for node, module in modules(quantised)
        if isinstance(module, QUANT_WEIGHTED) and node.meta["module"] == path
    ]


def _proved(quantised: fx.GraphModule, found: Official) -> Counts:
    """Compare on generated images. Raises LoweringError naming the first layer that counts otherwise."""
    shape = quantised.meta["captured_shape"]
    image = next(module for _, module in modules(quantised) if isinstance(module, QuantInput))
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(image.low, image.high + 1, (PROOF_IMAGES, *shape), generator=generator)
    counts, _, _ = compare_with_official(quantised, found, levels)
    if counts.differing > counts.edges:
        fix = "It depends on more than the image, or its forward is not the one of its project"
        raise LoweringError("the network taken is not the one given", [Problem(counts.first, str(counts), fix)])
    return counts


def compare_with_official(
    quantised: fx.GraphModule,
    found: Official,
    levels: Tensor,
    chained: bool = False,
    whole: bool = False,
) -> tuple[Counts, tuple[Tensor, Tensor], dict[str, list[Tensor]]]:
    """Counts of a taken model against the official code's on raw images.

    Args:
        quantised: What `from_quantised` made.
        found: Its `meta["official"]`.
        levels: Raw images as levels, integers [N, *shape].
        chained: Each layer reads our own counts instead of the official ones.
        whole: Ours has its integer weights, also where the official ones are in floating point.

    Returns:
        What was compared; our answers and the official ones; the official counts by path.
    """
    image = next(module for _, module in modules(quantised) if isinstance(module, QuantInput))
    across = (-1, *[1] * (levels.dim() - 2))
    emitted = levels.double() - image.offset.cpu().view(across).double()
    stds = torch.tensor(found.std, dtype=torch.float64).view(across)
    wanted, answer = official_counts(found.official, found.activations, emitted * image.step / stds)
    values = integer_values(quantised) if whole else found.values
    counts, ours = compare(quantised.cpu(), found.activations, values, emitted, wanted, chained)
    return counts, (ours, answer), wanted


def integer_values(quantised: fx.GraphModule) -> dict[str, Tensor]:
    """Weights of all layers as the chip has them, float64, by target."""
    made = {}
    for node, layer in modules(quantised):
        if isinstance(layer, QUANT_WEIGHTED):
            whole, scale = layer.integer_weight()
            values = whole.double() * scale.view(-1, *[1] * (whole.dim() - 1))
            made[str(node.target)] = layer._by_output(values)
    return made


def _notes(
    kinds: Mapping[str, int], activations: Mapping[str, Taken], layers: Mapping[str, Weights], own: Sequence[str],
    width: int,
) -> list[str]:  # fmt: skip
    levels = Counter(taken.levels for taken in activations.values())
    seen = ", ".join(f"{count} {name}" for name, count in kinds.items())
    grids = ", ".join(f"{count} with {level} levels" for level, count in sorted(levels.items()))
    lines = [f"quantised by {seen}: {grids or 'no activations'}, taken as they are"]
    lines += [f"{note}" for note in dict.fromkeys(t.note for t in activations.values() if t.note)]
    whole = [found for found in layers.values() if found.step is not None]
    wide = [path for path, found in layers.items() if found.step is not None and found.largest > weight_limit(8)]
    if whole:
        lines.append(f"{len(whole)} of {len(layers)} layers have integer weights, taken as they are")
    if wide:
        lines.append(f"{', '.join(wide)}: weights of more than 8 bits, in two synapses that add up to them")
    if len(whole) < len(layers):
        lines.append(
            f"{len(layers) - len(whole)} of {len(layers)} layers have float weights, rounded to {width} bits (8 in the "
            "first and the last layer); how many counts that moves is not known before images are run"
        )
    if own:
        lines.append(
            f"{len(own)} places round that the network does not round, first {own[0]}: their steps come from images="
        )
    return lines
