"""Emission rules: what a neuron sends, given its potential and its net count. The definition of each neuron.

A rule maps (potential, count, threshold, floor, ceiling), all integer arrays or scalars that broadcast, to the
emitted spikes of one step. The simulator then does, in this order, `potential -= threshold * spikes` and
`count += spikes`. A new rule is one function decorated with `@emission`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph.arithmetic import IntArray

Emission = Callable[[IntArray, IntArray, IntArray, int, int], npt.NDArray[np.int64]]

EMISSIONS: dict[str, Emission] = {}
"""Every emission rule by the name of its code."""


def emission(code: str) -> Callable[[Emission], Emission]:
    """Register an emission rule under the name of its code."""

    def decorator(rule: Emission) -> Emission:
        EMISSIONS[code] = rule
        return rule

    return decorator


@emission("unary")
def unary(potential: IntArray, count: IntArray, threshold: IntArray, floor: int, ceiling: int) -> npt.NDArray[np.int64]:
    """+1 if potential >= threshold and count < ceiling; -1 if potential < 0 and count > floor; else 0.

    Source: QFFS (10.3389/fnins.2022.918793) Algorithm 1, with Fast-SNN's `>=`; the negative comparison is strict.
    """
    positive = (potential >= threshold) & (count < ceiling)
    negative = (potential < 0) & (count > floor)
    return np.asarray(positive.astype(np.int64) - negative.astype(np.int64))


@emission("graded")
def graded(
    potential: IntArray, count: IntArray, threshold: IntArray, floor: int, ceiling: int
) -> npt.NDArray[np.int64]:
    """The whole difference between the settled count and the present one: one message instead of many."""
    settled = np.asarray(np.clip(potential // threshold + count, floor, ceiling), dtype=np.int64)
    return np.asarray(settled - count)
