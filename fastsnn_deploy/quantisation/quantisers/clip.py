"""Learned clip: the top of the range is learned, the step follows. What Fast-SNN trains with."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fastsnn_deploy.quantisation.functional import integers, positive_step
from fastsnn_deploy.quantisation.quantisers.base import ActivationQuantiser, activation_quantiser


@activation_quantiser("clip")
class Clip(ActivationQuantiser):
    """alpha * floor(clip(x / alpha, 0, 1) * levels + 1/2) / levels with a learned clip alpha.

    Gradients are those of the official code: to x 1 inside the range and 0 outside; to alpha 1 above the range and
    q - x / alpha inside, q the quantised x / alpha. It rounds half up, where that code rounds half to even. alpha
    starts from the first batch; the official code starts from 8.
    Source: Fast-SNN (arXiv 2305.19868), section 4.1; after Li et al., APoT (arXiv 1909.13144), eq. 4-8.
    """

    parameter: ClassVar[str] = "alpha"

    def step(self, learned: Tensor, levels: int) -> Tensor:
        return positive_step(learned / levels)

    def learned(self, step: Tensor, levels: int) -> Tensor:
        return step * levels

    def quantise(self, x: Tensor, learned: Tensor, low: int, high: int, levels: int, elements: int) -> Tensor:
        step = self.step(learned, levels)
        return integers(x.float(), step, low, high) * step

    def with_range_kept(self, learned: Tensor, high_before: int, high_after: int) -> Tensor:
        return learned
