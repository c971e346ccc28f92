"""Linear maps of NIR that follow each other without a neuron between, as one: pools before and behind weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Shape = tuple[int, ...]
Pair = tuple[int, int]


class RefusedError(Exception):
    """What a node holds that has no exact form here."""


@dataclass(frozen=True)
class Linear:
    """(sum of weight * what enters + bias) / divisor.

    weight: int64 [O, I / groups, kh, kw] over a map, or [O, I] over a vector. bias: int64 [O]. shape: of the result.
    pool: its weights are ones, each channel for itself.
    """

    weight: Int64
    bias: Int64
    shape: Shape
    divisor: int = 1
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    pool: bool = False

    @property
    def window(self) -> Pair:
        """Height and width of a kernel."""
        return self.weight.shape[2], self.weight.shape[3]


def composed(first: Linear, second: Linear, source: Shape) -> Linear:
    """Both as one map of `source`. Raises RefusedError where their integers would not be the same."""
    if not first.pool and not second.pool:
        raise RefusedError("follows another layer with weights without a neuron between")
    divisor = first.divisor * second.divisor
    if second.weight.ndim == 2:
        return Linear(_over_map(first, second, source), second.bias * first.divisor, second.shape, divisor)
    if any(second.padding) and not (first.pool and _partitions(first, source)):
        raise RefusedError("pads what no neuron has made: outside the map the two together see more than zeros")
    if first.pool:
        step, inner, bias = second.dilation, first.window, second.bias * first.divisor
        taps, spread, groups = second.weight, (step[0] * first.stride[0], step[1] * first.stride[1]), second.groups
        weight = _spread(taps, spread, inner, (1, 1))
    else:
        bias, groups = first.bias * (second.window[0] * second.window[1]), first.groups
        weight = _spread(first.weight, first.dilation, second.window, first.stride)
    padding = tuple(p * s + q for p, s, q in zip(second.padding, first.stride, first.padding, strict=True))
    stride = tuple(a * b for a, b in zip(first.stride, second.stride, strict=True))
    return Linear(
        weight, bias, second.shape, divisor, (stride[0], stride[1]), (padding[0], padding[1]), (1, 1), groups,
        first.pool and second.pool,
    )  # fmt: skip


def _spread(taps: Int64, apart: Pair, copies: Pair, between: Pair) -> Int64:
    """Taps `apart` from each other, and so many copies of them `between` positions apart, added up."""
    sizes = [(k - 1) * a + (c - 1) * b + 1 for k, a, c, b in zip(taps.shape[2:], apart, copies, between, strict=True)]
    weight = np.zeros((*taps.shape[:2], *sizes), dtype=np.int64)
    height, width = ((k - 1) * a + 1 for k, a in zip(taps.shape[2:], apart, strict=True))
    for row, column in np.ndindex(*copies):
        top, left = row * between[0], column * between[1]
        weight[:, :, top : top + height : apart[0], left : left + width : apart[1]] += taps
    return weight


def _over_map(pool: Linear, dense: Linear, source: Shape) -> Int64:
    """Weights of a dense layer behind a pool, over what the pool reads."""
    weight = dense.weight.reshape(len(dense.weight), *pool.shape)
    (top, left), (down, right) = pool.padding, pool.window
    rows, columns = ((pool.shape[1 + i] - 1) * pool.stride[i] + pool.window[i] for i in (0, 1))
    wide = np.zeros(
        (len(weight), source[0], max(rows, source[1] + 2 * top), max(columns, source[2] + 2 * left)), dtype=np.int64
    )
    for row, column in np.ndindex(down, right):
        place = wide[:, :, row : row + rows - down + 1, column : column + columns - right + 1]
        place[:, :, :: pool.stride[0], :: pool.stride[1]] += weight
    return np.ascontiguousarray(wide[:, :, top : top + source[1], left : left + source[2]]).reshape(len(weight), -1)


def _partitions(pool: Linear, source: Shape) -> bool:
    """True if the pool cuts its source into windows without a rest, so that windows outside hold nothing."""
    covered = tuple(size * k for size, k in zip(pool.shape[1:], pool.window, strict=True))
    return pool.window == pool.stride and not any(pool.padding) and covered == source[1:]
