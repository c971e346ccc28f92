"""Uniform weights with a learned step per output channel or per tensor."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fastsnn_deploy.quantisation.functional import best_step, integers, lsq, positive_step, weight_limit
from fastsnn_deploy.quantisation.quantisers.base import WeightQuantiser, weight_quantiser


@weight_quantiser("uniform")
class Uniform(WeightQuantiser):
    """LSQ on a symmetric grid. It starts from the step with the least squared error."""

    parameter: ClassVar[str | None] = "weight_step"
    per_channel: ClassVar[bool] = True
    ends: ClassVar[str] = "uniform"

    def first(self, rows: Tensor, bits: int) -> Tensor:
        return best_step(rows, weight_limit(bits))

    def quantise(self, weight: Tensor, learned: Tensor, bits: int, elements: int) -> Tensor:
        limit = weight_limit(bits)
        return lsq(weight, learned, -limit, limit, elements)

    def integers(self, weight: Tensor, learned: Tensor, bits: int) -> tuple[Tensor, Tensor]:
        limit = weight_limit(bits)
        step = positive_step(learned)
        return integers(weight.float(), step, -limit, limit), step
