# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call, call-arg"
"""Calls an assembled loop for all blocks of rows, positions and channels of a layer.

A loop takes one address, that of its int64 kernel arguments, whose meaning `Field` gives. Their positions are defined
here and nowhere else, because numba keeps `_launch`, with these numbers in it, until this file changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, auto
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from fastsnn_deploy.simulators.cpu.kernels import OPTIONS

Int64 = npt.NDArray[np.int64]

LANES = 16
"""int32 in a register."""

PAIR = 2
"""Registers of channels in a block."""

ROWS = 10
"""Most rows of a block: more would fall on one set of the first-level cache, whose ways are 12."""


class Field(IntEnum):
    """Position of each kernel argument. Addresses are those of the block's first row, position and channel."""

    MESSAGES = 0  # uint8
    ROW = auto()  # bytes from one row of spikes to the next
    WEIGHTS = auto()  # int8 [k, pair, 16, 4]; a k is 4 source channels
    RUNS = auto()  # int64 [runs, 3] of the position: offset of spikes, first k of weights, number of k;
    # winograd_loop: offsets of 4 neurons, bits of the channels of each that exist, and one number more
    RUN_COUNT = auto()
    CHANNELS = auto()  # bits of the last register's channels
    RESULT = auto()  # input_loop: float32 synaptic input; neuron_loop: uint8 spikes
    RESULT_ROW = auto()  # bytes from row to row, or step to step
    SCALES = auto()  # input_loop: float32 factors; neuron_loop: int32 exponents of two
    START = auto()  # from here on not input_loop: int32 that sums begin with
    THRESHOLD = auto()  # int32
    INITIAL = auto()  # int32 potential before the first step
    BIAS = auto()  # int32 of the first step, whole registers
    BIAS_ROW = auto()  # bytes from step to step
    LIMITS = auto()  # int32: floor, ceiling, what a silent neuron stores
    POSITIVE = auto()  # int32, of the first step
    NEGATIVE = auto()
    SENT = auto()  # int32, spikes of each neuron
    POTENTIAL = auto()  # float32
    COUNT = auto()  # float32
    STATE_IMAGE = auto()  # bytes from image to image of potential and count
    RESULT_IMAGE = auto()  # ... of spikes
    SIGN_IMAGE = auto()  # ... of positive and negative
    EXTRA = auto()  # float32 synaptic input that arrives besides
    EXTRA_ROW = auto()  # bytes from step to step
    EXTRA_IMAGE = auto()
    DEPTH = auto()  # winograd_loop: number of k
    PLANE = auto()  # bytes from one of the 16 products' spikes to the next
    SCRATCH = auto()  # 16 * rows * pair registers


class Tile(IntEnum):
    """Kernel arguments of `transform_loop`."""

    ROWS = 0
    ROW = auto()  # bytes from one row of spikes to the next
    SOURCE = auto()  # first position of the tile; it may lie outside the map
    RIGHT = auto()  # bytes from one position to the next
    DOWN = auto()  # ... to the one below
    CHUNKS = auto()  # of 64 channels
    INSIDE = auto()  # int64 [16]: -1 for positions inside the map, 0 for others
    RESULT = auto()
    PLANE = auto()  # bytes from one term of the result to the next
    SILENCE = auto()  # uint8: what a silent neuron stores
    OFFSET = auto()  # uint8: four times that


BLOCK = LANES * PAIR
"""Channels of a block."""

CACHE_BYTES = 2**20
"""Spikes up to here are read again for each block of channels; of more, each part is read for all blocks at once."""

MESSAGES, RUNS, RUN_COUNT, CHANNELS = map(int, (Field.MESSAGES, Field.RUNS, Field.RUN_COUNT, Field.CHANNELS))
SOURCE, TRANSFORMED = int(Tile.SOURCE), int(Tile.RESULT)


@intrinsic
def call(typingctx, address, argument):
    """Call the loop at an address."""

    def generate(context, builder, signature, values):
        function = ir.FunctionType(ir.VoidType(), [ir.IntType(64)]).as_pointer()
        builder.call(builder.inttoptr(values[0], function), [values[1]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@njit(**OPTIONS)
def _launch(loops, first, slices, bands, arguments, runs, run_start, channels, channels_first, change, changed, places):
    """Call a loop for each block of rows, each position and each block of channels.

    loops int64 [rows + 1, PAIR + 1], the loop for a number of rows and of registers. first int64 [tiles + 1], where
    each block of rows begins; slices int64 [n + 1], where each slice of them begins; bands int64 [m + 1], where each
    band of positions begins; a band of a slice is done before the next. arguments int64 [fields, 4]: the fields at row,
    position and channel 0, and what each row, position and channel adds. runs: address of the runs, those of position p
    from run_start[p] on. channels_first: take a whole band for one block of channels before the next block. change: a
    loop that transforms the spikes of a band beforehand, which begin anew for each band, or 0; changed int64
    [fields, 3], its fields at row and position 0, and what each of them adds; places int64 [positions], where the
    sources of each position begin.
    """
    base, by_row = arguments[:, 0].copy(), arguments[:, 1].copy()
    by_position, by_block = arguments[:, 2].copy(), arguments[:, 3] * BLOCK
    blocks = (channels + BLOCK - 1) // BLOCK
    argument = np.empty(len(base), np.int64)
    address = np.int64(argument.ctypes.data)
    for part in range((len(slices) - 1) * (len(bands) - 1)):
        s, band = part // (len(bands) - 1), part % (len(bands) - 1)
        begin, tiles = slices[s], slices[s + 1] - slices[s]
        left, positions = bands[band], bands[band + 1] - bands[band]
        before = 0
        if change:
            before = first[begin] * by_row[MESSAGES] + left * by_position[MESSAGES]
            for row in range(first[begin], first[begin + tiles]):
                for position in range(left, left + positions):
                    for w in range(len(changed)):
                        argument[w] = changed[w, 0] + row * changed[w, 1] + position * changed[w, 2]
                    argument[SOURCE] += places[position]
                    argument[TRANSFORMED] -= before
                    call(change, address)
        for outer in range(blocks if channels_first else tiles):
            for inner in range(tiles if channels_first else positions):
                for innermost in range(positions if channels_first else blocks):
                    if channels_first:
                        block, tile, position = outer, begin + inner, left + innermost
                        step = by_position
                    else:
                        tile, position, block = begin + outer, left + inner, innermost
                        step = by_block
                    if innermost == 0:
                        for w in range(len(base)):
                            near = position * by_position[w] + block * by_block[w]
                            argument[w] = base[w] + first[tile] * by_row[w] + near
                        argument[MESSAGES] -= before
                    else:
                        for w in range(len(base)):
                            argument[w] += step[w]
                    channel = block * BLOCK
                    pair = min(PAIR, (channels - channel + LANES - 1) // LANES)
                    rest = min(LANES, channels - channel - LANES * (pair - 1))
                    argument[RUNS] = runs + 24 * run_start[position]
                    argument[RUN_COUNT] = run_start[position + 1] - run_start[position]
                    argument[CHANNELS] = (1 << rest) - 1
                    call(loops[first[tile + 1] - first[tile], pair], address)


NONE = (0, 0, 0, 0)


class Argument:
    """The kernel arguments, how they grow with rows, positions and channels, and the arrays behind them."""

    def __init__(self) -> None:
        self.arguments = [NONE] * len(Field)
        self.kept: list[npt.NDArray[np.generic]] = []

    def set(self, field: Field, value: npt.NDArray[np.generic] | int, row: int = 0, position: int = 0,
            channel: int = 0) -> None:  # fmt: skip
        """Address of an array or a number, and the bytes from row to row, position to position, channel to channel."""
        if isinstance(value, int):
            self.arguments[field] = (value, row, position, channel)
            return
        self.kept.append(value)
        self.arguments[field] = (value.__array_interface__["data"][0], row, position, channel)


@dataclass(frozen=True)
class Change:
    """A loop that transforms spikes beforehand: see `_launch`."""

    loop: int
    arguments: Int64
    places: Int64


UNCHANGED = Change(0, np.zeros((0, 3), dtype=np.int64), np.zeros(0, dtype=np.int64))


@dataclass(frozen=True)
class Cut:
    """How rows are cut: blocks of at most `most`, slices of `together`; and positions: bands of `band`."""

    most: int
    together: int
    band: int


def launch(argument: Argument, loop: Callable[[int, int], int], rows: int, cut: Cut, runs: Int64, run_start: Int64,
         channels: int, change: Change = UNCHANGED) -> None:  # fmt: skip
    """Take `rows` rows of all positions and channels; loop: address for a number of rows and of registers."""
    positions = len(run_start) - 1
    if not rows or not positions:
        return
    first, slices = [0], [0]
    for begin, last in pairwise(even(rows, cut.together)):
        first += [begin + at for at in even(last - begin, cut.most)[1:]]
        slices.append(len(first) - 1)
    loops = np.zeros((cut.most + 1, PAIR + 1), dtype=np.int64)
    for size in {last - begin for begin, last in pairwise(first)}:
        for pair in range(1, PAIR + 1):
            loops[size, pair] = loop(size, pair)
    arguments = np.asarray(argument.arguments, dtype=np.int64)
    whole = first[slices[1]] * argument.arguments[Field.MESSAGES][1] < CACHE_BYTES or change is not UNCHANGED
    _launch(
        loops, *(np.asarray(each, dtype=np.int64) for each in (first, slices, even(positions, cut.band))), arguments,
        runs.ctypes.data, run_start, channels, whole, change.loop, change.arguments, change.places,
    )  # fmt: skip


def even(total: int, most: int) -> list[int]:
    """Bounds of equal parts of at most `most`."""
    parts = -(-total // most)
    return [i * total // parts for i in range(parts + 1)]
