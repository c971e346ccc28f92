"""The neuron rule: what every neuron sends, given its potential and its net count. One rule, two bounds.

A neuron owes the difference between the count that its potential asks for and the count it has sent so far, and
sends as much of it as its spike bounds allow:

    spike = clip(clip(potential // threshold + count, floor, ceiling) - count, min_spike, max_spike)

The simulator then does, in this order, `potential -= threshold * spike` and `count += spike`. Presets name the usual
bounds (`spike_bounds`). With -1 and 1 this is the neuron of QFFS (10.3389/fnins.2022.918793, Algorithm 1, with
Fast-SNN's `>=`): +1 if potential >= threshold and count < ceiling, -1 if potential < 0 and count > floor. With 0 and 1
it is the neuron of QCFS (arXiv 2303.04347, eq. 1-5), but for its count ceiling.

A neuron at rest has the count of the integer network, clip((potential + threshold * count) // threshold, floor,
ceiling), if it may send in both directions (`settles`): such a network ends with the integer network's answer, whatever
the order in which spikes arrive. One that cannot take back what it fired too early may end with another.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError, wrong_type
from fastsnn_deploy.graph.arithmetic import IntArray

PRESETS = ("unary", "graded", "unsigned", "burst")
"""Names of spike bounds; a burst is followed by its bound, as in burst4."""


def emit(
    potential: IntArray,
    count: IntArray,
    threshold: IntArray,
    floor: int,
    ceiling: int,
    min_spike: int,
    max_spike: int,
) -> npt.NDArray[np.int64]:
    """Spikes of one step.

    Args:
        potential: membrane potential with this step's synaptic input, any integers.
        count: net count so far.
        threshold: at least 1.
        floor: least net count.
        ceiling: greatest net count.
        min_spike: least spike, at most 0.
        max_spike: greatest spike, at least 1.

    Returns:
        int64, arrays broadcast together.

    Example:
        >>> emit(np.array([7, -1, 2]), np.array([0, 1, 0]), np.array(3), 0, 3, -1, 1)
        array([ 1, -1,  0])
    """
    settled = np.clip(potential // threshold + count, floor, ceiling)
    return np.asarray(np.clip(settled - count, min_spike, max_spike), dtype=np.int64)


def spike_bounds(neurons: str, floor: int, ceiling: int) -> tuple[int, int]:
    """(min_spike, max_spike) of a preset for counts in [floor, ceiling].

    Args:
        neurons: "unary" (-1 to 1), "graded" (the whole difference in one spike), "unsigned" (0 to 1: what fired too
            early is never taken back), or "burst" and a number (at most that many at once, either way: for chips
            whose spikes carry few bits).
        floor: least net count.
        ceiling: greatest net count.

    Raises:
        InputError: for an unknown preset.

    Example:
        >>> spike_bounds("graded", 0, 7), spike_bounds("burst2", 0, 7)
        ((-7, 7), (-2, 2))
    """
    if not isinstance(neurons, str):
        raise wrong_type("neurons", neurons, "the name of a preset, such as unary or graded")
    if neurons == "unary":
        return -1, 1
    if neurons == "unsigned":
        return 0, 1
    if neurons == "graded":
        return floor - ceiling, ceiling - floor
    if (burst := re.fullmatch(r"burst([1-9]\d{0,8})", neurons)) is not None:
        return -int(burst[1]), int(burst[1])
    raise InputError(f"neurons '{neurons}' are not known. Known: unary, graded, unsigned, burst2, burst3, ...")


MANY_COUNTS = 1024
"""No neuron sends more counts than this one by one: partial sums of wide layers and sums of maps are graded spikes."""

RELAY_COUNTS = 64
"""A relay that may owe more counts than this sends them in one graded spike, whatever the other neurons do: an average
pool over a whole map sums thousands, which would take as many steps one by one."""


def relay_bounds(neurons: str, floor: int, ceiling: int, relay: bool = True) -> tuple[int, int]:
    """(min_spike, max_spike) of neurons in a network of a preset; relay: they only pass counts on."""
    many = ceiling - floor > (RELAY_COUNTS if relay else MANY_COUNTS)
    return spike_bounds("graded" if many else neurons, floor, ceiling)


def preset_name(floor: int, ceiling: int, min_spike: int, max_spike: int) -> str:
    """The preset that has these bounds, or the bounds themselves.

    Example:
        >>> preset_name(0, 7, -1, 1), preset_name(0, 7, -7, 7), preset_name(0, 7, -1, 3)
        ('unary', 'graded', '-1..3')
    """
    for name in ("unary", "unsigned", "graded", f"burst{max_spike}"):
        if spike_bounds(name, floor, ceiling) == (min_spike, max_spike):
            return name
    return f"{min_spike}..{max_spike}"
