"""Rules that choose the step of an activation from the values it sees: by squared error, percentile or entropy."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fastsnn_deploy.quantisation.functional import or_one

Rule = Callable[[Tensor, int], Tensor]
"""rule(values float32, high) -> step, a positive scalar; counts reach from 0, or from -high, to high."""

SAMPLE = 2**16
"""Values of an activation that are looked at; their largest counts in any case."""

CANDIDATES = 100
"""Steps that are tried."""

PERCENTILE = 0.9999
"""Share of the values that `percentile` does not clip."""

BINS = 2048
"""Bins of the histogram of `entropy`."""


def least_error(x: Tensor, high: int) -> Tensor:
    """The step with the smallest squared error of rounding and clipping."""
    values = _sampled(x)
    steps = _candidates(x, high)
    errors = [((values / step + 0.5).floor().clamp(-high, high) * step - values).square().sum() for step in steps]
    return steps[torch.stack(errors).argmin()]


def percentile(x: Tensor, high: int) -> Tensor:
    """The step whose range ends where 0.01 % of the values lie beyond."""
    return or_one(torch.quantile(_sampled(x).abs(), PERCENTILE)) / high


def entropy(x: Tensor, high: int) -> Tensor:
    """The step whose counts lose the least information about the values, by Kullback and Leibler's divergence.

    Source: Migacz, "8-bit inference with TensorRT" (GTC 2017), where the values beyond a range belong to its last bin.
    """
    magnitudes = _sampled(x).abs()
    top = float(or_one(x.abs().max()))
    counts = torch.histc(magnitudes[magnitudes > 0], BINS, 0, top).double()
    steps = _candidates(x, high)
    losses = [_divergence(counts, max(2, round(float(step) * high / top * BINS)), high) for step in steps]
    return steps[min(range(len(losses)), key=losses.__getitem__)]


def _divergence(counts: Tensor, kept: int, high: int) -> float:
    """How much the first `kept` bins, told apart by `high` levels only, differ from themselves with the rest on top."""
    wanted = counts[:kept].clone()
    wanted[-1] += counts[kept:].sum()
    level = torch.arange(kept, device=counts.device) * min(high, kept) // kept
    filled = (counts[:kept] > 0).double()
    sums, shares = (torch.zeros(min(high, kept), dtype=torch.float64, device=counts.device) for _ in range(2))
    sums.index_add_(0, level, counts[:kept])
    shares.index_add_(0, level, filled)
    given = filled * (sums / shares.clamp_min(1))[level]
    if not float(wanted.sum()) or not float(given.sum()):
        return float("inf")
    wanted, given = wanted / wanted.sum(), given / given.sum()
    there = wanted > 0
    return float((wanted[there] * (wanted[there] / given[there].clamp_min(1e-12)).log()).sum())


def _candidates(x: Tensor, high: int) -> Tensor:
    """Steps whose ranges end between a twentieth and all of the largest value."""
    return or_one(x.abs().max()) * torch.linspace(0.05, 1.0, CANDIDATES, device=x.device) / high


def _sampled(x: Tensor) -> Tensor:
    """At most SAMPLE of the values, drawn evenly: those at regular distances would all lie in the same columns."""
    values = x.flatten()
    if values.numel() <= SAMPLE:
        return values
    chosen = torch.randint(values.numel(), (SAMPLE,), generator=torch.Generator().manual_seed(0))
    return values[chosen.to(x.device)]


RULES: dict[str, Rule] = {"mse": least_error, "percentile": percentile, "entropy": entropy}
"""Every rule by name."""
