"""A comparison of targets as a picture: energy over latency, with accuracy and cores in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.plots import NEUTRAL, POSITIVE, axes, picture
from fastsnn_deploy.tables import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT, LINE = 4.6, 3.6, 0.24
"""Inches of a picture that a phone shows in its own size: width, height of the axes of a chip, of a line below them."""

REACH, ROUND = 11.0, 16
"""Points from a mark to its number, and directions in which that may be."""

WIDE = 1.5
"""Decades from which on an axis has no room for 2 and 5 between its powers of ten."""

Plain = Mapping[str, Any]
Points = npt.NDArray[np.float64]


def draw(found: Plain, hardware: str, ax: Axes | None) -> Axes:
    """See `TargetComparison.plot`. found: its plain values."""
    rows = [row for row in found["rows"] if row["hardware"] == hardware]
    ax = axes(ax, (WIDTH, HEIGHT + LINE * len(rows)))
    timed = [row for row in rows if _timed(row)]
    points = np.asarray([_place(row) for row in timed], dtype=np.float64).reshape(-1, 2)
    for number, (row, (x, y)) in enumerate(zip(timed, points, strict=True), 1):
        ax.plot(
            x, y, "o", linestyle="none", markersize=7, color=POSITIVE if row["front"] else NEUTRAL,
            markerfacecolor=POSITIVE if row["front"] else "white", label=_said(number, row, rows),
        )  # fmt: skip
    for row in rows:
        if not _timed(row):
            ax.plot(
                [], [], linestyle="none", label=f"{row['target']}: {'refused' if row['refused'] else 'no time known'}"
            )
    _scales(ax, points)
    ax.set_title(f"{found['name']} on {hardware}", fontsize=11)
    for number, ((x, y), offset) in enumerate(zip(points, _offsets(ax, points), strict=True), 1):
        ax.annotate(str(number), (x, y), offset, textcoords="offset points", ha="center", va="center", fontsize=9)
    ax.legend(
        loc="upper left", bbox_to_anchor=(-0.12, -0.17), fontsize=9, frameon=False, handletextpad=0.1,
        title="filled: the front of accuracy,\nenergy, latency and cores", title_fontsize=9, alignment="left",
    )  # fmt: skip
    return ax


def drawn(found: Plain, kind: str) -> bytes:
    """The picture as "png" or "svg": a chip below the other, those of which no time is known left out."""
    names = list(dict.fromkeys(row["hardware"] for row in found["rows"]))
    chips = [name for name in names if any(row["hardware"] == name and _timed(row) for row in found["rows"])]
    chips = chips or names[:1]
    lines = 2 + len(found["rows"]) / len(names)

    def all_of_them(*each: Axes) -> None:
        for name, ax in zip(chips, each, strict=True):
            draw(found, name, ax)

    return picture(all_of_them, (WIDTH, len(chips) * (HEIGHT + LINE * lines)), [1] * len(chips), kind)


def _timed(row: Plain) -> bool:
    return row["energy_pj"] is not None and row["latency_ns"] is not None


def _place(row: Plain) -> tuple[float, float]:
    """Microseconds and microjoules."""
    return row["latency_ns"] / 1e3, row["energy_pj"]["value"] / 1e6


def _said(number: int, row: Plain, rows: Sequence[Plain]) -> str:
    right = "" if row["accuracy"] is None else f", {percent(row['accuracy'])}"
    right += f" of {row['images']:,}" if right and row["images"] < max(each["images"] for each in rows) else ""
    return f"{number} {row['target']}{right}, {row['cores']:,} cores"


def _scales(ax: Axes, points: Points) -> None:
    """Logarithmic axes with plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    ax.set(xscale="log", yscale="log", xlabel="latency, µs, at least", ylabel="energy of an image, µJ, at least")
    for axis, values in zip((ax.xaxis, ax.yaxis), points.T, strict=True):
        wide = len(values) > 0 and np.ptp(np.log10(values)) > WIDE
        axis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
        axis.set_major_formatter("{x:,.15g}")
        axis.set_minor_formatter(NullFormatter())
    ax.margins(0.15)
    ax.grid(alpha=0.3)


def _offsets(ax: Axes, points: Points) -> Sequence[tuple[float, float]]:
    """Where each number stands beside its mark, in points: as far from marks and other numbers as can be."""
    width, height = np.asarray([ax.bbox.width, ax.bbox.height]) * 72 / ax.figure.dpi
    size = np.asarray([width, min(height, 0.9 * width)])  # the lines below take the rest
    logs = np.log(points)
    span = np.maximum(np.ptp(logs, axis=0), 1e-9) if len(points) else 1.0
    marks = logs / span * size * 0.77
    taken, chosen = list(marks), []
    for mark in marks:
        angles = 2 * np.pi * np.arange(ROUND) / ROUND
        tries = REACH * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        room = [min(np.linalg.norm(mark + each - other) for other in taken) for each in tries]
        best = tries[int(np.argmax(np.minimum(room, REACH)))]
        taken.append(mark + best)
        chosen.append((float(best[0]), float(best[1])))
    return chosen
