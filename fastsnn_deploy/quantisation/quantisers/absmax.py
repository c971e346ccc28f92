"""Uniform weights scaled by the largest one: nothing is learned. Fast-SNN's first and last layers."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fastsnn_deploy.quantisation.functional import or_one, round_half_up, weight_limit
from fastsnn_deploy.quantisation.quantisers.base import WeightQuantiser, weight_quantiser
from fastsnn_deploy.quantisation.quantisers.straight_through import with_gradient_of


@weight_quantiser("absmax")
class AbsMax(WeightQuantiser):
    """floor(w / step + 1/2) * step with step = max(|w|) / (2**(bits - 1) - 1); the gradient to w is 1.

    Source: `first_conv` and `last_fc` of Fast-SNN's code (arXiv 2305.19868), which take max(w) without the
    magnitude and so may leave 8 bits where the most negative weight is the largest.
    """

    parameter: ClassVar[str | None] = None
    ends: ClassVar[str] = "absmax"

    def first(self, rows: Tensor, bits: int) -> Tensor:
        return rows.new_empty(0)

    def quantise(self, weight: Tensor, learned: Tensor, bits: int, elements: int) -> Tensor:
        whole, step = self.integers(weight.detach(), learned, bits)
        return with_gradient_of(whole * step, weight.float())

    def integers(self, weight: Tensor, learned: Tensor, bits: int) -> tuple[Tensor, Tensor]:
        weight, limit = weight.float(), weight_limit(bits)
        step = or_one(weight.abs().max() / limit)
        return round_half_up(weight / step).clamp(-limit, limit), step
