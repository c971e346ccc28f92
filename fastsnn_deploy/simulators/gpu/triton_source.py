# mypy: disable-error-code="untyped-decorator, no-untyped-def"
# ruff: noqa: N803
"""The Triton kernels. Importing this module imports Triton; `kernels` does so only where they can run.

All arithmetic is int32, in which no synaptic input and no potential of a valid graph overflows (24-bit state). A kernel
advances neurons through `rows` steps with potential and count in registers; steps beyond those of the input bring
no synaptic input. Afterwards it stores the state, and sets `pending` if one of its neurons would fire again. Offsets
within one step are int32, the start of a step is int64.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def single(potential, count, threshold, floor, ceiling, min_spike, max_spike):
    """`graph.neurons.emit` where every spike is 1 or -1: no division."""
    up = (potential >= threshold) & (count < ceiling)
    down = (potential < 0) & (count > floor)
    return up.to(tl.int32) * max_spike + down.to(tl.int32) * min_spike


@triton.jit
def general(potential, count, threshold, floor, ceiling, min_spike, max_spike):
    """`graph.neurons.emit`; Triton divides towards zero, so negative quotients with a remainder go one lower."""
    quotient = potential // threshold
    quotient = tl.where(potential - quotient * threshold < 0, quotient - 1, quotient)
    due = tl.minimum(tl.maximum(quotient + count, floor), ceiling) - count
    return tl.minimum(tl.maximum(due, min_spike), max_spike)


@triton.jit(do_not_specialize=["size", "rows", "input_rows", "bias_rows", "floor", "ceiling", "min_spike", "max_spike"])
def advance_neurons(
    synaptic_input, bias, threshold, spikes, potential, count, pending,
    size, channels, rows, input_rows, bias_rows, floor, ceiling, min_spike, max_spike,
    EMIT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Neurons whose synaptic input is known. One program: BLOCK neurons of all images.

    synaptic input: int32 [input_rows, size]; bias: int32 [bias_rows, channels]; threshold: int32 [channels]; spikes:
    out, [rows, size]; potential, count: in and out, int32 [size]; pending: out, int32 [1]. size: neurons times images,
    channels last.
    """
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = index < size
    channel = index % channels
    theta = tl.load(threshold + channel)
    v = tl.load(potential + index, mask=inside, other=0)
    c = tl.load(count + index, mask=inside, other=0)
    step_size = size.to(tl.int64)
    for row in range(rows):
        before = row * step_size
        v += tl.load(synaptic_input + before + index, mask=inside & (row < input_rows), other=0)
        v += tl.load(bias + row * channels + channel, mask=inside & (row < bias_rows), other=0)
        sent = EMIT(v, c, theta, floor, ceiling, min_spike, max_spike)
        v -= theta * sent
        c += sent
        tl.store(spikes + before + index, sent, mask=inside)
    tl.store(potential + index, v, mask=inside)
    tl.store(count + index, c, mask=inside)
    again = (EMIT(v, c, theta, floor, ceiling, min_spike, max_spike) != 0) & inside
    tl.atomic_max(pending, tl.max(again.to(tl.int32), axis=0))


@triton.jit(
    do_not_specialize=[
        "images", "rows", "source_first", "source_rows", "side_first", "side_rows", "bias_rows", "height",
        "width", "out_height", "out_width", "floor", "ceiling", "min_spike", "max_spike",
    ]
)  # fmt: skip
def advance_conv(
    source, weight, shift, synaptic_input, side, side_weight, bias, threshold, initial, spikes, potential, count,
    pending, images, rows, source_first, source_rows, side_first, side_rows, bias_rows,
    height, width, out_height, out_width, floor, ceiling, min_spike, max_spike,
    CHANNELS: tl.constexpr, OUTPUTS: tl.constexpr, TAPS: tl.constexpr, PADDED: tl.constexpr,
    KERNEL_WIDTH: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr, PAD_H: tl.constexpr,
    PAD_W: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr, DIGITS: tl.constexpr,
    MORE: tl.constexpr, SIDE: tl.constexpr, EMIT: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Convolution and neurons in one: an implicit matrix product int8 x int8 -> int32 for each step.

    One program: BLOCK_M positions (of all images) times BLOCK_N channels. The left operand is gathered from the
    source's spikes, column k = (tap y, tap x, channel); the synaptic input never reaches memory.
    source: int8, or int16 of two 7-bit digits, [source_rows, images, height, width, CHANNELS], arriving from row
    `source_first` on. weight: int8 [OUTPUTS, PADDED], zero beyond TAPS. shift: int32 [OUTPUTS], exponent of each
    channel. synaptic input: int32 [bias_rows, images, out_height, out_width, OUTPUTS] of other synapses, read if MORE.
    side: int [side_rows, images, out_height, out_width, OUTPUTS], spikes that arrive from row `side_first` on, each
    times side_weight, int32 [OUTPUTS]: an identity, read if SIDE. bias: int32 [bias_rows, OUTPUTS]. threshold,
    initial: int32 [OUTPUTS]. spikes: out, [rows, images, out_height, out_width, OUTPUTS]; potential, count: out,
    int32 of one such row; pending: out, int32 [1].
    """
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    positions = images * out_height * out_width
    row_inside, column_inside = m < positions, n < OUTPUTS
    inside = row_inside[:, None] & column_inside[None, :]
    y = (m // out_width) % out_height * STRIDE_H - PAD_H
    x = m % out_width * STRIDE_W - PAD_W
    image = m // (out_width * out_height)
    corner = ((image * height + y) * width + x) * CHANNELS
    source_row = images.to(tl.int64) * height * width * CHANNELS
    place = m[:, None] * OUTPUTS + n[None, :]
    out_row = positions.to(tl.int64) * OUTPUTS
    theta = tl.load(threshold + n, mask=column_inside, other=1)[None, :]
    up = tl.load(shift + n, mask=column_inside, other=0)[None, :]
    factor = tl.load(side_weight + n, mask=column_inside, other=0)[None, :]
    start = tl.load(initial + n, mask=column_inside, other=0)[None, :]
    v = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32) + start
    c = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    for row in range(rows):
        step = row - source_first
        taps = tl.where((step >= 0) & (step < source_rows), TAPS, 0)
        now = source + step * source_row
        before = row * out_row
        low = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
        high = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
        for first in range(0, taps, BLOCK_K):
            k = first + tl.arange(0, BLOCK_K)
            tap, channel = k // CHANNELS, k % CHANNELS
            dy, dx = tap // KERNEL_WIDTH * DILATION_H, tap % KERNEL_WIDTH * DILATION_W
            at_y, at_x = y[:, None] + dy[None, :], x[:, None] + dx[None, :]
            held = (at_y >= 0) & (at_y < height) & (at_x >= 0) & (at_x < width)
            held = held & row_inside[:, None] & (k < TAPS)[None, :]
            offset = (dy * width + dx) * CHANNELS + channel
            a = tl.load(now + corner[:, None] + offset[None, :], mask=held, other=0)
            b = tl.load(weight + n[None, :] * PADDED + k[:, None], mask=column_inside[None, :], other=0)
            if DIGITS == 2:
                wide = a.to(tl.int32)
                digit = ((wide + 64) & 127) - 64
                low = tl.dot(digit.to(tl.int8), b, low, out_dtype=tl.int32)
                high = tl.dot(((wide - digit) >> 7).to(tl.int8), b, high, out_dtype=tl.int32)
            else:
                low = tl.dot(a, b, low, out_dtype=tl.int32)
        v += (low + (high << 7)) << up
        driven = inside & (row < bias_rows)
        v += tl.load(bias + row * OUTPUTS + n, mask=column_inside & (row < bias_rows), other=0)[None, :]
        if MORE:
            v += tl.load(synaptic_input + before + place, mask=driven, other=0)
        if SIDE:
            beside = row - side_first
            seen = inside & (beside >= 0) & (beside < side_rows)
            v += tl.load(side + beside * out_row + place, mask=seen, other=0).to(tl.int32) * factor
        sent = EMIT(v, c, theta, floor, ceiling, min_spike, max_spike)
        v -= theta * sent
        c += sent
        tl.store(spikes + before + place, sent, mask=inside)
    tl.store(potential + place, v, mask=inside)
    tl.store(count + place, c, mask=inside)
    again = ((EMIT(v, c, theta, floor, ceiling, min_spike, max_spike) != 0) & inside).to(tl.int32)
    tl.atomic_max(pending, tl.max(tl.max(again, axis=1), axis=0))


@triton.jit(do_not_specialize=["images"])
def count_sent(
    spikes, per_image, events, payload, positive, largest, images, size,
    TERNARY: tl.constexpr, TOGETHER: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Statistics of one row. One program: BLOCK neurons of up to TOGETHER images.

    spikes: int [rows, images, size]; the row is program 2. per_image: out, int64 [rows, images], zero before. events,
    payload: out, int64 [size], added to. positive: out, int64 [1], added to. largest: out, int32 [1].
    """
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = index < size
    row = tl.program_id(2).to(tl.int64)
    begin = tl.program_id(1) * TOGETHER
    sent = tl.zeros((BLOCK,), dtype=tl.int32)
    carried = tl.zeros((BLOCK,), dtype=tl.int32)
    up = tl.zeros((BLOCK,), dtype=tl.int32)
    most = tl.zeros((BLOCK,), dtype=tl.int32)
    for image in range(begin, tl.minimum(begin + TOGETHER, images)):
        place = (row * images + image) * size
        value = tl.load(spikes + place + index, mask=inside, other=0).to(tl.int32)
        fired = (value != 0).to(tl.int32)
        tl.atomic_add(per_image + row * images + image, tl.sum(fired, axis=0).to(tl.int64))
        sent += fired
        up += (value > 0).to(tl.int32)
        if not TERNARY:
            carried += tl.abs(value)
            most = tl.maximum(most, tl.abs(value))
    tl.atomic_add(events + index, sent.to(tl.int64), mask=inside)
    tl.atomic_add(positive, tl.sum(up, axis=0).to(tl.int64))
    if not TERNARY:
        tl.atomic_add(payload + index, carried.to(tl.int64), mask=inside)
        tl.atomic_max(largest, tl.max(most, axis=0))


@triton.jit(do_not_specialize=["positions", "rows", "height", "width", "out_height", "out_width"])
def pool_spikes(
    source, spikes, positions, rows, height, width, out_height, out_width,
    CHANNELS: tl.constexpr, KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr, STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr, DILATION_H: tl.constexpr,
    DILATION_W: tl.constexpr, TAPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Changes of the maximum of running counts. One program: BLOCK neurons of all images, their windows in registers.

    source: int [rows, images, height, width, CHANNELS]; spikes: out, the same type [rows, positions, CHANNELS],
    positions being images times out_height times out_width. TAPS: KERNEL_H * KERNEL_W up to a power of two.
    """
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    size = positions * CHANNELS
    inside = index < size
    channel, place = index % CHANNELS, index // CHANNELS
    x, y = place % out_width * STRIDE_W - PAD_W, place // out_width % out_height * STRIDE_H - PAD_H
    image = place // (out_width * out_height)
    tap = tl.arange(0, TAPS)
    at_y = y[None, :] + (tap // KERNEL_W * DILATION_H)[:, None]
    at_x = x[None, :] + (tap % KERNEL_W * DILATION_W)[:, None]
    held = (at_y >= 0) & (at_y < height) & (at_x >= 0) & (at_x < width) & (tap < KERNEL_H * KERNEL_W)[:, None]
    held = held & inside[None, :]
    offset = ((image[None, :] * height + at_y) * width + at_x) * CHANNELS + channel[None, :]
    source_row = (positions // (out_height * out_width)).to(tl.int64) * height * width * CHANNELS
    count = tl.zeros((TAPS, BLOCK), dtype=tl.int32)
    before = tl.zeros((BLOCK,), dtype=tl.int32)
    for row in range(rows):
        count += tl.load(source + row * source_row + offset, mask=held, other=0).to(tl.int32)
        now = tl.max(tl.where(held, count, -2147483648), axis=0)
        tl.store(spikes + row * size.to(tl.int64) + index, now - before, mask=inside)
        before = now
