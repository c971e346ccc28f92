"""Tiles of a layer: a feature map (C, H, W) cut into boxes of one size, those at the ends smaller."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Shape = tuple[int, int, int]


def cubic(shape: tuple[int, ...]) -> Shape:
    """(C, H, W) of a layer's shape; a vector (N,) is N channels of one position."""
    return (shape[0], *shape[1:], *(1,) * (3 - len(shape)))  # type: ignore[return-value]


def volume(shape: tuple[int, ...]) -> int:
    """Number of elements."""
    return int(np.prod(shape, dtype=np.int64))


@dataclass(frozen=True)
class Grid:
    """shape: (C, H, W) of a layer. tile: channels, rows and columns of one core. Cores are in order C, H, W."""

    shape: Shape
    tile: Shape

    @cached_property
    def parts(self) -> Shape:
        """Tiles along each axis."""
        c, h, w = (-(-size // each) for size, each in zip(self.shape, self.tile, strict=True))
        return c, h, w

    @property
    def cores(self) -> int:
        """Number of tiles."""
        return volume(self.parts)

    def sizes(self, axis: int) -> Int64:
        """Length of each tile along an axis, int64 [parts]."""
        edges = np.minimum(np.arange(self.parts[axis] + 1) * self.tile[axis], self.shape[axis])
        return np.diff(edges)

    @cached_property
    def neurons(self) -> Int64:
        """Elements of each tile, int64 [cores]."""
        return over(*(self.sizes(axis) for axis in range(3)))

    @cached_property
    def positions(self) -> Int64:
        """Positions of the map in each tile, whatever the channel, int64 [cores]."""
        return over(np.ones(self.parts[0], dtype=np.int64), self.sizes(1), self.sizes(2))

    def tiles_of(self, elements: Int64) -> Int64:
        """The tile of each element of the flattened layer, int64 like `elements`."""
        places = np.unravel_index(elements, self.shape)
        tiles = tuple(place // each for place, each in zip(places, self.tile, strict=True))
        return np.asarray(np.ravel_multi_index(tiles, self.parts), dtype=np.int64)


def over(channels: Int64, rows: Int64, columns: Int64) -> Int64:
    """Products of one number an axis for each tile, int64 [cores]."""
    return np.asarray(np.einsum("c,h,w->chw", channels, rows, columns).reshape(-1), dtype=np.int64)


def joined(axes: list[tuple[Int64, Int64]], source: Shape, target: Shape) -> tuple[Int64, Int64]:
    """Pairs of tiles that are linked on every axis, from the pairs of each axis.

    axes: for each axis, (tile of the source, tile of the target) of each linked pair. source, target: tiles along each
    axis. Returns the same for whole tiles.
    """
    sources, targets = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    for (a, b), of_source, of_target in zip(axes, source, target, strict=True):
        sources = (sources[:, None] * of_source + a).reshape(-1)
        targets = (targets[:, None] * of_target + b).reshape(-1)
    return sources, targets


def tile_sizes(size: int) -> list[int]:
    """Lengths by which an axis is cut evenly: ceil(size / k) for every k, the longest first."""
    return sorted({-(-size // parts) for parts in range(1, size + 1)}, reverse=True)


def halves(size: int) -> list[int]:
    """ceil(size / 2^i), the longest first."""
    lengths = itertools.takewhile(lambda each: each > 1, (-(-size // 2**i) for i in range(size.bit_length() + 1)))
    return [*lengths, 1]


def powers(size: int) -> list[int]:
    """Powers of two up to `size`, the greatest first."""
    return [2**i for i in reversed(range(size.bit_length()))]
