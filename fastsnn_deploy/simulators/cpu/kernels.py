# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call, no-any-return"
"""Compiled loops of the CPU engine. All arithmetic is in float32 on integers below 2**24, hence exact.

Every kernel releases the interpreter lock, so that tiles of images run side by side in threads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numba.extending import register_jitable


def _can_be_kept() -> bool:
    """Whether compiled code can be stored: not where neither the package nor the user has a writable folder."""
    try:
        njit(cache=True)(_can_be_kept)
    except RuntimeError:
        return False
    return True


OPTIONS: dict[str, Any] = {"nogil": True, "cache": _can_be_kept(), "error_model": "numpy"}
"""How every loop is compiled."""

_RULE = register_jitable(inline="always")
"""Rules stay plain functions: numba finds stored code by what a loop closes over, and a compiled rule is always new."""

BLOCK = 1024
"""Neurons whose state stays in the first-level cache over all steps."""

APART = BLOCK + 80
"""Distance of the parts of that state: not a multiple of 4 KiB, where a load would wait for an unrelated store."""


@_RULE
def single(potential, count, threshold, floor, ceiling, min_spike, max_spike):
    """`graph.neurons.emit` where every spike is 1 or -1: no division."""
    up = max_spike if (potential >= threshold) & (count < ceiling) else np.float32(0.0)
    down = min_spike if (potential < np.float32(0.0)) & (count > floor) else np.float32(0.0)
    return up + down


@_RULE
def general(potential, count, threshold, floor, ceiling, min_spike, max_spike):
    """`graph.neurons.emit` in float32."""
    settled = np.float32(np.floor(np.float64(potential) / np.float64(threshold))) + count
    return min(max(min(max(settled, floor), ceiling) - count, min_spike), max_spike)


@cache
def fire_rows(ones: bool) -> Callable[..., None]:
    """The loop over the rows of a population. ones: every spike is 1 or -1.

    Arguments: synaptic input float32 [B, R, neurons]; shift float32 [neurons] or [0], what each row is too large by;
    rows int64 [T], the row of each step or -1; gate bool [T], whether neurons may fire; bias float32 [P, L]; bias_row
    int64 [T], the part of each step or -1; threshold, initial float32 [L], whole positions one after another (L is
    repeated as often as needed); floor, ceiling, min_spike, max_spike float32; zero, of the type of out. Results:
    potential, count float32 [B, neurons], or [0, neurons] if nobody needs them; out uint8 or float32 [B, T, neurons];
    positive, negative int32 [B, T]; spikes int32 [neurons]; payload int64 [neurons], unless ones, whose payload is
    the number of spikes; potentials float32 [B, T, neurons], or [0, 0, 0] if they are not recorded.
    """
    rule = single if ones else general
    at_v, at_c, at_sent, at_payload, at_nothing = 0, APART, 2 * APART, 3 * APART, 4 * APART

    def loop(
        synaptic_input, shift, rows, gate, bias, bias_row, threshold, initial, floor, ceiling,
        min_spike, max_spike, zero, potential, count, out, positive, negative, spikes, payload, potentials,
    ):  # fmt: skip
        images, steps, neurons = out.shape
        length = len(threshold)
        # one array at constant distances: the compiler need not check whether its parts overlap, and vectorises
        state = np.empty(5 * APART, np.float32)
        nothing = state[at_nothing : at_nothing + BLOCK]
        nothing[:] = np.float32(0.0)
        last = 0  # the last step in which anything arrives, or before which neurons are held
        for t in range(steps):
            if bias_row[t] >= 0 or rows[t] >= 0 or (t > 0 and gate[t] and not gate[t - 1]):
                last = t
        begin = 0
        while begin < neurons:
            first = begin % length
            size = min(BLOCK, length - first, neurons - begin)
            theta = threshold[first : first + size]
            state[at_sent : at_sent + size] = np.float32(0.0)
            state[at_payload : at_payload + size] = np.float32(0.0)
            for image in range(images):
                state[:size] = initial[first : first + size]
                state[at_c : at_c + size] = np.float32(0.0)
                for t in range(steps):
                    arriving, surplus, part = nothing, nothing, nothing
                    if rows[t] >= 0:
                        arriving = synaptic_input[image, rows[t], begin : begin + size]
                        if len(shift):
                            surplus = shift[begin : begin + size]
                    if bias_row[t] >= 0:
                        part = bias[bias_row[t], first : first + size]
                    emitted = out[image, t, begin : begin + size]
                    if not gate[t]:
                        for j in range(size):
                            state[j] += (arriving[j] - surplus[j]) + part[j]
                        emitted[:] = zero
                        if len(potentials):
                            potentials[image, t, begin : begin + size] = state[:size]
                        continue
                    sent, ups = np.int32(0), np.int32(0)
                    for j in range(size):
                        v = state[at_v + j] + ((arriving[j] - surplus[j]) + part[j])
                        s = rule(v, state[at_c + j], theta[j], floor, ceiling, min_spike, max_spike)
                        state[at_v + j] = v - theta[j] * s
                        state[at_c + j] += s
                        emitted[j] = s + np.float32(zero)
                        state[at_sent + j] += np.float32(1.0) if s != np.float32(0.0) else np.float32(0.0)
                        # cut back to 32 bits at once, or the whole loop takes as few neurons at a time as 64 bits allow
                        sent = np.int32(sent + (np.int32(1) if s != np.float32(0.0) else np.int32(0)))
                        ups = np.int32(ups + (np.int32(1) if s > np.float32(0.0) else np.int32(0)))
                        if not ones:
                            state[at_payload + j] += abs(s)
                    positive[image, t] += ups
                    negative[image, t] += sent - ups
                    if len(potentials):
                        potentials[image, t, begin : begin + size] = state[:size]
                    if t >= last and sent == 0:  # nothing can happen any more
                        out[image, t + 1 :, begin : begin + size] = zero
                        if len(potentials):
                            for later in range(t + 1, steps):
                                potentials[image, later, begin : begin + size] = state[:size]
                        break
                if len(potential):
                    potential[image, begin : begin + size] = state[:size]
                    count[image, begin : begin + size] = state[at_c : at_c + size]
            for j in range(size):
                spikes[begin + j] += np.int32(state[at_sent + j])
            if not ones:
                for j in range(size):
                    payload[begin + j] += np.int64(state[at_payload + j])
            begin += size

    loop.__name__ = loop.__qualname__ = f"fire_rows_{ones:d}"
    return njit(**OPTIONS)(loop)


@njit(**OPTIONS)
def add_payload(rows, zero, payload):
    """payload int64 [neurons] += |value| of rows uint8 [B, R, neurons]."""
    images, steps, neurons = rows.shape
    total = np.zeros(neurons, np.int32)
    for image in range(images):
        for t in range(steps):
            row = rows[image, t]
            for j in range(neurons):
                total[j] = np.int32(total[j] + np.int32(abs(np.int32(row[j]) - np.int32(zero))))
    for j in range(neurons):
        payload[j] += total[j]


@njit(**OPTIONS)
def mark_rows(rows, zero, channels, stamp, tick, where):
    """Positions with a spike: rows [B, neurons] -> where int64 [n], image * positions + position."""
    images, neurons = rows.shape
    positions = neurons // channels
    found = 0
    for image in range(images):
        for p in range(positions):
            for j in range(p * channels, (p + 1) * channels):
                if rows[image, j] != zero:
                    stamp[image * positions + p] = tick
                    where[found] = image * positions + p
                    found += 1
                    break
    return found


@njit(**OPTIONS)
def scatter(image, neuron, value, weight, geometry, target, marking, stamp, tick, where, found):
    """Add the synaptic input of events to target float32 [rows, neurons] and list the positions touched.

    image: row of each event. weight: float32 [kh, kw, inputs, outputs / groups]. geometry: int64 (source width,
    source channels, height, width, outputs, spacing y, x, stride y, x, padding y, x, dilation y, x, groups): a
    convolution of a map on which the source's positions lie `spacing` apart. With `marking` every
    touched position row * positions + position that is not stamped yet goes into `where` from `found` on; returns
    the new `found`.
    """
    source_width, source_channels, height, width, outputs = geometry[:5]
    spacing_y, spacing_x, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x, groups = geometry[5:]
    kernel_y, kernel_x, _, per_group = weight.shape
    inputs_per_group = source_channels // groups
    for e in range(len(image)):
        position, channel = neuron[e] // source_channels, neuron[e] % source_channels
        y, x = position // source_width * spacing_y, position % source_width * spacing_x
        first = (channel // inputs_per_group) * per_group
        scale = np.float32(value[e])
        for ky in range(kernel_y):
            top = y + padding_y - ky * dilation_y
            if top < 0 or top % stride_y or top // stride_y >= height:
                continue
            for kx in range(kernel_x):
                left = x + padding_x - kx * dilation_x
                if left < 0 or left % stride_x or left // stride_x >= width:
                    continue
                at = (top // stride_y) * width + left // stride_x
                taps = weight[ky, kx, channel]
                sums = target[image[e], at * outputs + first : at * outputs + first + per_group]
                for o in range(per_group):
                    sums[o] += scale * taps[o]
                if marking:
                    place = image[e] * height * width + at
                    if stamp[place] != tick:
                        stamp[place] = tick
                        where[found] = place
                        found += 1
    return found


@cache
def fire_places(ones: bool) -> Callable[..., tuple[int, int]]:
    """One step of the neurons at listed positions, for the sparse tail.

    Arguments: where int64 [n]; potential, count float32 [B, neurons]; threshold float32 [C]; floor, ceiling, min_spike,
    max_spike; spikes, payload int64 [neurons]. Results: image, neuron, value int32 (room for n * C), the events;
    again int64 [n], the positions that fired. Returns (events, positions).
    """
    rule = single if ones else general

    def loop(
        where, found, potential, count, threshold, floor, ceiling, min_spike, max_spike, spikes, payload, image, neuron,
        value, again,
    ):  # fmt: skip
        channels = len(threshold)
        positions = potential.shape[1] // channels
        sent = np.empty(channels, np.float32)
        events, repeated = 0, 0
        for i in range(found):
            b, p = where[i] // positions, where[i] % positions
            v, c = potential[b, p * channels : (p + 1) * channels], count[b, p * channels : (p + 1) * channels]
            active = np.int32(0)  # most positions stay silent: many neurons at a time to find that out
            for ch in range(channels):
                s = rule(v[ch], c[ch], threshold[ch], floor, ceiling, min_spike, max_spike)
                v[ch] -= threshold[ch] * s
                c[ch] += s
                sent[ch] = s
                active = np.int32(active | (np.int32(1) if s != np.float32(0.0) else np.int32(0)))
            if not active:
                continue
            for ch in range(channels):
                if sent[ch] != np.float32(0.0):
                    j = p * channels + ch
                    image[events], neuron[events], value[events] = b, j, np.int32(sent[ch])
                    spikes[j] += 1
                    payload[j] += np.int64(abs(sent[ch]))
                    events += 1
            again[repeated] = where[i]
            repeated += 1
        return events, repeated

    loop.__name__ = loop.__qualname__ = f"fire_places_{ones:d}"
    return njit(**OPTIONS)(loop)


@njit(**OPTIONS)
def add_rows(total, at, synaptic_input, shift):
    """total[:, at] += synaptic input - shift; float32 [B, R, neurons], int64 [r], float32 [B, r, neurons], [neurons]
    or [0].

    The difference comes first: synaptic input may be too large to be added exactly, its difference from the shift is
    not.
    """
    for image in range(synaptic_input.shape[0]):
        for row in range(len(at)):
            target, source = total[image, at[row]], synaptic_input[image, row]
            if len(shift):
                for j in range(len(source)):
                    target[j] += source[j] - shift[j]
            else:
                for j in range(len(source)):
                    target[j] += source[j]


@njit(**OPTIONS)
def scale_rows(rows, zero, weight, synaptic_input):
    """synaptic input float32 [n, neurons] = (rows - zero) * weight, float32 [C], channels innermost."""
    channels = len(weight)
    for row in range(rows.shape[0]):
        for first in range(0, rows.shape[1], channels):
            source = rows[row, first : first + channels]
            target = synaptic_input[row, first : first + channels]
            for j in range(channels):
                target[j] = (np.float32(source[j]) - zero) * weight[j]


@njit(**OPTIONS)
def list_events(rows, zero, room):
    """Spikes of rows [B, neurons], `room` of them: (row, neuron, value), int32 [room] each."""
    image = np.empty(room, np.int32)
    neuron = np.empty(room, np.int32)
    value = np.empty(room, np.int32)
    found = 0
    for b in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            if rows[b, j] != zero:
                image[found], neuron[found] = b, j
                value[found] = np.int32(rows[b, j]) - np.int32(zero)
                found += 1
    return image, neuron, value
