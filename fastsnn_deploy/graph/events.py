"""Events of an event camera: each says that one pixel became brighter or darker, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError, Problem, whole_number

Int64 = npt.NDArray[np.int64]
IntArray = npt.NDArray[np.integer]

POLARITIES = 2
"""Channels of an event frame: 0 became darker, 1 became brighter."""

MOST_EVENTS = 100_000_000
"""Of one recording: minutes of a fast camera, and some gigabytes."""


@dataclass(frozen=True, eq=False)
class Events:
    """One recording, in the order of time.

    Attributes:
        t: Time in microseconds, int64 [S].
        x: Column of the pixel, from 0 at the left, int64 [S].
        y: Row, from 0 at the top, int64 [S].
        p: Polarity, 0 (darker) or 1 (brighter), int64 [S]; -1 and 1, and bool, are taken for these.

    Raises InputError listing everything that is wrong with the arrays.

    Example:
        >>> events = Events(t=[30, 10], x=[1, 0], y=[0, 0], p=[1, 0])
        >>> events.t.tolist(), events.frame((1, 2)).tolist()
        ([10, 30], [[[1, 0]], [[0, 1]]])
    """

    t: IntArray
    x: IntArray
    y: IntArray
    p: IntArray

    def __post_init__(self) -> None:
        arrays = {name: _array(getattr(self, name)) for name in "txyp"}
        if problems := _problems(arrays):
            raise InputError("these events cannot be used", problems)
        order = np.argsort(arrays["t"], kind="stable")
        arrays["p"] = np.maximum(arrays["p"], 0)
        for name, values in arrays.items():
            object.__setattr__(self, name, values[order])

    def __len__(self) -> int:
        return len(self.t)

    def __repr__(self) -> str:
        return f"Events({len(self):,} events over {self.duration_us:,} us)"

    @property
    def duration_us(self) -> int:
        """Microseconds from the first event to the last."""
        return int(self.t[-1] - self.t[0]) if len(self) else 0

    def between(self, start_us: int = 0, stop_us: int | None = None) -> Events:
        """The events of a part of the recording, in microseconds after its first event.

        Args:
            start_us: The part begins here.
            stop_us: The first microsecond after it; None: it goes on to the end.

        Raises:
            InputError: negative times, or a part without a length.
        """
        whole_number("start_us", start_us, 0)
        if stop_us is not None:
            whole_number("stop_us", stop_us, start_us + 1)
        since = self.t - (self.t[0] if len(self) else 0)
        kept = since >= start_us
        if stop_us is not None:
            kept &= since < stop_us
        return Events(*(values[kept] for values in (self.t, self.x, self.y, self.p)))

    def downsampled(self, factor: int) -> Events:
        """The same events on a sensor with pixels `factor` times as wide and high. Raises InputError below 1."""
        whole_number("downsample", factor, 1)
        return self if factor == 1 else Events(self.t, self.x // factor, self.y // factor, self.p)

    def places(self, size: tuple[int, int]) -> Int64:
        """Index of each event's neuron among 2 x H x W, in C, H, W order: int64 [S].

        Args:
            size: (H, W) of the sensor.

        Raises:
            InputError: an event lies outside, with its place.
        """
        height, width = size
        outside = (self.x >= width) | (self.y >= height)
        if outside.any():
            first = int(np.argmax(outside))
            raise InputError(
                f"{int(outside.sum()):,} of {len(self):,} events lie outside {height}x{width} pixels, the first at row "
                f"{self.y[first]}, column {self.x[first]}. Use a network for that sensor, or downsample the events"
            )
        return np.asarray((self.p * height + self.y) * width + self.x, dtype=np.int64)

    def frame(self, size: tuple[int, int]) -> Int64:
        """How many events of each polarity every pixel had: int64 [2, H, W]. Raises InputError as `places` does."""
        shape = (POLARITIES, *size)
        return np.bincount(self.places(size), minlength=int(np.prod(shape))).astype(np.int64).reshape(shape)


def _array(values: Any) -> npt.NDArray[Any]:
    try:
        array = np.asarray(values.detach().cpu().numpy() if hasattr(values, "detach") else values)
    except (ValueError, TypeError, RuntimeError):  # rows of different lengths; sparse, or without memory
        return np.empty(0, dtype=object)
    if array.dtype == np.bool_ or (array.size == 0 and array.dtype.kind == "f"):
        return array.astype(np.int64)
    too_large = array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max
    return array.astype(np.int64) if array.dtype.kind in "iu" and not too_large else array


def _problems(arrays: dict[str, npt.NDArray[Any]]) -> list[Problem]:
    lengths = {name: values.shape for name, values in arrays.items()}
    found = [
        Problem(name, f"is {values.dtype} {values.shape}", "Give one whole number an event")
        for name, values in arrays.items()
        if values.dtype != np.int64 or values.ndim != 1
    ]
    if not found and len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} {shape[0]}" for name, shape in lengths.items())
        found = [Problem("", f"the arrays have different lengths ({said})")]
    if found or not arrays["t"].size:
        return found
    if len(arrays["t"]) > MOST_EVENTS:
        what = f"{len(arrays['t']):,} events, at most {MOST_EVENTS:,} in one recording"
        return [Problem("", what, "Cut it in parts")]
    for name in "xy":
        if (least := int(arrays[name].min())) < 0:
            found.append(Problem(name, f"reaches down to {least}", "Count pixels from 0"))
    polarities = np.unique(arrays["p"])
    if not (set(polarities.tolist()) <= {0, 1} or set(polarities.tolist()) <= {-1, 1}):
        found.append(Problem("p", f"holds {', '.join(map(str, polarities[:5]))}", "Polarities are 0 and 1"))
    return found
