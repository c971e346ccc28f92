"""Convolutions of 3x3 taps by Winograd's F(2x2, 3x3), exact in integers, with the neurons they feed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import Conv2d
from fastsnn_deploy.simulators.cpu.convolution import SLICE_BYTES, Convolution, Fired, Neurons, packed
from fastsnn_deploy.simulators.cpu.launch import LANES, PAIR, Argument, Change, Cut, Field, Tile, launch
from fastsnn_deploy.simulators.cpu.winograd_loops import ROWS, TERMS, transform_loop, winograd_loop

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]

CHUNK = 64
"""Source channels that are transformed at a time."""

TERM_BYTES = 4 * 2**20
"""Transformed spikes at a time, where those of one block of images are more."""

WEIGHTS = np.asarray(((2, 0, 0), (1, 1, 1), (1, -1, 1), (0, 0, 2)), dtype=np.int64)
"""Twice the transform of weights G of Lavin & Gray 2016, equation 11."""

FIELDS = 9
"""Length of what `Field.RUNS` holds of a tile."""


class Winograd(Convolution):
    """A convolution for which `gains` holds; spikes are at most `largest`, and silence is stored as that.

    Synaptic input without neurons is computed tap by tap, as of any other convolution.
    """

    def __init__(
        self, conv: Conv2d, source: tuple[int, int, int], synaptic_input: tuple[int, int, int], largest: int
    ) -> None:
        super().__init__(conv, source, synaptic_input)
        self.zero = largest
        terms = _exact_terms(conv.weight)
        self.terms = packed(terms.astype(np.int8))
        self.term_sums = terms.sum(1).reshape(self.channels, TERMS)
        self.width = source[2]
        self.tiles, self.places, self.inside = _tiles(conv, source, synaptic_input)
        self.rows = ROWS
        self._starts: dict[int, Int32] = {}

    def fire(self, neurons: Neurons, rows: UInt8 | None, zero: int, bias: Int32, extra: Float32 | None, result: Fired,
             resumed: bool) -> None:  # fmt: skip
        """See `Convolution.fire`."""
        if rows is None or zero != self.zero:
            super().fire(neurons, rows, zero, bias, extra, result, resumed)
            return
        images, steps, _ = rows.shape
        cut = self._tile_cut(steps, images)
        terms = np.empty((cut.band, TERMS, cut.together * steps, self.depth), dtype=np.uint8)
        argument = Argument()
        argument.set(Field.MESSAGES, terms, steps * self.depth, terms.strides[0])
        argument.set(Field.ROW, self.depth)
        argument.set(Field.PLANE, terms.strides[1])
        argument.set(Field.DEPTH, self.depth // 4)
        argument.set(Field.WEIGHTS, self.terms, channel=TERMS * self.depth)
        argument.set(Field.START, self._start_of_terms(4 * zero), channel=4 * TERMS)
        argument.set(Field.SCRATCH, np.empty((TERMS, ROWS * PAIR, LANES), dtype=np.int32))
        self._result(argument, neurons, bias, extra, result, 0)

        def loop(size: int, pair: int) -> int:
            return winograd_loop(
                size, steps, pair, neurons.rule, resumed, len(bias), 0 if extra is None else extra.shape[1]
            )

        run_start = np.arange(len(self.places) + 1, dtype=np.int64) * (FIELDS // 3)
        change = self._change(rows, zero, terms)
        launch(argument, loop, images, cut, self.tiles, run_start, self.channels, change)

    def _tile_cut(self, steps: int, images: int) -> Cut:
        most = max(1, ROWS // steps)
        tile = TERMS * steps * self.depth  # bytes of an image
        together = max(most, max(SLICE_BYTES, self.weights.size // 8) // (len(self.places) * tile) // most * most)
        together = min(together, images)
        return Cut(min(most, together), together, max(1, min(len(self.places), TERM_BYTES // (together * tile))))

    def _change(self, rows: UInt8, zero: int, terms: UInt8) -> Change:
        """The transform of spikes, which leaves terms too large by four times `zero`."""
        steps = rows.shape[1]
        arguments = np.zeros((len(Tile), 3), dtype=np.int64)
        values = {
            Tile.ROWS: steps, Tile.ROW: self.sources, Tile.SOURCE: rows.ctypes.data, Tile.RIGHT: self.depth,
            Tile.DOWN: self.width * self.depth, Tile.CHUNKS: self.depth // CHUNK, Tile.INSIDE: self.inside.ctypes.data,
            Tile.RESULT: terms.ctypes.data, Tile.PLANE: terms.strides[1], Tile.SILENCE: zero, Tile.OFFSET: 4 * zero,
        }  # fmt: skip
        for each, value in values.items():
            arguments[each, 0] = value
        arguments[Tile.SOURCE, 1] = rows.strides[0]
        arguments[Tile.RESULT, 1:] = steps * self.depth, terms.strides[0]
        arguments[Tile.INSIDE, 2] = self.inside.strides[0]
        return Change(transform_loop(), arguments, self.places)

    def _start_of_terms(self, offset: int) -> Int32:
        """What sums must begin with if terms are too large by `offset`: int32 [16, pair, 16] for each block."""
        if offset in self._starts:
            return self._starts[offset]
        padded = np.zeros((-(-self.channels // LANES) * LANES, TERMS), dtype=np.int32)
        padded[: self.channels] = -offset * self.term_sums
        registers = padded.reshape(-1, LANES, TERMS).transpose(2, 0, 1)
        blocks = [registers[:, i : i + PAIR].reshape(-1) for i in range(0, registers.shape[1], PAIR)]
        self._starts[offset] = np.concatenate(blocks)
        return self._starts[offset]


def gains(conv: Conv2d, source: tuple[int, int, int], synaptic_input: tuple[int, int, int], largest: int) -> bool:
    """Whether `Winograd` can compute it, and faster: 3x3 taps of small weights on maps that are not tiny."""
    taps = conv.kernel == (3, 3) and conv.stride == conv.dilation == (1, 1) and conv.groups == 1
    if not taps or source[0] % CHUNK or min(synaptic_input[1:]) < 3 or 8 * largest > np.iinfo(np.uint8).max:
        return False
    return int(np.abs(_exact_terms(conv.weight)).max(initial=0)) <= np.iinfo(np.int8).max


def _exact_terms(weight: npt.NDArray[np.int8]) -> Int64:
    """Four times the transformed weights: [O, I, 3, 3] -> int64 [O, I, 4, 4]."""
    return np.asarray(WEIGHTS @ weight.astype(np.int64) @ WEIGHTS.T)


def _tiles(
    conv: Conv2d, source: tuple[int, int, int], synaptic_input: tuple[int, int, int]
) -> tuple[Int64, Int64, Int64]:
    """Of each tile: what `Field.RUNS` holds, offset of its first source position, and `Tile.INSIDE`."""
    channels, height, width = synaptic_input
    y, x = (each.reshape(-1) for each in np.mgrid[0:height:2, 0:width:2].astype(np.int64))
    row, column = y[:, None] + np.repeat((0, 1), 2), x[:, None] + np.tile((0, 1), 2)
    exist = (row < height) & (column < width)
    nothing = np.zeros((len(y), 1), dtype=np.int64)
    tiles = np.concatenate([(row * width + column) * channels * exist, exist * 0xFFFF, nothing], axis=1)
    top, left = y - conv.padding[0], x - conv.padding[1]
    row, column = top[:, None] + np.repeat(np.arange(4), 4), left[:, None] + np.tile(np.arange(4), 4)
    inside = (row >= 0) & (row < source[1]) & (column >= 0) & (column < source[2])
    return tiles, (top * source[2] + left) * source[0], -inside.astype(np.int64)
