"""Emission rules: what a neuron sends, given its potential and its net count. The definition of each neuron.

A rule maps (potential, count, threshold, floor, ceiling), all integer arrays or scalars that broadcast, to the
emitted spikes of one step. The simulator then does, in this order, `potential -= threshold * spikes` and
`count += spikes`. A new rule is one function decorated with `@emission`.

A rule settles if a neuron at rest always has the count of the integer network, clip((potential + threshold * count)
// threshold, floor, ceiling). A network of such neurons ends with the integer network's answer, whatever the order
in which spikes arrive; a network with one that does not settle may end with another (`settles`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph.arithmetic import IntArray

Emission = Callable[[IntArray, IntArray, IntArray, int, int], npt.NDArray[np.int64]]

EMISSIONS: dict[str, Emission] = {}
"""Every emission rule by the name of its code."""


UNSETTLED: set[str] = set()
"""Codes whose runs may end with other counts than the integer network."""


def emission(code: str, *, settles: bool = True) -> Callable[[Emission], Emission]:
    """Register an emission rule under the name of its code. settles: as defined above."""

    def decorator(rule: Emission) -> Emission:
        EMISSIONS[code] = rule
        if not settles:
            UNSETTLED.add(code)
        return rule

    return decorator


def settles(code: str) -> bool:
    """True if every run with this code ends with the integer network's counts. Raises KeyError for an unknown code."""
    if code not in EMISSIONS:
        raise KeyError(code)
    return code not in UNSETTLED


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
    """The whole difference between the settled count and the present one: one spike instead of many."""
    settled = np.asarray(np.clip(potential // threshold + count, floor, ceiling), dtype=np.int64)
    return np.asarray(settled - count)


@emission("unsigned", settles=False)
def unsigned(
    potential: IntArray, count: IntArray, threshold: IntArray, floor: int, ceiling: int
) -> npt.NDArray[np.int64]:
    """+1 if potential >= threshold and count < ceiling, else 0: what fired too early is never taken back.

    The neuron of QCFS (arXiv 2303.04347, eq. 1-5), but for one thing: there a neuron fires without limit, here it
    stops at its ceiling, as its count has to. A relay or an activation that may be negative stays at 0 or above.
    """
    return np.asarray(((potential >= threshold) & (count < ceiling)).astype(np.int64))


PAYLOADS = (2, 3, 4, 7, 15)
"""Payload bounds that have a code of their own, burst2 to burst15."""


def _register_burst(bound: int) -> None:
    @emission(f"burst{bound}")
    def burst(
        potential: IntArray, count: IntArray, threshold: IntArray, floor: int, ceiling: int
    ) -> npt.NDArray[np.int64]:
        """`graded` with payloads of at most `bound` either way: for chips whose spikes carry few bits.

        Settles as `graded` does, in up to ceil(Z / bound) steps a population. With a bound of 1 it would be `unary`.
        """
        return np.clip(graded(potential, count, threshold, floor, ceiling), -bound, bound)


for _bound in PAYLOADS:
    _register_burst(_bound)
