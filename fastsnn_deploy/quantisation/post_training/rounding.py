"""Weights, biases and steps that together give a segment's float values, learned from images without labels.

Rounding each weight to the nearest is not what keeps a layer's values: errors of neighbours can cancel. Segment by
segment, weights move by gradient descent, straight through the rounding, until the counts of the quantised segment,
on the quantised values before it, are closest to the values of the float network.
Sources: Nagel et al., AdaRound (arXiv 2004.10568); Hubara et al., AdaQuant (arXiv 2006.10518), which lets weights and
steps move as here; Li et al., BRECQ (arXiv 2102.05426), which takes residual blocks as a whole.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.quantisation.functional import or_one
from fastsnn_deploy.quantisation.layers import BATCH_NORMS, QUANT_WEIGHTED, QuantActivation
from fastsnn_deploy.quantisation.post_training.segments import Segment, segments

BATCH = 32
"""Images of one step of the optimiser."""

MEMORY = 2**29
"""Bytes that the values of all images at one place may take; fewer images are used where they are larger."""

WEIGHT_RATE, STEP_RATE, BIAS_RATE = 0.01, 0.001, 0.001
"""Learning rates of Adam: in steps of the weights, in steps, and in the spread of the layer's values."""


def round_weights(
    model: fx.GraphModule, reference: fx.GraphModule, images: Tensor, iterations: int,
    advance: Callable[[int, int], None], seed: int = 0,
) -> None:  # fmt: skip
    """Learn the rounding of a calibrated model in place.

    Args:
        model: the quantised model, in evaluation mode.
        reference: the same network, as it was before, with its quantisers off.
        images: raw, float32 [N, ...].
        iterations: steps of the optimiser for each segment.
        advance: called with (segments done, in all).
        seed: draws the images of each step.
    """
    parts = list(segments(model))
    shared = _called_in_several(model, parts)
    images = images[: max(BATCH, int(MEMORY / _largest(model, parts, images[:1])))]
    generator = torch.Generator().manual_seed(seed)
    exact, rounded = images, images
    for number, part in enumerate(parts):
        wanted = part.run_all(reference, exact)
        with _learning(model, [m for m in part.modules(model) if m not in shared]) as layers:
            if any(isinstance(layer, QUANT_WEIGHTED) for layer in layers):
                groups = _parameters(layers, _spreads(part, reference, model, exact[:BATCH]))
                _learn(part, model, rounded, wanted, groups, iterations, generator)
        exact, rounded = wanted, part.run_all(model, rounded)
        advance(number + 1, len(parts))


def _called_in_several(model: fx.GraphModule, parts: list[Segment]) -> set[nn.Module]:
    """Modules that serve more than one segment: what is learned in one would undo the other."""
    calls = Counter(module for part in parts for module in set(part.modules(model)))
    return {module for module, count in calls.items() if count > 1}


def _largest(model: fx.GraphModule, parts: list[Segment], image: Tensor) -> float:
    """Bytes of the largest value between two segments, of one image."""
    value, most = image, image.nbytes
    for part in parts:
        value = part.run_all(model, value)
        most = max(most, value.nbytes)
    return most


@contextmanager
def _learning(model: fx.GraphModule, layers: list[nn.Module]) -> Iterator[list[nn.Module]]:
    """Within it the parameters of these layers, and no others, have gradients."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.requires_grad_(False)
    for layer in layers:
        layer.requires_grad_(True)
    try:
        yield layers
    finally:
        for parameter, wanted in before:
            parameter.requires_grad_(wanted)
            parameter.grad = None


def _parameters(layers: list[nn.Module], spreads: dict[nn.Module, float]) -> list[dict[str, object]]:
    """What moves, each parameter once, with learning rates in its own unit."""
    found: dict[Tensor, float] = {}
    layer: Any
    for layer in dict.fromkeys(layers):
        if isinstance(layer, QUANT_WEIGHTED):
            step = float(layer.integer_weight()[1].mean())
            found[layer.weight] = WEIGHT_RATE * step
            for name, parameter in layer.named_parameters(recurse=False):
                if name not in ("weight", "bias"):
                    found[parameter] = STEP_RATE * float(parameter.detach().abs().mean())
        if isinstance(layer, QuantActivation):
            found[layer.learned] = STEP_RATE * float(layer.learned.detach().abs())
        if isinstance(layer, (*QUANT_WEIGHTED, *BATCH_NORMS)) and layer.bias is not None:
            found[layer.bias] = BIAS_RATE * spreads.get(layer, 1.0)
    return [{"params": [parameter], "lr": rate} for parameter, rate in found.items()]


def _spreads(part: Segment, reference: fx.GraphModule, model: fx.GraphModule, images: Tensor) -> dict[nn.Module, float]:
    """Standard deviation of what each layer of the model gives in the float network."""
    own = dict(zip(part.modules(reference), part.modules(model), strict=True))
    found: dict[nn.Module, float] = {}

    def keep(layer: nn.Module, _: object, result: Tensor) -> None:
        found[own[layer]] = float(or_one(result.detach().std(correction=0)))

    hooks = [layer.register_forward_hook(keep) for layer in own]
    part.run_all(reference, images)
    for hook in hooks:
        hook.remove()
    return found


def _learn(
    part: Segment, model: fx.GraphModule, given: Tensor, wanted: Tensor, groups: list[dict[str, object]],
    iterations: int, generator: torch.Generator,
) -> None:  # fmt: skip
    """Adam with half a cosine on the squared error, as a share of the variance."""
    optimiser = torch.optim.Adam(groups)
    rates = [group["lr"] for group in optimiser.param_groups]
    spread = or_one(wanted.var(correction=0))
    for iteration in range(iterations):
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * iteration / iterations))
        chosen = torch.randint(len(given), (BATCH,), generator=generator).to(given.device)
        error = (part.run(model, given[chosen]) - wanted[chosen]).square().mean() / spread
        optimiser.zero_grad(set_to_none=True)
        error.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
