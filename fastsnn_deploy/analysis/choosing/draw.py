"""A comparison of targets as a picture: energy over latency, with accuracy and cores in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.plots import NEUTRAL, POSITIVE, axes, picture
from fastsnn_deploy.tables import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastsnn_deploy.analysis.choosing.result import Row, TargetComparison

WIDTH, HEIGHT, LINE = 4.6, 3.6, 0.24
"""Inches of a picture that a phone shows in its own size: width, height of the axes of a chip, of a line below them."""

REACH, ROUND = 11.0, 16
"""Points from a mark to its number, and directions in which that may be."""

Points = npt.NDArray[np.float64]


def draw(found: TargetComparison, hardware: str, ax: Axes | None) -> Axes:
    """See `TargetComparison.plot`."""
    from matplotlib.ticker import LogLocator, NullFormatter

    ax = axes(ax, (WIDTH, HEIGHT + LINE * len(found.rows) / len(found.hardware)))
    rows = [row for row in found.rows if row.hardware == hardware]
    placed = [(row, *place) for row in rows if (place := _place(found, row))]
    for number, (row, latency, energy) in enumerate(placed, 1):
        best = found.on_front(row)
        ax.plot(
            latency, energy, "o", linestyle="none", markersize=7, color=POSITIVE if best else NEUTRAL,
            markerfacecolor=POSITIVE if best else "white", label=_said(number, row, found),
        )  # fmt: skip
    for row in rows:
        if not _place(found, row):
            ax.plot([], [], linestyle="none", label=f"{row.target}: {'refused' if row.refused else 'no time known'}")
    ax.set(xscale="log", yscale="log", xlabel="latency, µs, at least", ylabel="energy of an image, µJ, at least")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    ax.margins(0.15)
    ax.grid(alpha=0.3)
    ax.set_title(f"{found.name} on {hardware}", fontsize=11)
    points = np.asarray([place[1:] for place in placed], dtype=np.float64).reshape(-1, 2)
    for number, ((x, y), offset) in enumerate(zip(points, _offsets(ax, points), strict=True), 1):
        ax.annotate(str(number), (x, y), offset, textcoords="offset points", ha="center", va="center", fontsize=9)
    ax.legend(
        loc="upper left", bbox_to_anchor=(-0.12, -0.17), fontsize=9, frameon=False, handletextpad=0.1,
        title="filled: the front of accuracy,\nenergy, latency and cores", title_fontsize=9,
        alignment="left",
    )  # fmt: skip
    return ax


def drawn(found: TargetComparison, kind: str) -> bytes:
    """The picture as "png" or "svg": a chip below the other, those of which no time is known left out."""
    timed = {row.hardware for row in found.rows if _place(found, row)}
    chips = [name for name in found.hardware if name in timed] or list(found.hardware[:1])
    lines = 2 + len(found.rows) / len(found.hardware)

    def all_of_them(*each: Axes) -> None:
        for name, ax in zip(chips, each, strict=True):
            draw(found, name, ax)

    return picture(all_of_them, (WIDTH, len(chips) * (HEIGHT + LINE * lines)), [1] * len(chips), kind)


def _place(found: TargetComparison, row: Row) -> tuple[float, float] | None:
    """Microseconds and microjoules, where both are known."""
    energy, latency = found.energy(row), row.latency_ns
    return None if energy is None or latency is None else (latency / 1e3, energy.value / 1e6)


def _said(number: int, row: Row, found: TargetComparison) -> str:
    right = "" if row.accuracy is None else f", {percent(row.accuracy)}"
    right += f" of {row.images:,}" if right and row.images < max(each.images for each in found.rows) else ""
    return f"{number} {row.target}{right}, {row.cores:,} cores"


def _offsets(ax: Axes, points: Points) -> Sequence[tuple[float, float]]:
    """Where each number stands beside its mark, in points: as far from marks and other numbers as can be."""
    size = np.asarray([ax.bbox.width, ax.bbox.height]) * 72 / ax.figure.dpi
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
