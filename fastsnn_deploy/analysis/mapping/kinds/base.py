"""What a connection between two layers asks of cores. One file a kind; `connects` names the types that it serves."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.chip import Rows
from fastsnn_deploy.analysis.mapping.grid import Grid, Int64, Shape, joined, over, volume

Build = Callable[[Any, Shape], dict[str, Any]]
"""A synapse or stock layer, and the shape that it reads -> the fields of its kind that are not of every connection."""

KINDS: dict[type, tuple[type[Connection], Build]] = {}
"""The kind of each type of synapse, of max pools, and of stock layers with weights."""

F = TypeVar("F", bound=Build)


def connects(*types: type) -> Callable[[type[Connection]], Callable[[F], F]]:
    """`connects(Conv2d)(Windowed)` registers the decorated function: how a Conv2d becomes that kind."""

    def to(kind: type[Connection]) -> Callable[[F], F]:
        def decorator(build: F) -> F:
            KINDS.update(dict.fromkeys(types, (kind, build)))
            return build

        return decorator

    return to


@dataclass(frozen=True)
class Part:
    """A layer whose spikes a connection reads. offset: where its first element or channel lies in what is read.
    flat: the map has been flattened on the way."""

    layer: str
    offset: int
    flat: bool


@dataclass(frozen=True, kw_only=True)
class Connection(ABC):
    """name, type: of the synapse. parts: what it reads. source, target: (C, H, W) of what it reads and of its layer.
    flattened: what it reads as it was before it was flattened. bits: of one stored weight. delay: steps beyond the one
    that every synapse takes."""

    name: str
    type: str
    parts: tuple[Part, ...]
    source: Shape
    target: Shape
    flattened: Shape
    bits: int
    mantissa: int
    delay: int = 0

    shared = True
    """The positions of a map share their weights, so that one axon serves all channels of a position."""

    @abstractmethod
    def words(self, low: int, high: int, rows: Rows) -> int:
        """Words of synaptic memory for the output channels [low, high) of a tile, whatever its rows and columns."""

    def tile_words(self, grid: Grid, rows: Rows) -> Int64:
        """`words` of the tiles along the channels, int64 [tiles]; those that are as long take as many."""
        sizes, which = np.unique(grid.sizes(0), return_inverse=True)
        return np.array([self.words(0, int(size), rows) for size in sizes])[which]

    @abstractmethod
    def window(self) -> tuple[int, tuple[int, int], tuple[int, int]]:
        """Channels that one output reads, and kernel and stride of the layer as a convolution."""

    def whole_words(self) -> int:
        """Kernel memory of the whole layer on chips that address it by bits of channels and taps.

        Source: sinabs, backend/dynapcnn/dynapcnn_layer.py, memory_summary.
        """
        channels, kernel, _ = self.window()
        return channels * power_of_two(kernel[0] * kernel[1]) * power_of_two(self.target[0])

    @abstractmethod
    def axis_pairs(self, axis: int) -> tuple[Int64, Int64]:
        """Linked pairs of positions along an axis (0: channels): what is read, and what reads it."""

    @abstractmethod
    def operations(self, spikes: Int64) -> Int64:
        """Synaptic operations at each neuron of the layer, int64 [C, H, W], for spikes of what is read, int64
        [C, H, W]; weights of 0 are stored, and count."""

    def pairs(self, part: Part, before: Grid, after: Grid) -> tuple[Int64, Int64]:
        """Pairs of cores of which the second reads something that the first sends, each once: two int64 [pairs]."""
        if part.flat:
            return self._flat_pairs(part, before, after)
        axes = [self.axis_tiles(axis, part.offset if axis == 0 else 0, before, after) for axis in range(3)]
        return joined(axes, before.parts, after.parts)

    def axis_tiles(self, axis: int, offset: int, before: Grid, after: Grid) -> tuple[Int64, Int64]:
        """Linked pairs of tiles along an axis, each once. offset: of the source's first channel in what is read."""
        read, reader = self.axis_pairs(axis)
        read = read - offset
        inside = (read >= 0) & (read < before.shape[axis])
        return _distinct(read[inside] // before.tile[axis], reader[inside] // after.tile[axis])

    def _flat_pairs(self, part: Part, before: Grid, after: Grid) -> tuple[Int64, Int64]:
        """A flattened map has one axis: elements are told apart one by one."""
        read, reader = self.axis_pairs(0)
        element = read - part.offset
        inside = (element >= 0) & (element < volume(before.shape))
        return _distinct(before.tiles_of(element[inside]), after.tiles_of(reader[inside]))

    def read_by(self, after: Grid) -> Int64:
        """Elements that each core reads, int64 [cores]."""
        lengths = ([len(each) for each in self.tile_reads(axis, after)] for axis in range(3))
        return over(*(np.array(each, dtype=np.int64) for each in lengths))

    def tile_reads(self, axis: int, after: Grid) -> list[Int64]:
        """Positions along an axis that each tile reads, int64 [positions] a tile."""
        read, reader = self.axis_pairs(axis)
        tiles, positions = _distinct(reader // after.tile[axis], read)
        return np.split(positions, np.searchsorted(tiles, np.arange(1, after.parts[axis])))

    def read_by_tiles(self, part: Part, before: Shape, after: Grid) -> Iterator[Int64]:
        """Elements of a layer of that shape, flattened, that each core of the layer reads, in order of the cores."""
        channels, rows, columns = (self.tile_reads(axis, after) for axis in range(3))
        size, (_, height, width) = volume(before) if part.flat else before[0], before
        for c in channels:
            found = c[(c >= part.offset) & (c < part.offset + size)] - part.offset
            for h, w in itertools.product(rows, columns):
                yield found if part.flat else ((found[:, None, None] * height + h[:, None]) * width + w).reshape(-1)


def row_words(weights: int, bits: int, rows: Rows, extra: int = 0) -> int:
    """Words of one row that holds so many weights."""
    stored = weights * (bits + extra) + rows.header_bits.value
    return -(-stored // rows.word_bits.value)


def weight_bits(weight: npt.NDArray[np.integer]) -> int:
    """Bits of one stored weight: those of the greatest magnitude m, ceil(log2 m), and a sign.

    The magnitude 2^k takes no bit more than 2^k - 1: so the compiler's table has it for PilotNet's weights of -8 to 8.
    """
    greatest = int(np.abs(weight.astype(np.int64)).max(initial=0))
    return max((max(greatest, 1) - 1).bit_length(), 1) + 1


def _distinct(a: Int64, b: Int64) -> tuple[Int64, Int64]:
    """Each pair once, in order."""
    if not len(a):
        return a, b
    width = int(b.max()) + 1
    both = np.unique(a * width + b)
    return both // width, both % width


def mantissa_bits(weight: npt.NDArray[np.integer]) -> int:
    """Bits that each weight needs where all share an exponent, and a sign if all have the same: -256, ..., 254 in
    steps of two are 8 bits (Lava's mixed sign mode), and so are 0 to 255."""
    whole = weight.astype(np.int64)
    low, high = int(whole.min(initial=0)), int(whole.max(initial=0))
    shared = int(np.bitwise_or.reduce(whole, axis=None))
    factor = shared & -shared or 1
    return max(high // factor, -low // factor - 1, 1).bit_length() + int(low < 0 < high)


def every_pair(first: int, second: int) -> tuple[Int64, Int64]:
    """Each of the first with each of the second."""
    a, b = np.meshgrid(np.arange(first), np.arange(second), indexing="ij")
    return a.reshape(-1), b.reshape(-1)


def power_of_two(number: int) -> int:
    """The least power of two that is no less."""
    return 1 << (number - 1).bit_length()
