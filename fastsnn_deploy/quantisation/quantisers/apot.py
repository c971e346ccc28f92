"""Additive powers of two: hidden weights of Fast-SNN's CIFAR networks."""

from __future__ import annotations

from itertools import product
from typing import ClassVar

import torch
from torch import Tensor

from fastsnn_deploy.quantisation.functional import or_one, positive_step
from fastsnn_deploy.quantisation.quantisers.base import WeightQuantiser, weight_quantiser
from fastsnn_deploy.quantisation.quantisers.straight_through import with_gradient_of

ALPHA = 3.0
"""Clip to begin with, in standard deviations of the weights: the official code's."""

_TERMS: dict[int, tuple[tuple[int, ...], ...]] = {
    2: ((1,),),
    3: ((4, 2, 1),),
    4: ((8, 4, 1), (2,)),
    5: ((32, 8, 2), (16, 4, 1)),
    6: ((64, 16, 2), (32, 8, 1), (4,)),
}
"""Powers of two that each term of a magnitude may be, besides 0, by bits: the official code's, times the power of
two that makes them whole. 2 bits are ternary there."""


def _levels(terms: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    magnitudes = {sum(chosen) for chosen in product(*((0, *powers) for powers in terms))}
    return tuple(sorted(magnitudes | {-m for m in magnitudes}))


LEVELS = {bits: _levels(terms) for bits, terms in _TERMS.items()}
"""All levels as whole numbers, ascending, by bits: 2**bits - 1 of them, at most 100."""


@weight_quantiser("apot")
class Apot(WeightQuantiser):
    """std * alpha * nearest level of (w - mean) / (std * alpha) with a learned clip alpha; one for each tensor.

    Levels are sums of powers of two over the largest sum, hence small whole numbers times one step. Gradients are
    the official code's: mean and std are constants, to w 1 (never clipped), to alpha sign(x) where |x| > 1 and q - x
    elsewhere, x = (w - mean) / (std * alpha), times std. That code leaves the factor std to batch norm, which makes
    the loss and all gradients the same; with it a layer without batch norm stays near its float weights too.
    Midpoints go to the greater level. Source: Li et al., APoT (arXiv 1909.13144), eq. 3, 6-8 and section 2.3, as
    used by Fast-SNN (arXiv 2305.19868).
    """

    parameter: ClassVar[str | None] = "weight_alpha"
    highest_bits: ClassVar[int] = max(_TERMS)
    ends: ClassVar[str] = "absmax"

    def first(self, rows: Tensor, bits: int) -> Tensor:
        return rows.new_full((len(rows),), ALPHA)

    def after_bits_change(self, rows: Tensor, learned: Tensor, bits: int) -> Tensor:
        return learned

    def quantise(self, weight: Tensor, learned: Tensor, bits: int, elements: int) -> Tensor:
        weight, alpha = weight.float(), positive_step(learned)
        with torch.no_grad():
            whole, step = self.integers(weight, learned, bits)
            mean, std = _moments(weight)
            x = (weight - mean) / (std * alpha)
            to_alpha = std * torch.where(x.abs() > 1, x.sign(), whole / LEVELS[bits][-1] - x)
        return with_gradient_of(whole * step, weight + alpha * to_alpha)

    def integers(self, weight: Tensor, learned: Tensor, bits: int) -> tuple[Tensor, Tensor]:
        weight, grid = weight.float(), LEVELS[bits]
        mean, std = _moments(weight)
        step = positive_step(learned) * std / grid[-1]
        marks = torch.tensor(grid, dtype=torch.float32, device=weight.device)
        between = (marks[1:] + marks[:-1]) / 2
        return marks[torch.bucketize(((weight - mean) / step).contiguous(), between, right=True)], step


def _moments(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the tensor, the latter with Bessel's correction and positive."""
    weight = weight.detach()
    return weight.mean(), or_one(weight.std(correction=min(1, weight.numel() - 1)))
