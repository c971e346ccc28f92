# mypy: disable-error-code="untyped-decorator, no-untyped-def"
"""Compiled loops of the max pool: changes of the maximum, for rows and for single events."""

from __future__ import annotations

import numpy as np
from numba import njit

from fastsnn_deploy.simulators.cpu.kernels import OPTIONS


@njit(**OPTIONS)
def pool_rows(
    rows, zero, which, windows, channels, counts, highest, out, out_zero, positive, negative, spikes, payload
):
    """Event-based max pool over rows. which: int64 [T], the row that arrives in each step or -1.

    windows: int64 [positions, taps], source positions of each window. counts: int32 [B, source neurons] and highest:
    int32 [B, neurons], both changed in place.
    """
    images, steps, _ = out.shape
    taps = windows.shape[1]
    best = np.empty(channels, np.int32)
    for image in range(images):
        for t in range(steps):
            emitted = out[image, t]
            emitted[:] = out_zero
            if which[t] < 0:
                continue
            arriving = rows[image, which[t]]
            total = counts[image]
            for j in range(len(arriving)):
                total[j] += np.int32(arriving[j]) - np.int32(zero)
            ups, downs = 0, 0
            for p in range(len(windows)):
                first = windows[p, 0] * channels
                best[:] = total[first : first + channels]
                for k in range(1, taps):
                    other = total[windows[p, k] * channels : (windows[p, k] + 1) * channels]
                    for ch in range(channels):
                        best[ch] = max(best[ch], other[ch])
                before = highest[image, p * channels : (p + 1) * channels]
                changes = np.int32(0)  # most windows stay as they are: many channels at a time to find that out
                for ch in range(channels):
                    changes = np.int32(changes | (best[ch] ^ before[ch]))
                if not changes:
                    continue
                for ch in range(channels):
                    change = best[ch] - before[ch]
                    if change != 0:
                        j = p * channels + ch
                        before[ch] = best[ch]
                        emitted[j] = change + out_zero
                        spikes[j] += 1
                        payload[j] += abs(change)
                        ups += change > 0
                        downs += change < 0
            positive[image, t] = ups
            negative[image, t] = downs


@njit(**OPTIONS)
def pool_events(image, neuron, value, readers, reader_start, windows, channels, counts, highest, spikes, payload):
    """One step of a max pool for events; windows of source position p are readers[reader_start[p] : ...[p + 1]]."""
    room = 0
    for e in range(len(image)):
        p = neuron[e] // channels
        counts[image[e], neuron[e]] += value[e]
        room += reader_start[p + 1] - reader_start[p]
    out_image = np.empty(room, np.int32)
    out_neuron = np.empty(room, np.int32)
    out_value = np.empty(room, np.int32)
    found = 0
    for e in range(len(image)):
        p, ch = neuron[e] // channels, neuron[e] % channels
        for r in range(reader_start[p], reader_start[p + 1]):
            window = readers[r]
            best = counts[image[e], windows[window, 0] * channels + ch]
            for k in range(1, windows.shape[1]):
                best = max(best, counts[image[e], windows[window, k] * channels + ch])
            j = window * channels + ch
            change = best - highest[image[e], j]
            if change != 0:  # a second event of the window finds it done
                highest[image[e], j] = best
                out_image[found], out_neuron[found], out_value[found] = image[e], j, change
                spikes[j] += 1
                payload[j] += abs(change)
                found += 1
    return out_image[:found], out_neuron[:found], out_value[:found]
