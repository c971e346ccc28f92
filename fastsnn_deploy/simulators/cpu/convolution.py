"""int8 convolutions of spikes, with or without the neurons they feed, in the loops of `loops`.

The rows of a block are steps and images, at one position of the map. Taps are then the same for all of them: those
that lie in the padding are left out, and nothing is copied beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import Conv2d
from fastsnn_deploy.simulators.cpu.launch import LANES, PAIR, ROWS, Argument, Cut, Field, launch
from fastsnn_deploy.simulators.cpu.loops import Rule, input_loop, neuron_loop

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]

SLICE_BYTES = 384 * 2**10
"""Spikes that are computed at a time: with weights they fill a second-level cache. More, if weights do not fit it."""


class Convolution:
    """Synaptic input of rows of uint8, positions before channels; padding adds nothing. All sums must be below
    2**24."""

    def __init__(self, conv: Conv2d, source: tuple[int, int, int], synaptic_input: tuple[int, int, int]) -> None:
        self.lack = -source[0] % 4
        if self.lack:  # channels that are always zero complete the last group of four
            weight = np.pad(conv.weight, ((0, 0), (0, self.lack), (0, 0), (0, 0)))
            conv, source = replace(conv, weight=weight), (source[0] + self.lack, *source[1:])
        self.depth = source[0]
        self.channels, self.exponent = conv.channels, conv.exponent.astype(np.int32)
        self.scales = np.exp2(conv.exponent.astype(np.float32))
        self.sources, self.neurons = int(np.prod(source)), int(np.prod(synaptic_input))
        self.weights = packed(conv.weight)
        self.runs, self.run_start = _runs(conv, source, synaptic_input)
        self.rows = ROWS
        self._start: dict[int, Int32] = {}

    def synaptic_input(self, rows: UInt8) -> Float32:
        """Rows uint8 [n, sources] -> float32 [n, neurons]."""
        rows = self._completed(np.ascontiguousarray(rows))
        synaptic_input = np.empty((len(rows), self.neurons), dtype=np.float32)
        argument = Argument()
        self._read(argument, rows, self.sources)
        argument.set(Field.RESULT, synaptic_input, 4 * self.neurons, 4 * self.channels, 4)
        argument.set(Field.RESULT_ROW, 4 * self.neurons)
        argument.set(Field.SCALES, self.scales, channel=4)
        launch(argument, input_loop, len(rows), self._cut(1, ROWS), self.runs, self.run_start, self.channels)
        return synaptic_input

    def _completed(self, rows: UInt8) -> UInt8:
        if not self.lack:
            return rows
        maps = rows.reshape(*rows.shape[:-1], -1, self.depth - self.lack)
        whole = np.zeros((*maps.shape[:-1], self.depth), dtype=np.uint8)
        whole[..., : self.depth - self.lack] = maps
        return whole.reshape(*rows.shape[:-1], self.sources)

    def _read(self, argument: Argument, rows: UInt8, apart: int) -> None:
        """Where spikes and weights are; apart: bytes from one row or image to the next."""
        argument.set(Field.MESSAGES, rows, apart)
        argument.set(Field.ROW, self.sources)
        argument.set(Field.WEIGHTS, self.weights, channel=self.weights.size // (-(-self.channels // LANES) * LANES))

    def _cut(self, rows: int, most: int) -> Cut:
        """Images of `rows` rows come in blocks of `most`, and as many at a time as leave their spikes in a cache."""
        size = max(SLICE_BYTES, self.weights.size // 8) // max(rows * self.sources, 1)
        return Cut(most, max(most, size // most * most), max(len(self.run_start) - 1, 1))

    def start(self, zero: int) -> Int32:
        """What sums must begin with if spikes are too large by `zero`: int32 [neurons]."""
        if zero not in self._start:
            row = np.full((1, self.sources // self.depth * (self.depth - self.lack)), zero, dtype=np.uint8)
            synaptic_input = self.synaptic_input(row).reshape(-1, self.channels)
            self._start[zero] = -(synaptic_input / self.scales).astype(np.int32).reshape(-1)
        return self._start[zero]

    def fire(self, neurons: Neurons, rows: UInt8 | None, zero: int, bias: Int32, extra: Float32 | None, result: Fired,
             resumed: bool) -> None:  # fmt: skip
        """Some steps of a population, at most ROWS.

        rows: spikes, uint8 [B, steps, sources], each image contiguous, or None; zero: what silence is in them. bias:
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
            if rows.dtype != np.uint8 or (steps > 1 and rows.strides[1] != rows.shape[2]):
                raise ValueError(f"rows of {rows.dtype} with strides {rows.strides}, must be contiguous uint8")
            rows = self._completed(rows)
            most = most if rows.strides[0] == steps * self.sources else 1
            self._read(argument, rows, rows.strides[0])
        argument.set(Field.START, self.start(0 if rows is None else zero), position=4 * self.channels, channel=4)
        self._result(argument, neurons, bias, extra, result, self.channels)

        def loop(size: int, pair: int) -> int:
            return neuron_loop(
                size, steps, pair, neurons.rule, resumed, len(bias), 0 if extra is None else extra.shape[1]
            )

        launch(argument, loop, images, self._cut(steps, most), self.runs, run_start, self.channels)

    def _result(self, argument: Argument, neurons: Neurons, bias: Int32, extra: Float32 | None, result: Fired,
                apart: int) -> None:  # fmt: skip
        """Where neurons and what they send are; apart: neurons from one position to the next."""
        per_channel = [(Field.THRESHOLD, neurons.threshold), (Field.INITIAL, neurons.initial)]
        for word, each in [*per_channel, (Field.SCALES, self.exponent)]:
            argument.set(word, each, channel=4)
        registers = np.zeros((len(bias), -(-self.channels // LANES) * LANES), dtype=np.int32)
        registers[:, : self.channels] = bias
        argument.set(Field.BIAS, registers, channel=4)
        argument.set(Field.BIAS_ROW, registers.strides[0])
        argument.set(Field.LIMITS, neurons.limits)
        argument.set(Field.RESULT, result.out, result.out.strides[0], apart, 1)
        argument.set(Field.RESULT_ROW, result.out.strides[1])
        argument.set(Field.RESULT_IMAGE, result.out.strides[0])
        argument.set(Field.POSITIVE, result.positive, result.positive.strides[0])
        argument.set(Field.NEGATIVE, result.negative, result.negative.strides[0])
        argument.set(Field.SIGN_IMAGE, result.positive.strides[0])
        argument.set(Field.SENT, result.sent, 0, 4 * apart, 4)
        if len(result.potential):
            argument.set(Field.POTENTIAL, result.potential, 4 * self.neurons, 4 * apart, 4)
            argument.set(Field.COUNT, result.count, 4 * self.neurons, 4 * apart, 4)
            argument.set(Field.STATE_IMAGE, 4 * self.neurons)
        if extra is not None:
            argument.set(Field.EXTRA, extra, extra.strides[0], 4 * apart, 4)
            argument.set(Field.EXTRA_ROW, extra.strides[1])
            argument.set(Field.EXTRA_IMAGE, extra.strides[0])


@dataclass(frozen=True)
class Neurons:
    """threshold, initial: int32 [channels]; limits: int32 [floor, ceiling, what a silent neuron stores]."""

    threshold: Int32
    initial: Int32
    limits: Int32
    rule: Rule


@dataclass(frozen=True)
class Fired:
    """What neurons do.

    out: uint8 [B, steps, neurons], contiguous in neurons; float32 only for other loops than ours. positive, negative:
    int32 [B, steps], to which spikes by sign are added, as to sent, int32 [neurons]. potential, count: float32
    [B, neurons], or [0, neurons] if nobody needs them.
    """

    out: npt.NDArray[np.generic]
    positive: Int32
    negative: Int32
    sent: Int32
    potential: Float32
    count: Float32

    def images(self, chosen: slice) -> Fired:
        """The part of some images."""
        arrays = {name: getattr(self, name)[chosen] for name in ("out", "positive", "negative", "potential", "count")}
        return replace(self, **arrays)

    def steps(self, first: int, last: int) -> Fired:
        """The part of steps first .. last - 1."""
        return replace(self, out=self.out[:, first:last], positive=self.positive[:, first:last],
                       negative=self.negative[:, first:last])  # fmt: skip


class NoConvolution(Convolution):
    """Neurons of a population to which no synapse is fused."""

    def __init__(self, channels: int, neurons: int) -> None:
        self.channels, self.neurons, self.sources = channels, neurons, 0
        self.exponent = np.zeros(channels, dtype=np.int32)
        self.weights = np.zeros(0, dtype=np.int8)
        self.runs = np.zeros((0, 3), dtype=np.int64)
        self.run_start = np.zeros(neurons // channels + 1, dtype=np.int64)
        self.rows = ROWS
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


def _runs(conv: Conv2d, source: tuple[int, int, int], synaptic_input: tuple[int, int, int]) -> tuple[Int64, Int64]:
    """Of each position the runs of taps whose spikes lie side by side (see `Field.RUNS`), and where they begin."""
    channels, height, width = source
    rows = source_taps(conv, synaptic_input, 0)
    columns = source_taps(conv, synaptic_input, 1)
    inside = (columns >= 0) & (columns < width)
    if conv.dilation[1] == 1:  # one run from the first to the last
        kx, length = inside.argmax(1)[:, None], inside.sum(1)[:, None]
    else:
        kx, length = np.broadcast_to(np.arange(conv.kernel[1]), columns.shape), inside.astype(np.int64)
    left = np.take_along_axis(columns, kx, axis=1)
    ky = np.arange(conv.kernel[0])[:, None]
    # axes: y, x, ky, run of a row
    place = (rows[:, None, :, None] * width + left[None, :, None, :]) * channels
    weight = np.broadcast_to((ky * conv.kernel[1] + kx[:, None, :]) * (channels // 4), place.shape)
    length = np.broadcast_to(length[None, :, None, :] * (channels // 4), place.shape)
    exists = ((rows >= 0) & (rows < height))[:, None, :, None] & (length > 0)
    runs = np.stack([each[exists] for each in (place, weight, length)], axis=1)
    return runs, np.concatenate([[0], exists.reshape(synaptic_input[1] * synaptic_input[2], -1).sum(1).cumsum()])


def source_taps(conv: Conv2d, synaptic_input: tuple[int, int, int], axis: int) -> Int64:
    """Source row or column of each tap: int64 [rows or columns of the synaptic input, taps]."""
    at = np.arange(synaptic_input[1 + axis], dtype=np.int64) * conv.stride[axis] - conv.padding[axis]
    return np.asarray(at[:, None] + np.arange(conv.kernel[axis]) * conv.dilation[axis])
