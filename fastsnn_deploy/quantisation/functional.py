"""Quantisation on a uniform grid with straight-through gradients. Rounding is half up everywhere.

`torch.round` rounds half to even; a spiking neuron that starts at half its threshold rounds half up. Exact ties
are common among integer pre-activations, so training must round as the neuron does.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_BLOCK = 2**18
"""Weights searched at a time: intermediate values stay in the processor's cache."""


class _RoundHalfUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.floor(x + 0.5)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


class _CountsOf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, step: Tensor, low: int, high: int) -> Tensor:
        ctx.save_for_backward(x, step)
        ctx.low, ctx.high = low, high
        return (values / step).round_()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, step = ctx.saved_tensors
        inside = (x >= ctx.low * step) & (x <= ctx.high * step)
        return gradients[0] / step * inside, None, None, None, None


def round_half_up(x: Tensor) -> Tensor:
    """floor(x + 0.5), gradient 1."""
    return _RoundHalfUp.apply(x)  # type: ignore[no-any-return, no-untyped-call]


def positive_step(step: Tensor) -> Tensor:
    """The step size in use: |step|, at least the smallest normal number, so that it never reaches or crosses zero."""
    return step.abs().clamp_min(torch.finfo(torch.float32).tiny)


def or_one(x: Tensor) -> Tensor:
    """x, and 1 where it is 0: the scale of what is 0 everywhere may be any."""
    return torch.where(x > 0, x, torch.ones_like(x))


def integers(x: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    """clip(round_half_up(x / step), low, high): the integer of each value, as floating point.

    step broadcasts to x. The gradient is 1 inside the clip range and 0 outside.
    """
    return round_half_up(torch.clamp(x / step, low, high))


def counts_of(x: Tensor, values: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    """The integers values / step, float32; the gradient to x is that of x / step clipped to low .. high, no other.

    values: multiples of the step that a quantiser made of x, of one shape.
    """
    return _CountsOf.apply(x, values, step, low, high)  # type: ignore[no-any-return, no-untyped-call]


def lsq(x: Tensor, step: Tensor, low: int, high: int, elements: int) -> Tensor:
    """Learned step size quantisation: step * integers(x), in float32.

    elements: number of values that share one step, per image for activations; the step's gradient is scaled by
    1 / sqrt(elements * high). Source: Esser et al., LSQ (arXiv 1902.08153), eq. 1-3 and section 2.2.
    """
    scaled = _ScaleGradient.apply(step, 1.0 / math.sqrt(max(elements * high, 1)))  # type: ignore[no-untyped-call]
    used = positive_step(scaled)
    return integers(x.float(), used, low, high) * used


def weight_limit(bits: int) -> int:
    """Largest weight integer of a uniform grid: 2**(bits - 1) - 1; it is symmetric, so 2 bits are ternary."""
    return int(2 ** (bits - 1) - 1)


def best_step(rows: Tensor, limit: int) -> Tensor:
    """Step of each row [R, n] with the smallest squared rounding error to -limit .. limit, of 80 candidates; [R]."""
    count, length = rows.shape
    largest = or_one(torch.maximum(rows.amax(1), -rows.amin(1)))
    steps = largest * torch.linspace(0.2, 1.0, 80, device=rows.device).view(-1, 1) / limit
    errors = torch.zeros_like(steps)
    height = max(1, _BLOCK // length)
    for top in range(0, count, height):
        for left in range(0, length, _BLOCK):
            block = rows[top : top + height, left : left + _BLOCK]
            for candidates, error in zip(steps, errors, strict=True):
                step = candidates[top : top + height, None]
                rounded = (block / step).add_(0.5).floor_().clamp_(-limit, limit).mul_(step)
                error[top : top + height] += rounded.sub_(block).square_().sum(1)
    return steps.gather(0, errors.argmin(0, keepdim=True))[0]
