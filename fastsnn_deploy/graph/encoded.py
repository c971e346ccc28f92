"""Images as the input population sends them: a type of its own, so that no function can take one for the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class Encoded(np.ndarray[Any, np.dtype[np.int64]]):
    """Integers that an input emits, int64 [N, *input shape]: level - offset. Made by `SpikingGraph.encode`.

    It is an array like any other; functions that take images know by its type that it needs no encoding.
    """

    def __new__(cls, values: npt.ArrayLike) -> Encoded:
        return np.asarray(values, dtype=np.int64).view(cls)
