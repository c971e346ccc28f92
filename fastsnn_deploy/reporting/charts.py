"""Pictures of a report as inline SVG: colours come from the page, so that they follow its theme."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup, escape

from fastsnn_deploy.reporting.schema import ReportFile
from fastsnn_deploy.reporting.schema_rows import CoreRow, Histogram
from fastsnn_deploy.tables import percent, shown

LEVELS = 9
"""Shades of a core map."""

CELL = 21
MOST_LABELLED = 512
"""Cores that still get a number and a text of their own; a map of more says them by its table alone."""

MOST_ROUTERS = 256
"""Routers that are drawn one by one, used or not."""

LEFT, RIGHT, TOP, BOTTOM = 44, 12, 16, 34
"""Margins of a plot."""


def curve(file: ReportFile, width: int, height: int) -> Markup:
    """Accuracy after each step, images that have settled, the integer network's accuracy and the depth."""
    accuracy, rows = file.accuracy, file.steps
    assert accuracy is not None
    steps = len(rows)
    images = max(accuracy.images, 1)

    def x(step: float) -> float:
        return LEFT + (width - LEFT - RIGHT) * (step - 1) / max(steps - 1, 1)

    def y(share: float) -> float:
        return TOP + (height - TOP - BOTTOM) * (1 - share)

    parts = [
        _element("line", "", x1=LEFT, x2=width - RIGHT, y1=y(share), y2=y(share), **{"class": "grid"})
        + _text(f"{100 * share:.0f} %", LEFT - 6, y(share) + 4, "end")
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    parts += [_text(str(step), x(step), height - BOTTOM + 16, "middle") for step in _ticks(steps, width // 60)]
    parts.append(_text("steps", (LEFT + width - RIGHT) / 2, height - 3, "middle"))
    parts.append(_line([(x(row.steps), y(row.settled / images)) for row in rows], "settled"))
    for k, style in zip(accuracy.top or {}, ("first", "second"), strict=False):
        parts.append(_line([(x(row.steps), y(row.correct[k] / images)) for row in rows], style))
    if accuracy.integer is not None:
        level = y(accuracy.integer)
        parts.append(_element("line", "", x1=LEFT, x2=width - RIGHT, y1=level, y2=level, **{"class": "integer"}))
    if 1 <= file.network.depth <= steps:
        at = x(file.network.depth)
        parts.append(_element("line", "", x1=at, x2=at, y1=TOP, y2=height - BOTTOM, **{"class": "depth"}))
        parts.append(_text(f"depth {file.network.depth}", at - 4, TOP + 10, "end"))
    said = [f"{steps} steps, depth {file.network.depth}"]
    said += [f"top-{k} {percent(share)} at the end" for k, share in (accuracy.top or {}).items()]
    return _picture(f"Accuracy over steps: {', '.join(said)}", width, height, parts)


def histogram(found: Histogram, label: str) -> Markup:
    """Neurons of one layer by spikes an image; those that never fire are a bar of their own on the left."""
    width, height, top, foot, side = 220, 110, 16, 20, 44
    values = (found.never, *found.neurons)
    step = (width - side) / len(found.neurons)
    most = max(values) or 1
    tall = [(height - foot - top) * value / most for value in values]
    left = [4, *(side + index * step for index in range(len(found.neurons)))]
    parts = [
        _element(
            "rect", "", x=x, y=height - foot - y, width=step - 1, height=y, **{"class": "bar" if index else "never"}
        )
        for index, (x, y) in enumerate(zip(left, tall, strict=True))
    ]  # fmt: skip
    parts += [
        _element("line", "", x1=0, x2=width, y1=height - foot, y2=height - foot, **{"class": "axis"}),
        _text("never", 0, height - 5, "start"),
        _text("0", side, height - 5, "middle"),
        _text(f"{found.edges[-1]:.3g}", width, height - 5, "end"),
        _text(f"{most:,}", width, 11, "end"),
    ]
    fired = sum(found.neurons)
    return _picture(f"{label}: {found.never:,} neurons never fire, {fired:,} do", width, height, parts)


def core_map(file: ReportFile, chip: int, work: bool) -> Markup:
    """The cores of one chip at their routers. work: shaded by synaptic operations against the busiest core, else by how
    full they are."""
    assert file.fit is not None
    columns, rows, cores = file.fit.mesh
    across = math.ceil(math.sqrt(cores))
    down = math.ceil(cores / across)
    pitch_x, pitch_y = across * CELL + 4, down * CELL + 4
    here = [row for row in file.cores if row.chip == chip]
    numbers = {layer.layer: index for index, layer in enumerate(file.layers)}
    most = max((row.synaptic_operations or 0 for row in file.cores), default=0) or 1
    labelled = len(file.cores) <= MOST_LABELLED
    if columns * rows > MOST_ROUTERS:  # unused rows at the end would be most of the picture
        rows = max(row.row for row in here) + 1
    boxes = [(c * pitch_x, r * pitch_y, pitch_x - 4, pitch_y - 4) for r in range(rows) for c in range(columns)]
    if columns * rows > MOST_ROUTERS:
        boxes = [(0, 0, columns * pitch_x - 4, rows * pitch_y - 4)]
    parts = [_element("rect", "", x=x, y=y, width=w, height=h, **{"class": "router"}) for x, y, w, h in boxes]
    for row in here:
        inside = (row.core - chip * (file.hardware.usable_cores or 0)) % cores
        at = row.column * pitch_x + inside % across * CELL, row.row * pitch_y + inside // across * CELL
        share = (row.synaptic_operations or 0) / most if work else row.share
        parts.append(_core(row, at, share, numbers[row.layer] if labelled else None, work))
    what = "synaptic operations, against the busiest core" if work else "share of its fullest limit"
    title = f"Chip {chip}: {len(here)} cores used, shaded by {what}"
    return _picture(title, columns * pitch_x - 4, rows * pitch_y - 4, parts)


def sample(kind: str) -> Markup:
    """A piece of a line of `curve`, for its key."""
    line = _element("polyline", "", points="0,6 24,6", **{"class": kind})
    return _element("svg", line, width=24, height=12, **{"aria-hidden": "true"})


def shade(level: int) -> Markup:
    """A core of one shade, for the key of a map."""
    box = _element("rect", "", width=14, height=14, **{"class": f"l{level}"})
    return _element("svg", box, width=14, height=14, **{"aria-hidden": "true"})


def _core(row: CoreRow, at: tuple[float, float], share: float, number: int | None, work: bool) -> Markup:
    level = min(LEVELS, max(1, math.ceil(LEVELS * share)))
    kind = "over" if not work and share > 1 else f"l{level}"
    box = _element("rect", "", x=at[0] + 1, y=at[1] + 1, width=CELL - 2, height=CELL - 2, **{"class": kind})
    if number is None:
        return box
    said = f"core {row.core}, {row.layer}: {percent(row.share)} of {row.limiting.replace('_', ' ')}"
    if row.synaptic_operations is not None:
        said += f", {shown(row.synaptic_operations)} synaptic operations an image"
    name = _text(str(number), at[0] + CELL / 2, at[1] + CELL / 2 + 3.5, "middle", f"t{level}")
    return _element("g", _element("title", escape(said)) + box + name)


def _ticks(last: int, most: int) -> Sequence[int]:
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**9) if last / s <= max(most, 2))
    return sorted({1, *range(step, last + 1, step)})


def _line(points: Iterable[tuple[float, float]], kind: str) -> Markup:
    return _element("polyline", "", points=" ".join(f"{_short(x)},{_short(y)}" for x, y in points), **{"class": kind})


def _text(text: str, x: float, y: float, anchor: str, kind: str = "") -> Markup:
    return _element("text", escape(text), x=x, y=y, **{"text-anchor": anchor, "class": kind or None})


def _picture(title: str, width: float, height: float, parts: Iterable[Markup]) -> Markup:
    inside = _element("title", escape(title)) + Markup("").join(parts)
    return _element("svg", inside, viewBox=f"0 0 {_short(width)} {_short(height)}", role="img", width=width)


def _element(name: str, inside: Any, **attributes: Any) -> Markup:
    """One element; every value is escaped, `inside` unless it is Markup."""
    given = "".join(
        f' {key}="{escape(_short(value) if isinstance(value, float) else value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{given}>{escape(inside)}</{name}>")


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
