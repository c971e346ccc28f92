"""Quantisation clip-floor-shift: what QCFS trains with."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fastsnn_deploy.quantisation.functional import positive_step
from fastsnn_deploy.quantisation.quantisers.base import ActivationQuantiser, activation_quantiser
from fastsnn_deploy.quantisation.quantisers.straight_through import with_gradient_of

SHIFT = 0.5
"""phi, the shift before the floor: half a step, what a neuron has that starts at half its threshold."""


@activation_quantiser("qcfs")
class Qcfs(ActivationQuantiser):
    """lambda * clip(floor(x * L / lambda + phi) / L, 0, 1) with a learned lambda, phi = 1/2 and L = levels.

    Gradients are those of the official code, where the floor passes them on: to x 1 inside the range and 0 outside;
    to lambda 1 above it and q - x / lambda inside. lambda, the threshold of the spiking neuron, starts from the
    first batch; the official code starts from 8. With phi = 1/2 this is `clip` with any whole number of levels.
    Source: Bu et al., QCFS (arXiv 2303.04347), eq. 15 and theorem 2.
    """

    parameter: ClassVar[str] = "lambda_"

    def step(self, learned: Tensor, levels: int) -> Tensor:
        return positive_step(learned / levels)

    def learned(self, step: Tensor, levels: int) -> Tensor:
        return step * levels

    def quantise(self, x: Tensor, learned: Tensor, low: int, high: int, levels: int, elements: int) -> Tensor:
        step = self.step(learned, levels)
        scaled = (x.float() / step).clamp(low, high)
        return with_gradient_of((scaled + SHIFT).floor(), scaled) * step

    def with_range_kept(self, learned: Tensor, high_before: int, high_after: int) -> Tensor:
        return learned
