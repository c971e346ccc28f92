"""Our layers with the steps of another program."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastsnn_deploy.graph.synapses.conv_transpose2d import channels_swapped
from fastsnn_deploy.quantisation.drop_in import quantised_layer
from fastsnn_deploy.quantisation.fixed.quantiser import WeightGrid
from fastsnn_deploy.quantisation.layers import QuantActivation


def fixed_activation(step: float, low: int, high: int, bits: int, quantiser: str) -> QuantActivation:
    """An activation with a step that is known. bits: at least; more where low .. high needs them."""
    made = QuantActivation(max(bits, (high - low).bit_length()), low < 0, quantiser, high - low, low=low)
    with torch.no_grad():
        made.learned.fill_(step)
    made.initialised.fill_(True)
    return made


def narrowed(old: QuantActivation, low: int, high: int, bits: int = 8) -> QuantActivation:
    """The same activation with a range within its own. bits: if they are fewer."""
    return fixed_activation(float(old.step_in_use()), low, high, min(bits, old.bits), old.quantiser)


def own_grid(layer: nn.Module, grid: WeightGrid) -> WeightGrid:
    """The grid of a float layer's weights, by output channel."""
    weight, steps = _by_output(layer, layer.weight), _by_output(layer, grid.steps.expand(layer.weight.shape))  # type: ignore[arg-type]
    return WeightGrid(steps, grid.bits, grid.refusals).by_channel(weight.detach())


def _by_output(layer: nn.Module, values: Tensor) -> Tensor:
    return channels_swapped(values, layer.groups) if isinstance(layer, nn.ConvTranspose2d) else values


def on_grid(layer: nn.Module, grid: WeightGrid) -> nn.Module:
    """The layer with quantised weights in the place of a float one, with a grid of `own_grid`."""
    new = quantised_layer(layer, grid.bits, "given", per_channel=len(grid.steps) > 1)
    with torch.no_grad():
        new._learned().copy_(grid.steps)
    return new
