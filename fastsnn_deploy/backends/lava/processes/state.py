"""Arithmetic of a neuron's state, shared by the models of this package."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph.ranges import STATE_MAX

Int32 = npt.NDArray[np.int32]


def wrap(values: Int32) -> Int32:
    """To 24 signed bits, modulo 2**24.

    A potential always fits 24 bits (a rule of the graph), but the synaptic input of one step may be twice as large:
    Lava's Conv process wraps it, and wrapping the sum again gives the exact potential.
    """
    half = STATE_MAX + 1
    return np.asarray(((values + half) & (2 * half - 1)) - half)


def share(values: Int32, step: int, parts: int, steps: int) -> Int32:
    """What enters in `step` of `steps` when `values` are split into even `parts` (Bresenham): int32 like them."""
    if not 0 <= step < steps:
        return np.zeros(values.shape, dtype=np.int32)
    total = values.astype(np.int64)
    return np.asarray(total * (step + 1) // parts - total * step // parts, dtype=np.int32)
