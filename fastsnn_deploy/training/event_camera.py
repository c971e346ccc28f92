"""A model of an event camera, for videos where there is no camera.

A pixel sees the logarithm of the light, ln(intensity + dark), which changes evenly from one frame to the next. It sends
an event each time that this has moved by the contrast since its last event, and since the first frame at the start;
the level of the event is then what it compares with. Nothing else is modelled: no noise, no dead time, no mismatch of
pixels, no limit of the bus.
Source: G. Gallego et al., "Event-based Vision: A Survey" (arXiv 1904.08405), section 2.4, equations 1 to 3; between
frames as in H. Rebecq et al., "ESIM: an Open Event Camera Simulator" (CoRL 2018), with frames at even times.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError, real_number
from fastsnn_deploy.graph.events import Events

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class EventCamera:
    """contrast: change of the logarithm for an event. dark: light that a pixel sees without any, in units of white."""

    contrast: float = 0.5
    dark: float = 0.1

    def __post_init__(self) -> None:
        for name in ("contrast", "dark"):
            real_number(name, getattr(self, name))

    def record(self, video: Floats, frame_us: float) -> list[Events]:
        """What the camera sends of several videos.

        Args:
            video: Intensities from 0 (black) to 1 (white), float [T, N, H, W].
            frame_us: Microseconds from one frame to the next.

        Returns:
            N recordings, which begin at 0 with the first frame.

        Raises:
            InputError: another shape, or intensities out of range.
        """
        if video.ndim != 4 or not len(video) or video.min(initial=0) < 0 or not video.max(initial=0) <= 1:
            raise InputError(f"a video is [T, N, H, W] with intensities from 0 to 1, not {video.dtype} {video.shape}")
        light = np.log(video.astype(np.float64) + self.dark)
        level, parts = light[0].copy(), []
        for frame in range(1, len(light)):
            before, now = light[frame - 1], light[frame]
            crossed = np.trunc((now - level) / self.contrast).astype(np.int64)
            video_of, y, x = np.nonzero(crossed)
            found = crossed[video_of, y, x]
            each = np.repeat(np.arange(len(found)), np.abs(found))
            first = np.cumsum(np.abs(found)) - np.abs(found)
            number = np.arange(len(each)) - first[each] + 1  # 1, 2, ... for each pixel
            place = video_of[each], y[each], x[each]
            reached = level[place] + np.sign(found[each]) * number * self.contrast
            share = (reached - before[place]) / (now[place] - before[place])
            times = np.floor((frame - 1 + share) * frame_us).astype(np.int64)
            parts.append(np.stack([place[0], times, place[2], place[1], (found[each] > 0).astype(np.int64)]))
            level += crossed * self.contrast
        joined = np.concatenate(parts, axis=1) if parts else np.zeros((5, 0), dtype=np.int64)
        joined = joined[:, np.argsort(joined[0], kind="stable")]
        ends = np.searchsorted(joined[0], np.arange(1, video.shape[1]))
        return [Events(*part[1:]) for part in np.split(joined, ends, axis=1)]


PATH = ((0, 0), (6, 3), (0, 6), (0, 0))
"""Corners (row, column) of a triangle along which a digit moves, in pixels: three strokes, as the camera of N-MNIST was
moved (G. Orchard et al., "Converting Static Image Datasets to Spiking Neuromorphic Datasets Using Saccades",
10.3389/fnins.2015.00437)."""

STROKE_US, STROKE_FRAMES = 100_000, 20
MARGIN = max(max(corner) for corner in PATH)


def moving(images: Floats) -> Floats:
    """Videos of images that move along `PATH`, on black.

    Args:
        images: Intensities from 0 to 1, float [N, H, W].

    Returns:
        float [T, N, H + MARGIN, W + MARGIN]: a pixel's share of what it covers, by bilinear weights.
    """
    count, height, width = images.shape
    corners = np.asarray(PATH, dtype=np.float64)
    share = np.arange(STROKE_FRAMES)[:, None] / STROKE_FRAMES
    places = [a + (b - a) * share for a, b in pairwise(corners)]
    video = np.zeros((len(PATH[1:]) * STROKE_FRAMES + 1, count, height + MARGIN, width + MARGIN))
    for frame, (row, column) in zip(video, np.concatenate([*places, corners[-1:]]), strict=True):
        top, left = int(row), int(column)
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
            weight = abs(1 - down - (row - top)) * abs(1 - right - (column - left))
            if weight:
                y, x = top + down, left + right
                frame[:, y : y + height, x : x + width] += weight * images
    return np.clip(video, 0, 1)
