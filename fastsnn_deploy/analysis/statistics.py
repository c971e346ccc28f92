"""A quantity of each image, and what it is over all images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Statistics:
    """mean; std: standard deviation of these images (divided by their number); min, max; p50, p99: the least value that
    at least so many of 100 images do not exceed."""

    mean: float
    std: float
    min: float
    p50: float
    p99: float
    max: float


@dataclass(frozen=True, eq=False)
class PerImage:
    """One number for each image in order, int64 or float64 [N]."""

    values: npt.NDArray[Any]

    @property
    def statistics(self) -> Statistics:
        """Over all images, of which there must be one."""
        numbers = np.asarray(self.values, dtype=np.float64)
        half, most = np.percentile(numbers, (50, 99), method="inverted_cdf")
        ends = (numbers.min(), half, most, numbers.max())
        return Statistics(float(numbers.mean()), float(numbers.std()), *map(float, ends))


def sum_of(parts: Iterable[PerImage | None], images: int) -> PerImage | None:
    """Image by image; None where a part is not known."""
    total = np.zeros(images, dtype=np.int64)
    for part in parts:
        if part is None:
            return None
        total = total + part.values
    return PerImage(total)
