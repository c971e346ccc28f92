"""The grid of the image: raw levels, the normalisation, and what is done to the image before the first layer."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.errors import InputError, LoweringError, Problem
from fastsnn_deploy.quantisation.graph_edit import insert_after, problem_at
from fastsnn_deploy.quantisation.layers import BATCH_NORMS, QuantConv2d, QuantInput
from fastsnn_deploy.quantisation.moves import Affine, Scale, SelectChannels
from fastsnn_deploy.quantisation.structure import AVERAGE, KEEPS_GRID, image_readers, module_at


@dataclass(frozen=True)
class ImageGrid:
    """mean, std: for each channel, or one for all; a negative std turns the sign. step, levels: of raw images."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    step: float
    levels: tuple[int, int]

    def raw(self, images: Tensor) -> Tensor:
        """Raw images [N, C, ...] from those that the float network takes."""
        shape = (-1, *[1] * (images.dim() - 2))
        mean, std = (torch.tensor(values, dtype=torch.float64).view(shape) for values in (self.mean, self.std))
        return images * std + mean

    def insert(self, quantised: fx.GraphModule, shape: tuple[int, ...]) -> None:
        """Put a QuantInput behind the image; what differs between channels goes into the weights that read it."""
        channels = shape[0]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                what = f"{name} has {len(values)} values, the image {channels} channels"
                raise InputError(f"{what}. Give one for each channel")
        one = len(set(self.std)) == 1
        common = abs(self.std[0]) if one else float(torch.tensor(self.std, dtype=torch.float64).abs().mean())
        if set(self.std) != {common}:
            _fold_gain(quantised, common / torch.tensor(self.std, dtype=torch.float64).expand(channels))
        image = next(node for node in quantised.graph.nodes if node.op == "placeholder")
        module = QuantInput(channels, self.step, *self.levels, mean=self.mean, std=common)
        insert_after(quantised, image, module, name="image")


def checked_grid(mean: Any, std: Any, step: Any, levels: Any) -> ImageGrid:
    """The grid of the image. Raises InputError listing every option that cannot be used."""
    means, stds, (step_value,), bounds = _numbers(mean), _numbers(std), _numbers([step]) or (0.0,), _numbers(levels)
    problems = []
    if not means:
        problems.append(Problem(f"mean={mean!r}", "must hold finite numbers, one or one for each channel"))
    if not stds or min(stds) <= 0:
        problems.append(Problem(f"std={std!r}", "must hold positive numbers, one or one for each channel"))
    if means and stds and len(means) != len(stds) and 1 not in (len(means), len(stds)):
        problems.append(
            Problem("mean and std", f"have {len(means)} and {len(stds)} values", "Give one for each channel")
        )
    if step_value <= 0:
        problems.append(Problem(f"input_step={step!r}", "must be a positive number"))
    if len(bounds) != 2 or any(bound % 1 for bound in bounds) or bounds[0] >= bounds[1]:
        problems.append(Problem(f"input_levels={levels!r}", "must be two whole numbers that increase"))
    if problems:
        raise InputError("these input options cannot be used", problems)
    return ImageGrid(means, stds, step_value, (int(bounds[0]), int(bounds[1])))


def _numbers(values: Any) -> tuple[float, ...]:
    """Finite numbers; () if one of them is none."""
    try:
        found = tuple(math.nan if isinstance(value, (str, bool)) else float(value) for value in values)
    except (TypeError, ValueError, LookupError):
        return ()
    return found if all(map(math.isfinite, found)) else ()


def fold_affine(quantised: fx.GraphModule, grid: ImageGrid) -> ImageGrid:
    """Take batch norm and arithmetic with constants between the image and its first reader into the grid.

    The mean of the grid is rounded to whole levels, as `mean` always is, so that zero padding stays padding.
    """
    image = next(node for node in quantised.graph.nodes if node.op == "placeholder")
    while len(image.users) == 1:
        node = next(iter(image.users))
        form = _affine_form(module_at(quantised, node))
        if form is None:
            break
        gain, shift = form
        if bool((gain == 0).any()):
            fix = "Leave the channel out"
            raise LoweringError("the image cannot be read", [problem_at(node, "multiplies a channel by 0", fix)])
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (grid.mean, grid.std))
        grid = replace(grid, mean=_values(mean - shift * std / gain, len(gain)), std=_values(std / gain, len(gain)))
        node.replace_all_uses_with(image)
        quantised.graph.erase_node(node)
    return grid


def _values(values: Tensor, channels: int) -> tuple[float, ...]:
    whole: list[float] = values.expand(max(channels, len(values))).tolist()
    return tuple(whole)


def _affine_form(module: nn.Module | None) -> tuple[Tensor, Tensor] | None:
    """(gain, shift), float64 [C] or [1], of a layer that is one in evaluation mode."""
    if isinstance(module, Scale):
        return torch.tensor([module.factor], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    if isinstance(module, Affine):
        return module.weight.detach().double(), module.bias.detach().double()
    if isinstance(module, BATCH_NORMS) and module.running_mean is not None and module.running_var is not None:
        deviation = (module.running_var.double() + module.eps).sqrt()
        gain = (module.weight.detach().double() if module.affine else 1.0) / deviation
        shift = module.bias.detach().double() if module.affine else torch.zeros_like(deviation)
        return gain, shift - gain * module.running_mean.double()
    return None


def _fold_gain(quantised: fx.GraphModule, gain: Tensor) -> None:
    """Multiply the weights that read channel c of the image by gain[c], float64 [C]."""
    problems: list[Problem] = []
    folded: set[nn.Module] = set()
    for node in sorted(set(image_readers(quantised))):
        layer = module_at(quantised, node)
        fix = "Give one std for all channels, or read the image with an ordinary Conv2d only"
        seen = _gains_seen(quantised, node.all_input_nodes[0], gain) if isinstance(layer, QuantConv2d) else None
        if seen is None or not isinstance(layer, QuantConv2d) or _read_elsewhere(quantised, node):
            problems.append(problem_at(node, "cannot take up a std that differs between channels", fix))
        elif layer not in folded:
            folded.add(layer)
            grouped = seen.view(layer.groups, -1).repeat_interleave(layer.out_channels // layer.groups, 0)
            with torch.no_grad():
                layer.weight.mul_(grouped.view(*grouped.shape, 1, 1).to(layer.weight))
            layer.reset_weight_step()
    if problems:
        raise LoweringError("the image's std cannot be folded into the first layer", problems)


def _gains_seen(quantised: fx.GraphModule, node: fx.Node, gain: Tensor) -> Tensor | None:
    """The gains on the channels of a node that only moves the image; None if it does more with channels."""
    if node.op == "placeholder":
        return gain
    module = module_at(quantised, node)
    before = _gains_seen(quantised, node.all_input_nodes[0], gain)
    if before is None or isinstance(module, (nn.Flatten, nn.MaxPool2d)):
        return None  # the largest of negated values is another one
    if isinstance(module, SelectChannels):
        return before[torch.tensor(module.channels).clamp_min(0)]
    return before if isinstance(module, (*KEEPS_GRID, *AVERAGE)) and type(module).__name__ != "PadChannels" else None


def _read_elsewhere(quantised: fx.GraphModule, node: fx.Node) -> bool:
    """True if the layer of this call also reads something that is not the image."""
    readers = set(image_readers(quantised))
    return any(other.target == node.target and other not in readers for other in quantised.graph.nodes)
