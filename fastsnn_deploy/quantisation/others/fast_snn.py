"""Fast-SNN (arXiv 2305.19868): quantised layers of its `quant_layer.py`, in each of their versions."""

from __future__ import annotations

from typing import Any

from torch import nn

from fastsnn_deploy.quantisation.others.base import (
    CannotTakeError,
    Taken,
    activation,
    confirmed,
    named,
    positive,
    refused,
    weights,
    whole,
)

PROJECT = "Fast-SNN"

weights(PROJECT, named("QuantConv2d", "QuantLinear", "first_conv", "last_fc", having=("layer_type", "weight")))


@activation(PROJECT, named("QuantReLU", having=("layer_type", "act_alpha", "bit")))
def _relu(module: nn.Module, steps: int | None) -> Taken:
    """act_alpha * round(clip(x / act_alpha, 0, 1) * (2**bit - 1)) / (2**bit - 1)."""
    return confirmed(module, _clip(module, None))


@activation(PROJECT, named("QuantAvgPool2d", "QuantAvg", having=("layer_type", "act_alpha", "bit")))
def _pool(module: Any, steps: int | None) -> Taken:
    """The same behind an average pool."""
    return confirmed(module, _clip(module, nn.AvgPool2d(module.kernel_size, module.stride)))


def _clip(module: nn.Module, before: nn.Module | None) -> Taken:
    bits = whole("bit", module.bit, 1, 8)
    if getattr(module, "power", False) and bits > 1:
        fix = "Train with uniform activations (power=False), Fast-SNN's default"
        raise CannotTakeError("its levels are sums of powers of two, which counts of spikes are not", fix)
    note = "rounds half to even where ours rounds half up: they differ on exact ties only"
    return Taken(2**bits - 1, positive("act_alpha", module.act_alpha), "clip", before=before, note=note)


refused(
    PROJECT,
    named("Spiking", "Spiking_Oneway", "Spiking_Twoways", "Spiking_BasicBlock", "last_Spiking", having=("idem", "T")),
    "is the spiking form of the network",
    "Build the quantised one (spike=False) and load the same weights: their names are the same",
)
