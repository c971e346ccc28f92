"""Integer arithmetic that every stage shares. NumPy only; each function states its rounding.

Division floors towards minus infinity, as Python's and NumPy's `//` do.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.integer]
Int64 = npt.NDArray[np.int64]

EXACT_FLOAT64 = 2**53  # every integer of smaller magnitude is a float64


def round_half_up(x: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """floor(x + 0.5) as int64; `numpy.round` rounds halves to even.

    Example:
        >>> round_half_up([0.5, 2.5, -2.5]).tolist()
        [1, 3, -2]
    """
    return np.floor(np.asarray(x, dtype=np.float64) + 0.5).astype(np.int64)


def quantise(
    synaptic_input: IntArray, threshold: IntArray, initial: IntArray, floor: int, ceiling: int
) -> npt.NDArray[np.int64]:
    """The integer activation: clip(floor((synaptic input + initial) / threshold), floor, ceiling).

    synaptic input: int [..., shape]; threshold (>= 1) and initial broadcast to it. With initial = threshold // 2 this
    rounds half up. Returns int64 like `synaptic input`.
    Source: Fast-SNN (arXiv 2305.19868), equivalent mapping; QFFS (10.3389/fnins.2022.918793) eq. 13.
    """
    count = (synaptic_input.astype(np.int64) + initial) // threshold
    return np.clip(count, floor, ceiling)


def per_channel(values: IntArray, dimensions: int) -> npt.NDArray[np.int64]:
    """Reshape [C] to [C, 1, ..., 1] with `dimensions` axes so that it broadcasts over [N, C, ...]."""
    return values.astype(np.int64).reshape((-1,) + (1,) * (dimensions - 1))


def exact_matmul(a: IntArray, b: IntArray) -> npt.NDArray[np.int64]:
    """Integer matrix product through float64, exact because every partial sum stays below 2**53.

    NumPy multiplies integer matrices without BLAS, 20-50 times slower. Raises OverflowError if exactness
    cannot be guaranteed from the largest magnitudes.
    """
    if a.size == 0 or b.size == 0:
        return np.asarray(np.matmul(a.astype(np.int64), b.astype(np.int64)))
    bound = int(np.abs(a).max()) * int(np.abs(b).max()) * a.shape[-1]
    if bound >= EXACT_FLOAT64:
        raise OverflowError(f"a sum of products may reach {bound}, beyond 2**53: not exact in float64")
    return np.asarray(np.matmul(a.astype(np.float64), b.astype(np.float64)).astype(np.int64))
