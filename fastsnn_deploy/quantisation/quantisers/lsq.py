"""LSQ: the step itself is learned. What QFFS trains with."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fastsnn_deploy.quantisation.functional import lsq, positive_step
from fastsnn_deploy.quantisation.quantisers.base import ActivationQuantiser, activation_quantiser


@activation_quantiser("lsq")
class Lsq(ActivationQuantiser):
    """Learned step size. Source: Esser et al. (arXiv 1902.08153); QFFS (10.3389/fnins.2022.918793), eq. 13."""

    parameter: ClassVar[str] = "step"

    def step(self, learned: Tensor, levels: int) -> Tensor:
        return positive_step(learned)

    def learned(self, step: Tensor, levels: int) -> Tensor:
        return step

    def quantise(self, x: Tensor, learned: Tensor, low: int, high: int, levels: int, elements: int) -> Tensor:
        return lsq(x, learned, low, high, elements)

    def with_range_kept(self, learned: Tensor, high_before: int, high_after: int) -> Tensor:
        return learned * (high_before / high_after)
