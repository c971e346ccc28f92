"""Fake quantisation of torch.ao and torchao: modules that round activations, and layers that round their weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fastsnn_deploy.quantisation.fixed.modules import Calls, chain, layers_of
from fastsnn_deploy.quantisation.fixed.quantiser import (
    CHANNELS,
    DYNAMIC,
    FixedQuantiser,
    WeightGrid,
    affine,
    put_grid,
    refused,
)

QAT = ("torch.ao.nn.qat.", "torch.ao.nn.intrinsic.qat.")
FAKE = (
    "torch.ao.quantization.fake_quantize.FakeQuantizeBase",
    "torchao.quantization.pt2e.fake_quantize.FakeQuantizeBase",
)
OBSERVERS = ("torch.ao.quantization.observer.ObserverBase", "torchao.quantization.pt2e.observer.ObserverBase")


@layers_of(*FAKE)
def _fake(module: Any, calls: Calls) -> nn.Module:
    """A quantiser of activations, with the scale that it has."""
    if not int(module.fake_quant_enabled[0]):
        return refused("has its fake quantisation off", "Switch it on, and train or calibrate")
    if getattr(module, "is_dynamic", False):
        return refused("computes its scale from each image", DYNAMIC)
    seen = getattr(module.activation_post_process, "min_val", None)
    if seen is not None and (not seen.numel() or not bool(seen.isfinite().all())):
        return refused("has never seen data", "Train or calibrate the network")
    scale, zero = module.scale.detach().float().flatten().tolist(), module.zero_point.detach().flatten().tolist()
    return affine(scale, zero, *_bounds(module), _bits(module), "even_inverse")


@layers_of(*OBSERVERS)
def _observer(module: Any, calls: Calls) -> nn.Module:
    return refused("observes values and rounds none", "Convert the network, or prepare it for QAT with fake quantisers")


def _bounds(module: Any) -> tuple[int, int]:
    observer = module.activation_post_process
    return int(observer.quant_min), int(observer.quant_max)


def _bits(module: Any) -> int:
    low, high = _bounds(module)
    return (high - low).bit_length()


@layers_of(*QAT)
def _weighted(layer: Any, calls: Calls) -> nn.Module | None:
    """A convolution or a linear layer with rounded weights, fused with its batch norm and ReLU where it is."""
    if not hasattr(layer, "weight_fake_quant"):
        return None
    with torch.no_grad():
        gain, shift = _norm(layer)
        shape = [-1] + [1] * (layer.weight.dim() - 1)
        weight = layer.weight_fake_quant(layer.weight * gain.view(shape))
        bias = shift if layer.bias is None else layer.bias * gain + shift
    new = _float_layer(layer, weight, bias if layer.bias is not None or hasattr(layer, "bn") else None)
    fake = layer.weight_fake_quant
    steps = fake.scale.detach().float()
    put_grid(new, WeightGrid(steps.view(shape) if steps.numel() > 1 else steps, _bits(fake)))
    return chain(new, nn.ReLU() if "ReLU" in type(layer).__name__ else None, _behind(layer, calls))


@layers_of("torchao.quantization.qat.linear.FakeQuantizedLinear")
def _torchao_linear(layer: Any, calls: Calls) -> nn.Module:
    """quantize_ with a QATConfig: it rounds activations anew for each image, and weights by channel or by group."""
    activation, fake = layer.activation_fake_quantizer, layer.weight_fake_quantizer
    with torch.no_grad():
        weight = layer.weight if fake is None else fake(layer.weight)
    new = _float_layer(layer, weight, layer.bias)
    if fake is not None:
        scale = getattr(fake, "scale", None)
        by_channel = scale is not None and scale.numel() in (1, len(weight))
        steps = scale.detach().float().reshape(-1, 1) if scale is not None and by_channel else torch.ones(1)
        why = () if by_channel else (("has a weight scale for each group", CHANNELS),)
        put_grid(new, WeightGrid(steps, 8, why))
    return chain(None if activation is None else refused("computes its scale from each image", DYNAMIC), new)


def _norm(layer: Any) -> tuple[Tensor, Tensor]:
    """Gain and shift of the batch norm that a layer is fused with, both [O]."""
    outputs = len(layer.weight)
    norm = getattr(layer, "bn", None)
    if norm is None:
        return torch.ones(outputs), torch.zeros(outputs)
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return gain, norm.bias - gain * norm.running_mean


def _float_layer(layer: Any, weight: Tensor, bias: Tensor | None) -> Any:
    new: Any
    if isinstance(layer, nn.Linear):
        new = nn.Linear(layer.in_features, layer.out_features, bias is not None)
    else:
        kind = next(each for each in type(layer).__mro__ if each.__module__ == "torch.nn.modules.conv")
        options = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups", "padding_mode")}
        new = kind(layer.in_channels, layer.out_channels, layer.kernel_size, bias=bias is not None, **options)
    with torch.no_grad():
        new.weight.copy_(weight)
        if bias is not None:
            new.bias.copy_(bias)
    return new


def _behind(layer: Any, calls: Calls) -> FixedQuantiser | None:
    """What a hook of eager mode rounds a layer's result with."""
    post = getattr(layer, "activation_post_process", None)
    made = None if post is None or not hasattr(post, "fake_quant_enabled") else _fake(post, calls)
    return made if isinstance(made, FixedQuantiser) else None
