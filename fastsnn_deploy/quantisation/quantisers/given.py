"""Quantisers of networks that others have quantised: their own steps, and their own rounding.

A neuron rounds half up. What rounds half to even differs from it on exact ties only, and what rounds down is half a
step below it: `conversion.ties` and biases do what neurons do not.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fastsnn_deploy.quantisation.functional import integers, lsq, positive_step
from fastsnn_deploy.quantisation.quantisers.base import activation_quantiser, weight_quantiser
from fastsnn_deploy.quantisation.quantisers.lsq import Lsq
from fastsnn_deploy.quantisation.quantisers.straight_through import with_gradient_of
from fastsnn_deploy.quantisation.quantisers.uniform import Uniform

NOISE = 2.0**-14
"""Steps by which a whole number may seem smaller in float32, of up to 255 and a sum of many products."""


@activation_quantiser("even")
class HalfToEven(Lsq):
    """step * clip(round_half_to_even(x / step), low, high): what ONNX and Brevitas compute."""

    even: ClassVar[bool] = True

    def quantise(self, x: Tensor, learned: Tensor, low: int, high: int, levels: int, elements: int) -> Tensor:
        step = self.step(learned, levels)
        scaled = (x.float() / step).clamp(low, high)
        return with_gradient_of(scaled.round(), scaled) * step


@activation_quantiser("even-inverse")
class HalfToEvenInverse(Lsq):
    """step * clip(round_half_to_even(x * (1 / step)), low, high): what PyTorch computes, to the last bit."""

    even: ClassVar[bool] = True

    def quantise(self, x: Tensor, learned: Tensor, low: int, high: int, levels: int, elements: int) -> Tensor:
        step = self.step(learned, levels)
        scaled = (x.float() * (1 / step)).clamp(low, high)
        return with_gradient_of(scaled.round(), scaled) * step


@activation_quantiser("floor")
class Floor(Lsq):
    """step * clip(floor(x / step), low, high): truncation, as of sums that a shift to the right makes averages."""

    shift: ClassVar[float] = -0.5

    def quantise(self, x: Tensor, learned: Tensor, low: int, high: int, levels: int, elements: int) -> Tensor:
        step = self.step(learned, levels)
        scaled = (x.float() / step).clamp(low, high)
        return with_gradient_of((scaled + NOISE).floor(), scaled) * step


@weight_quantiser("given")
class Given(Uniform):
    """Uniform weights that use the whole range of their bits: -2**(bits - 1) .. 2**(bits - 1) - 1."""

    ends: ClassVar[str] = "given"

    def quantise(self, weight: Tensor, learned: Tensor, bits: int, elements: int) -> Tensor:
        return lsq(weight, learned, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, elements)

    def integers(self, weight: Tensor, learned: Tensor, bits: int) -> tuple[Tensor, Tensor]:
        step = positive_step(learned)
        return integers(weight.float(), step, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1), step
