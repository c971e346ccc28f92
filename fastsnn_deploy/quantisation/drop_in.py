"""Layers with quantised weights in the place of float ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fastsnn_deploy.quantisation.layers import QuantConv2d, QuantConvTranspose2d, QuantLinear

QuantWeighted = QuantConv2d | QuantConvTranspose2d | QuantLinear


def quantised_layer(module: nn.Module, bits: int, quantiser: str, per_channel: bool) -> QuantWeighted:
    """A layer with quantised weights in the place of a float one, its weights copied."""
    new: QuantWeighted
    options: dict[str, Any] = {"bias": module.bias is not None, "weight_bits": bits, "per_channel": per_channel}
    options["quantiser"] = quantiser
    options["device"] = "meta"  # weights are copied, so none are drawn
    if isinstance(module, nn.Conv2d):
        new = QuantConv2d(
            module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding,
            module.dilation, module.groups, **options,
        )  # fmt: skip
    elif isinstance(module, nn.ConvTranspose2d):
        new = QuantConvTranspose2d(
            module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding,
            module.output_padding, module.groups, dilation=module.dilation, **options,
        )  # fmt: skip
    else:
        assert isinstance(module, nn.Linear)
        new = QuantLinear(module.in_features, module.out_features, **options)
    new.to_empty(device="cpu")
    with torch.no_grad():
        new.weight.copy_(module.weight)
        if module.bias is not None and new.bias is not None:
            new.bias.copy_(module.bias)
            new.bias.requires_grad_(module.bias.requires_grad)
    new.weight.requires_grad_(module.weight.requires_grad)
    new.reset_weight_step()
    return new
