"""Other bits for chosen layers of a quantised model, with what images alone can do to keep its answers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.quantisation.bit_plan import hidden_layers, set_layers
from fastsnn_deploy.quantisation.calibration import set_steps
from fastsnn_deploy.quantisation.layers import QuantActivation
from fastsnn_deploy.quantisation.post_training.bias import correct_biases
from fastsnn_deploy.quantisation.post_training.quantize import STEP_IMAGES, held_apart, values_of
from fastsnn_deploy.quantisation.post_training.rounding import round_weights
from fastsnn_deploy.quantisation.post_training.thresholds import least_error

Bits = Mapping[str, int]
"""By path in the float network."""


def bits_in_use(model: fx.GraphModule) -> tuple[dict[str, int], dict[str, int]]:
    """(bits of activations, bits of weights) by path, of all layers whose bits may change."""
    activations: dict[str, int] = {}
    weights: dict[str, int] = {}
    for path, module in hidden_layers(model):
        if isinstance(module, QuantActivation):
            activations[path] = max(module.bits, activations.get(path, 0))
        else:
            weights[path] = max(module.weight_bits, weights.get(path, 0))
    return activations, weights


def with_bits(
    model: fx.GraphModule, bits: Bits, weight_bits: Bits, images: Tensor, iterations: int = 0, seed: int = 0
) -> fx.GraphModule:
    """A quantised model with other bits in some layers; the model itself where nothing is another.

    Ranges stay; then steps of the changed activations are set by squared error, biases corrected, and weights rounded
    so that layers keep their values. Each of these stays only if the answers on images that taught nothing come closer
    to those of `model`.

    Args:
        model: A trained or calibrated one; it stays as it is.
        bits: Bits of activations by path; those that are not named stay.
        weight_bits: Likewise, of weights between the first and the last layers.
        images: Raw, float32 [N, ...], without labels; the last quarter judges.
        iterations: Steps of the optimiser that rounds, for each layer or block; 0 leaves the rounding out.
        seed: Draws the images of each of these steps.

    Raises:
        InputError: a path that the model does not have, or bits that its quantisers do not.
    """
    wanted = copy.deepcopy(model).eval()
    changed = _set(wanted, bits, weight_bits)
    if not changed:
        return model
    activations = [each for module in changed if isinstance(module, QuantActivation) for each in module.sharers]
    taught, judging = held_apart(images)
    few, answers = taught[:STEP_IMAGES], values_of(model.eval(), judging)
    best, least = wanted, _distance(wanted, judging, answers)
    for stage in ("steps", "biases", "rounding"):
        if (stage == "steps" and not activations) or (stage == "rounding" and not iterations):
            continue
        tried = copy.deepcopy(best)
        if stage == "steps":
            names = {name for name, module in wanted.named_modules() if module in activations}
            set_steps(tried, few, least_error, [m for n, m in tried.named_modules() if n in names])
        elif stage == "biases":
            correct_biases(tried, few)
        else:
            round_weights(tried, copy.deepcopy(model), taught, iterations, lambda done, total: None, seed)
        distance = _distance(tried, judging, answers)
        if distance < least:
            best, least = tried, distance
    return best


def _set(model: fx.GraphModule, bits: Bits, weight_bits: Bits) -> list[Any]:
    """Change the bits in place; the modules that are others now."""
    known = bits_in_use(model)
    problems = [
        Problem(f"{what} of '{path}'", "no such layer", f"Layers there: {', '.join([*there][:10])}")
        for what, asked, there in zip(("bits", "weight bits"), (bits, weight_bits), known, strict=True)
        for path in asked if path not in there
    ]  # fmt: skip
    if problems:
        raise InputError("bits are given for layers that do not exist", problems)

    def grid(path: str, activation: QuantActivation) -> tuple[int, int]:
        number = max(bits.get(path, activation.bits), 2 if activation.signed else 1)
        return (number, 2**number - 1) if number != activation.bits else (number, activation.levels)

    return set_layers(model, grid, lambda path, layer: weight_bits.get(path, layer.weight_bits))


def _distance(model: fx.GraphModule, images: Tensor, answers: Tensor) -> float:
    """Mean squared difference of the answers."""
    return float((values_of(model, images) - answers).square().mean())
