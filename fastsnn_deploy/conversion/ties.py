"""Rounding half to even, by two populations and their sum, where exact ties are frequent.

A neuron rounds half up. With threshold T and an integer sum S, half to even is

    floor((S + 2T - (T // 2 + 1)) / 2T) + floor((S + T // 2) / 2T):

the first term counts the steps to odd integers, which a tie does not take, the second those to even ones, which it
does. Averages of integers on the grid that they are rounded to tie in every fourth sum or so; sums of trained weights
with scales of their own never do.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.conversion.expression import Expression
from fastsnn_deploy.conversion.fit import FittedPopulation

SUMS = 256
"""Where fewer than one sum in so many is a tie, a neuron's own rounding does; `analysis.agreement` counts them."""

EXACT = 1e-7
"""Relative distance up to which a real threshold is a whole number: scales are float32."""


def frequent_ties(fitted: FittedPopulation, value: Expression, step: float) -> bool:
    """Whether sums that lie exactly between two integers are frequent in a channel."""
    threshold, grain = fitted.threshold, _grain(fitted)
    real, bias = step / fitted.unit, value.constant / fitted.unit
    whole = (np.abs(real - threshold) <= EXACT * threshold) & (np.abs(bias - np.rint(bias)) <= EXACT * threshold)
    common = np.gcd(np.maximum(grain, 1), threshold)
    tied = (threshold % 2 == 0) & ((threshold // 2 - np.rint(bias).astype(np.int64)) % common == 0)
    return bool((whole & tied & (grain > 0) & (threshold // common <= SUMS)).any())


def _grain(fitted: FittedPopulation) -> npt.NDArray[np.int64]:
    """Greatest common divisor of the weights of each channel, int64 [C]; 0 without weights."""
    weights = [synapse.effective_weight.reshape(synapse.channels, -1) for synapse in fitted.synapses]
    return np.asarray(np.gcd.reduce(np.concatenate(weights, axis=1).astype(np.int64), axis=1))


def halves(
    fitted: FittedPopulation, low: int, high: int
) -> tuple[tuple[FittedPopulation, int, int], tuple[FittedPopulation, int, int]]:
    """(integers, least, greatest count) of the steps to odd integers, and of those to even ones, of low .. high."""
    threshold = fitted.threshold
    to_odd = replace(fitted, threshold=2 * threshold, bias=fitted.bias + threshold - threshold // 2 - 1)
    to_even = replace(fitted, threshold=2 * threshold, bias=fitted.bias + threshold // 2 - threshold)
    return (to_odd, -(-low // 2), (high + 1) // 2), (to_even, -((1 - low) // 2), high // 2)
