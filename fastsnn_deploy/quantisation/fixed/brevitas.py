"""Layers of Brevitas, by what they say themselves: quant_weight(), and scale, zero point and bits of their quantisers.

Biases and truncations depend on the scale of what a layer reads, which only a call shows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fastsnn_deploy.quantisation.fixed.modules import Calls, chain, layers_of
from fastsnn_deploy.quantisation.fixed.quantiser import DYNAMIC, FixedQuantiser, WeightGrid, affine, put_grid, refused

ROUNDING = {"ROUND": "even", "HALF_EVEN": "even", "FLOOR": "floor"}


@layers_of("brevitas.nn.quant_layer.QuantWeightBiasInputOutputLayer")
def _weighted(layer: Any, calls: Calls) -> nn.Module:
    """A convolution or a linear layer, with what quantises its input and its output."""
    quantised = layer.weight_quant.is_quant_enabled
    made = layer.quant_weight() if quantised else layer.weight
    new = _float_layer(layer)
    with torch.no_grad():
        new.weight.copy_(_value(made))
        if layer.bias is not None:
            call = calls.get(layer.bias_quant)
            new.bias.copy_(_value(layer.bias if call is None else call.result))
    if quantised:
        whole = getattr(made, "bit_width", None)
        bits = 8.0 if whole is None else float(whole)
        why = (
            ()
            if whole is not None and bits % 1 == 0
            else ((f"has weights of {bits:g} bits", "Use whole bits, 1 to 8"),)
        )
        put_grid(new, WeightGrid(made.scale.detach().float(), int(bits), why))
    return chain(_quantiser(layer.input_quant), new, _quantiser(layer.output_quant))


def _float_layer(layer: Any) -> Any:
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, layer.out_features, bias)
    kind = next(each for each in type(layer).__mro__ if each.__module__ == "torch.nn.modules.conv")
    names = ["stride", "padding", "dilation", "groups", "padding_mode"]
    if "Transpose" in kind.__name__:
        names.append("output_padding")
    options = {name: getattr(layer, name) for name in names}
    return kind(layer.in_channels, layer.out_channels, layer.kernel_size, bias=bias, **options)


@layers_of("brevitas.nn.quant_layer.QuantNonLinearActLayer")
def _activation(layer: Any, calls: Calls) -> nn.Module:
    """QuantReLU, QuantIdentity and their like; an unsigned quantiser is the ReLU."""
    function = getattr(layer.act_quant.fused_activation_quant_proxy, "activation_impl", None)
    quantiser = _quantiser(layer.act_quant)
    if isinstance(function, nn.Identity) or (quantiser and quantiser.low == 0 and isinstance(function, nn.ReLU)):
        function = None
    if function is None and quantiser is None and _quantiser(layer.input_quant) is None:
        return nn.Identity()
    return chain(_quantiser(layer.input_quant), function, quantiser)


@layers_of("brevitas.nn.quant_avg_pool.Trunc")
def _average(layer: Any, calls: Calls) -> nn.Module:
    """An average whose result is rounded or cut to fewer bits: its scale follows from that of what it reads."""
    kind = nn.AdaptiveAvgPool2d if isinstance(layer, nn.AdaptiveAvgPool2d) else nn.AvgPool2d
    names = ["output_size"] if kind is nn.AdaptiveAvgPool2d else [
        "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"
    ]  # fmt: skip
    pool = kind(**{name: getattr(layer, name) for name in names})
    if not layer.is_trunc_quant_enabled:
        return pool
    call = calls.get(layer.trunc_quant)
    result: Any = None if call is None else call.result
    if not hasattr(result, "bit_width"):
        what = "truncates an input whose scale is not known"
        return chain(pool, refused(what, "Let the layer before it return a QuantTensor, and give input_shape"))
    proxy = layer.trunc_quant
    return chain(pool, _of(result, bool(result.signed), bool(proxy.is_narrow_range), str(proxy.rounding_mode)))


class _Joined(nn.Module):
    """Several values, quantised, joined, quantised."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.input_quant = _quantiser(layer.input_quant) or nn.Identity()
        self.output_quant = _quantiser(layer.output_quant) or nn.Identity()


class _Added(_Joined):
    def forward(self, input: Tensor, other: Tensor) -> Any:
        return self.output_quant(self.input_quant(input) + self.input_quant(other))


class _Concatenated(_Joined):
    def forward(self, tensors: list[Tensor], dim: int = 1) -> Any:
        return self.output_quant(torch.cat([self.input_quant(each) for each in tensors], dim))


@layers_of("brevitas.nn.quant_eltwise.QuantEltwiseAdd")
def _added(layer: Any, calls: Calls) -> nn.Module:
    return _Added(layer)


@layers_of("brevitas.nn.quant_eltwise.QuantCat")
def _concatenated(layer: Any, calls: Calls) -> nn.Module:
    return _Concatenated(layer)


def _quantiser(proxy: Any) -> FixedQuantiser | None:
    """The quantiser of activations that a proxy is, None if it is off."""
    if not proxy.is_quant_enabled:
        return None
    try:
        scale, zero, bits = proxy.scale(), proxy.zero_point(), proxy.bit_width()
    except Exception:  # whatever a quantiser does that has no scale before it sees an image
        scale = zero = bits = None
    if any(value is None for value in (scale, zero, bits)):
        return refused("computes its scale from each image", DYNAMIC)
    found = {"scale": scale, "zero_point": zero, "bit_width": bits}
    known = type("Known", (), found)
    return _of(known, bool(proxy.is_signed), bool(proxy.is_narrow_range), str(proxy.rounding_mode))


def _of(known: Any, signed: bool, narrow: bool, rounding: str) -> FixedQuantiser:
    """A quantiser from what a QuantTensor says: scale, zero_point, bit_width."""
    bits = float(known.bit_width)
    if bits % 1 or bits < 1:
        return refused(f"has {bits:g} bits", "Use whole bits, 1 to 8")
    half = 2 ** (int(bits) - 1)
    low, high = (narrow - half, half - 1) if signed else (0, 2 * half - 1 - narrow)
    scale, zero = (value.detach().float().flatten().tolist() for value in (known.scale, known.zero_point))
    mode = rounding.upper()
    return affine(scale, zero, low, high, int(bits), ROUNDING.get(mode, mode))


def _value(tensor: Any) -> Tensor:
    """The real values of a QuantTensor or a tensor."""
    values: Tensor = getattr(tensor, "value", tensor)
    return values.detach()
