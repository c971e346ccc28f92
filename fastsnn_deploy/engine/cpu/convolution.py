# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call, no-any-return"
"""int8 convolutions of spikes, with or without the neurons they feed, in the loops of `assembly`.

The rows of a block are steps and images, at one position of the map. Taps are then the same for all of them: those
that lie in the padding are left out, and nothing is copied beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from fastsnn_deploy.engine.cpu.assembly import LANES, PAIR, ROWS, Word
from fastsnn_deploy.engine.cpu.loops import charge_loop, neuron_loop
from fastsnn_deploy.engine.cpu.winograd_loops import Tile
from fastsnn_deploy.engine.cpu.kernels import OPTIONS
from fastsnn_deploy.graph import Conv2d

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]

BLOCK = LANES * PAIR
"""Channels of a block."""

SLICE_BYTES = 384 * 2**10
"""Messages that are computed at a time: with weights they fill a second-level cache. More, if weights do not fit it."""

CACHE_BYTES = 2**20
"""Messages up to here are read again for each block of channels; of more, each part is read for all blocks at once."""

MESSAGES, RUNS, RUN_COUNT, CHANNELS = map(int, (Word.MESSAGES, Word.RUNS, Word.RUN_COUNT, Word.CHANNELS))
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
def _walk(loops, first, slices, words, runs, run_start, channels, channels_first, change, changed, places):
    """Call a loop for each block of rows, each position and each block of channels, slice after slice of rows.

    loops int64 [rows + 1, PAIR + 1], the loop for a number of rows and of registers. first int64 [tiles + 1], where
    each block of rows begins; slices int64 [n + 1], where each slice of them begins. words int64 [words, 4]: the
    argument at row, position and channel 0, and what each row, position and channel adds. runs: address of the runs,
    those of position p from run_start[p] on. channels_first: take all rows of a slice for one block of channels before
    the next block. change: a loop that transforms the messages of a slice beforehand, or 0; changed int64 [words, 3],
    its argument at row and position 0, and what each of them adds; places int64 [positions], where the sources of each
    position begin.
    """
    word, by_row = words[:, 0].copy(), words[:, 1].copy()
    by_position, by_block = words[:, 2].copy(), words[:, 3] * BLOCK
    positions = len(run_start) - 1
    blocks = (channels + BLOCK - 1) // BLOCK
    argument = np.empty(len(word), np.int64)
    address = np.int64(argument.ctypes.data)
    for s in range(len(slices) - 1):
        begin, tiles = slices[s], slices[s + 1] - slices[s]
        base = 0
        if change:
            base = first[begin]
            for row in range(base, first[begin + tiles]):
                for position in range(positions):
                    for w in range(len(changed)):
                        argument[w] = changed[w, 0] + row * changed[w, 1] + position * changed[w, 2]
                    argument[SOURCE] += places[position]
                    argument[TRANSFORMED] -= base * changed[TRANSFORMED, 1]
                    call(change, address)
        for outer in range(blocks if channels_first else tiles):
            for inner in range(tiles if channels_first else positions):
                for innermost in range(positions if channels_first else blocks):
                    if channels_first:
                        block, tile, position = outer, begin + inner, innermost
                        step = by_position
                    else:
                        tile, position, block = begin + outer, inner, innermost
                        step = by_block
                    if innermost == 0:
                        for w in range(len(word)):
                            near = position * by_position[w] + block * by_block[w]
                            argument[w] = word[w] + first[tile] * by_row[w] + near
                        argument[MESSAGES] -= base * by_row[MESSAGES]
                    else:
                        for w in range(len(word)):
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
    """The words of an argument, how they grow with rows, positions and channels, and the arrays behind them."""

    def __init__(self) -> None:
        self.words = [NONE] * len(Word)
        self.kept: list[npt.NDArray[np.generic]] = []

    def set(self, word: Word, value: npt.NDArray[np.generic] | int, row: int = 0, position: int = 0,
            channel: int = 0) -> None:  # fmt: skip
        """Address of an array or a number, and the bytes from row to row, position to position, channel to channel."""
        if not isinstance(value, int):
            self.kept.append(value)
            value = value.__array_interface__["data"][0]
        self.words[word] = (value, row, position, channel)


@dataclass(frozen=True)
class Change:
    """A loop that transforms messages beforehand: see `_walk`."""

    loop: int
    words: Int64
    places: Int64


UNCHANGED = Change(0, np.zeros((0, 3), dtype=np.int64), np.zeros(0, dtype=np.int64))


def walk(argument: Argument, loop: Callable[[int, int], int], rows: int, most: int, together: int, runs: Int64,
         run_start: Int64, channels: int, change: Change = UNCHANGED) -> None:  # fmt: skip
    """Take `rows` rows in blocks of at most `most`; loop: address for a number of rows and of registers.

    together: rows of a slice.
    """
    if not rows:
        return
    slices = -(-rows // together)
    bounds = [i * rows // slices for i in range(slices + 1)]
    first, starts = [0], [0]
    for size in (last - begin for begin, last in pairwise(bounds)):
        tiles = -(-size // most)
        first += [first[starts[-1]] + (tile + 1) * size // tiles for tile in range(tiles)]
        starts.append(starts[-1] + tiles)
    loops = np.zeros((most + 1, PAIR + 1), dtype=np.int64)
    for size in {last - begin for begin, last in pairwise(first)}:
        for pair in range(1, PAIR + 1):
            loops[size, pair] = loop(size, pair)
    words = np.asarray(argument.words, dtype=np.int64)
    whole = -(-rows // slices) * argument.words[Word.MESSAGES][1] < CACHE_BYTES
    _walk(
        loops, np.asarray(first, dtype=np.int64), np.asarray(starts, dtype=np.int64), words, runs.ctypes.data,
        run_start, channels, whole, change.loop, change.words, change.places,
    )  # fmt: skip


class Convolution:
    """Charge of rows of uint8, positions before channels; padding adds nothing. All sums must be below 2**24."""

    def __init__(self, conv: Conv2d, source: tuple[int, int, int], charge: tuple[int, int, int]) -> None:
        self.lack = -source[0] % 4
        if self.lack:  # channels that are always zero complete the last group of four
            weight = np.pad(conv.weight, ((0, 0), (0, self.lack), (0, 0), (0, 0)))
            conv, source = replace(conv, weight=weight), (source[0] + self.lack, *source[1:])
        self.depth = source[0]
        self.channels, self.exponent = conv.channels, conv.exponent
        self.sources, self.neurons = int(np.prod(source)), int(np.prod(charge))
        self.weights = packed(conv.weight)
        self.runs, self.run_start = _runs(conv, source, charge)
        self.row_bytes, self.rows = self.sources, ROWS
        self._start: dict[int, Int32] = {}

    def charge(self, rows: UInt8) -> Float32:
        """Rows uint8 [n, sources] -> float32 [n, neurons]."""
        rows = self._completed(np.ascontiguousarray(rows))
        charge = np.empty((len(rows), self.neurons), dtype=np.float32)
        scales = np.exp2(self.exponent.astype(np.float32))
        argument = Argument()
        self._read(argument, rows, self.sources)
        argument.set(Word.RESULT, charge, 4 * self.neurons, 4 * self.channels, 4)
        argument.set(Word.RESULT_ROW, 4 * self.neurons)
        argument.set(Word.SCALES, scales, channel=4)
        walk(argument, charge_loop, len(rows), ROWS, self.together(1), self.runs, self.run_start, self.channels)
        return charge

    def _completed(self, rows: UInt8) -> UInt8:
        if not self.lack:
            return rows
        maps = rows.reshape(*rows.shape[:-1], -1, self.depth - self.lack)
        whole = np.zeros((*maps.shape[:-1], self.depth), dtype=np.uint8)
        whole[..., : self.depth - self.lack] = maps
        return whole.reshape(*rows.shape[:-1], self.sources)

    def _read(self, argument: Argument, rows: UInt8, apart: int) -> None:
        """Where messages and weights are; apart: bytes from one row or image to the next."""
        argument.set(Word.MESSAGES, rows, apart)
        argument.set(Word.ROW, self.sources)
        argument.set(Word.WEIGHTS, self.weights, channel=self.weights.size // (-(-self.channels // LANES) * LANES))

    def together(self, rows: int) -> int:
        """Images of `rows` rows that are computed at a time."""
        least = max(1, self.rows // rows)
        size = max(SLICE_BYTES, self.weights.size // 8) // (rows * self.row_bytes)
        return max(least, size // least * least)

    def start(self, zero: int) -> Int32:
        """What sums must begin with if messages are too large by `zero`: int32 [neurons]."""
        if zero not in self._start:
            row = np.full((1, self.sources // self.depth * (self.depth - self.lack)), zero, dtype=np.uint8)
            charge = self.charge(row).reshape(-1, self.channels)
            self._start[zero] = -(charge / np.exp2(self.exponent.astype(np.float32))).astype(np.int32).reshape(-1)
        return self._start[zero]

    def fire(self, neurons: Neurons, rows: UInt8 | None, zero: int, bias: Int32, extra: Float32 | None, result: Fired,
             resumed: bool) -> None:  # fmt: skip
        """Some steps of a population, at most ROWS.

        rows: messages, uint8 [B, steps, sources], each image contiguous, or None; zero: what silence is in them. bias:
        int32 [b, channels] of the first b <= steps steps. extra: float32 [B, e, neurons] with e <= steps,
        contiguous in steps, of the first e steps, or None.
        resumed: neurons continue from result.potential and result.count.
        """
        images, steps, _ = result.out.shape
        argument = Argument()
        run_start, most = self.run_start, max(1, ROWS // steps)
        if rows is None:
            run_start = np.zeros_like(run_start)
        else:
            rows = self._completed(rows)
            most = most if rows.strides[0] == steps * self.sources else 1
            self._read(argument, rows, rows.strides[0])
        argument.set(Word.START, self.start(0 if rows is None else zero), position=4 * self.channels, channel=4)
        self._result(argument, neurons, bias, extra, result, self.channels)

        def loop(size: int, pair: int) -> int:
            return neuron_loop(size, steps, pair, neurons.signed, resumed, len(bias), 0 if extra is None else extra.shape[1])

        walk(argument, loop, images, most, self.together(steps), self.runs, run_start, self.channels)

    def _result(self, argument: Argument, neurons: Neurons, bias: Int32, extra: Float32 | None, result: Fired,
                apart: int) -> None:  # fmt: skip
        """Where neurons and what they send are; apart: neurons from one position to the next."""
        exponent = self.exponent.astype(np.int32)
        per_channel = [(Word.THRESHOLD, neurons.threshold), (Word.INITIAL, neurons.initial)]
        for word, each in [*per_channel, (Word.SCALES, exponent)]:
            argument.set(word, each, channel=4)
        registers = np.zeros((len(bias), -(-self.channels // LANES) * LANES), dtype=np.int32)
        registers[:, : self.channels] = bias
        argument.set(Word.BIAS, registers, channel=4)
        argument.set(Word.BIAS_ROW, registers.strides[0])
        argument.set(Word.LIMITS, neurons.limits)
        argument.set(Word.RESULT, result.out, result.out.strides[0], apart, 1)
        argument.set(Word.RESULT_ROW, result.out.strides[1])
        argument.set(Word.RESULT_IMAGE, result.out.strides[0])
        argument.set(Word.POSITIVE, result.positive, result.positive.strides[0])
        argument.set(Word.NEGATIVE, result.negative, result.negative.strides[0])
        argument.set(Word.SIGN_IMAGE, result.positive.strides[0])
        argument.set(Word.SENT, result.sent, 0, 4 * apart, 4)
        if len(result.potential):
            argument.set(Word.POTENTIAL, result.potential, 4 * self.neurons, 4 * apart, 4)
            argument.set(Word.COUNT, result.count, 4 * self.neurons, 4 * apart, 4)
            argument.set(Word.STATE_IMAGE, 4 * self.neurons)
        if extra is not None:
            argument.set(Word.EXTRA, extra, extra.strides[0], 4 * apart, 4)
            argument.set(Word.EXTRA_ROW, extra.strides[1])
            argument.set(Word.EXTRA_IMAGE, extra.strides[0])


@dataclass(frozen=True)
class Neurons:
    """threshold, initial: int32 [channels]; limits: int32 [floor, ceiling, what a silent neuron stores]."""

    threshold: Int32
    initial: Int32
    limits: Int32
    signed: bool


@dataclass(frozen=True)
class Fired:
    """What neurons do: out uint8 [B, steps, neurons], contiguous in neurons; positive, negative int32 [B, steps], to
    which the messages by sign are added, as to sent int32 [neurons]; potential, count float32 [B, neurons] or
    [0, neurons] if nobody needs them.
    """  # noqa: D205

    out: UInt8
    positive: Int32
    negative: Int32
    sent: Int32
    potential: Float32
    count: Float32

    def steps(self, first: int, last: int) -> Fired:
        """The part of steps first .. last - 1."""
        return replace(self, out=self.out[:, first:last], positive=self.positive[:, first:last],
                       negative=self.negative[:, first:last])  # fmt: skip


class NoConvolution(Convolution):
    """Neurons of a population to which no synapse is fused."""

    def __init__(self, channels: int, neurons: int) -> None:
        self.channels, self.neurons, self.sources = channels, neurons, 0
        self.exponent = np.zeros(channels, dtype=np.int64)
        self.weights = np.zeros(0, dtype=np.int8)
        self.runs = np.zeros((0, 3), dtype=np.int64)
        self.run_start = np.zeros(neurons // channels + 1, dtype=np.int64)
        self.row_bytes, self.rows = 1, ROWS
        self._start = {0: np.zeros(neurons, dtype=np.int32)}


def takes(conv: Conv2d) -> bool:
    """Whether `Convolution` can compute it."""
    return conv.groups == 1


def packed(weight: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """[O, I, kh, kw] -> [k, pair, 16, 4] for each block of channels, k over kh, kw and groups of 4 of I."""
    outputs, inputs, height, width = weight.shape
    padded = np.zeros((-(-outputs // LANES) * LANES, inputs, height, width), dtype=np.int8)
    padded[:outputs] = weight
    taps = padded.transpose(2, 3, 1, 0).reshape(height * width * inputs // 4, 4, -1, LANES).transpose(0, 2, 3, 1)
    return np.concatenate([taps[:, first : first + PAIR].reshape(-1) for first in range(0, taps.shape[1], PAIR)])


def _runs(conv: Conv2d, source: tuple[int, int, int], charge: tuple[int, int, int]) -> tuple[Int64, Int64]:
    """Of each position the runs of taps whose messages lie side by side (see `Word.RUNS`), and where they begin."""
    channels, height, width = source
    runs: list[tuple[int, int, int]] = []
    start = [0]
    for y in range(charge[1]):
        for x in range(charge[2]):
            for ky in range(conv.kernel[0]):
                row = y * conv.stride[0] - conv.padding[0] + ky * conv.dilation[0]
                if 0 <= row < height:
                    runs += _row_runs(conv, row * width, x * conv.stride[1] - conv.padding[1], ky, width, channels)
            start.append(len(runs))
    return np.asarray(runs, dtype=np.int64).reshape(-1, 3), np.asarray(start, dtype=np.int64)


def _row_runs(conv: Conv2d, row: int, left: int, ky: int, width: int, channels: int) -> list[tuple[int, int, int]]:
    taps = [kx for kx in range(conv.kernel[1]) if 0 <= left + kx * conv.dilation[1] < width]
    parts = [(kx, 1) for kx in taps] if conv.dilation[1] > 1 else [(taps[0], len(taps))] if taps else []
    k = channels // 4
    return [
        (channels * (row + left + kx * conv.dilation[1]), k * (ky * conv.kernel[1] + kx), k * count)
        for kx, count in parts
    ]
