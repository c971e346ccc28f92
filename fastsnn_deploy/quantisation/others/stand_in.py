"""The float network behind a quantised one of another project: its quantisers are ReLUs, its weights are numbers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastsnn_deploy.quantisation.functional import weight_limit
from fastsnn_deploy.quantisation.others.base import Taken
from fastsnn_deploy.quantisation.others.find import Weights

MANTISSA = weight_limit(8)
"""Largest weight of one synapse."""


class Rectifier(nn.Module):
    """What a quantising activation does but for its levels."""

    def __init__(self, taken: Taken) -> None:
        super().__init__()
        self.before = nn.Identity() if taken.before is None else taken.before
        self.shift = taken.shift * taken.top / taken.levels

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        return F.relu(x - self.shift if self.shift else x)


class Total(nn.Module):
    """Layers that read the same and add up: weights of more than 8 bits."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.parts[0](x)
        for part in self.parts[1:]:
            made = made + part(x)
        return made


def stand_in(model: nn.Module, activations: Mapping[str, Taken], layers: Mapping[str, Weights]) -> nn.Module:
    """A copy of the network with plain layers in the place of those that quantise."""
    made = copy.deepcopy(model)
    for path, taken in activations.items():
        made = _replaced(made, path, Rectifier(taken))
    for path, weights in layers.items():
        made = _replaced(made, path, _layer(model.get_submodule(path), weights))
    return made.eval()


def parts_of(weights: Weights) -> list[Tensor]:
    """Whole numbers float64 that add up to those of the weights, none beyond a mantissa."""
    assert weights.step is not None
    whole, parts = (weights.values / weights.step).round(), []
    while True:
        parts.append(whole.clamp(-MANTISSA, MANTISSA))
        whole = whole - parts[-1]
        if not whole.any():
            return parts


def _layer(layer: Any, weights: Weights) -> nn.Module:
    if weights.step is None:
        return _with_weights(layer, weights.values, bias=True)
    parts = [_with_weights(layer, part * weights.step, bias=i == 0) for i, part in enumerate(parts_of(weights))]
    return parts[0] if len(parts) == 1 else Total(parts)


def _with_weights(layer: Any, values: Tensor, bias: bool) -> nn.Module:
    given = layer.bias if bias else None
    new: nn.Conv2d | nn.Linear
    if isinstance(layer, nn.Conv2d):
        options: Any = {
            key: getattr(layer, key)
            for key in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
        }
        new = nn.Conv2d(**options, bias=given is not None, padding_mode=layer.padding_mode)
    else:
        new = nn.Linear(layer.in_features, layer.out_features, given is not None)
    with torch.no_grad():
        new.weight.copy_(values)
        if given is not None and new.bias is not None:
            new.bias.copy_(given)
    return new


def _replaced(root: nn.Module, path: str, new: nn.Module) -> nn.Module:
    if not path:
        return new
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, new)
    return root
