"""Kernels in the form that every NIR reader takes: float32, one group, square."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.lava_dl.limits import FLOAT32_EXACT

Pair = tuple[int, int]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]


def dense_kernel(weight: Int64, groups: int) -> Int64:
    """[O, I / groups, kh, kw] of a grouped convolution -> [O, I, kh, kw] of the same map with one group.

    NIR has groups, but `nir` 1.0.8 and the readers take the second axis of the weight for the input channels and
    fail for more than one group.
    """
    if groups == 1:
        return weight
    outputs, per_group = weight.shape[:2]
    dense = np.zeros((outputs, per_group * groups, *weight.shape[2:]), dtype=weight.dtype)
    share = outputs // groups
    for group in range(groups):
        rows, columns = slice(group * share, (group + 1) * share), slice(group * per_group, (group + 1) * per_group)
        dense[rows, columns] = weight[rows]
    return dense


def square_kernel(weight: Int64, padding: Pair, dilation: Pair) -> tuple[Int64, Pair]:
    """The same map with a square kernel, padded with zeros, if height and width are both odd or both even.

    `nir` 1.0.8 computes shapes as if the width of a kernel were its height. Other kernels come back as they are.
    """
    kernel = weight.shape[2:]
    size = max(kernel)
    if (kernel[0] - kernel[1]) % 2:
        return weight, padding
    margins = [(size - length) // 2 for length in kernel]
    wider = np.pad(weight, ((0, 0), (0, 0), *((margin, margin) for margin in margins)))
    return wider, (padding[0] + margins[0] * dilation[0], padding[1] + margins[1] * dilation[1])


def exact_float32(values: Int64) -> Float32 | None:
    """The integers as float32; None if one of them is not a float32."""
    if values.size and np.abs(values).max() > FLOAT32_EXACT:
        return None
    return values.astype(np.float32)
