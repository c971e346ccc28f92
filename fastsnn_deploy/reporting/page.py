"""report.html: one file that needs nothing else, made from the values of report.json."""

from __future__ import annotations

import base64
import hashlib
from functools import partial
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fastsnn_deploy.analysis.mapping.usage import RESOURCES
from fastsnn_deploy.reporting import charts
from fastsnn_deploy.reporting.schema import Latency, ReportFile, Source, SwingPart
from fastsnn_deploy.reporting.schema_rows import LayerRow, Span
from fastsnn_deploy.tables import percent, shape, shown

PREFIXES = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"))

MOST_CHIPS = 8
"""Chips whose cores are drawn."""

MOST_ROWS = 300
"""Cores in the table of the page; cores.csv has all."""


def page(file: ReportFile, sha256: str) -> str:
    """The whole page. Everything in it that comes from the network or the user is escaped. sha256: of report.json."""
    environment = Environment(
        loader=PackageLoader("fastsnn_deploy.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent, "shape": shape, "shown": shown, "pj": joules, "ns": seconds, "band": band,
        "band_pj": partial(band, show=joules), "band_ns": partial(band, show=seconds), "significant": significant,
    }  # fmt: skip
    script = _asset("sort.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        file=file,
        charts=charts,
        resources=RESOURCES,
        most_chips=MOST_CHIPS,
        most_rows=MOST_ROWS,
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        bars=_bars(file),
        latencies=_latencies(file),
        hashes=(*file.made.sources, *file.made.files, Source(what="data", name="report.json", sha256=sha256)),
        **_swings(file),
    )


def _asset(name: str) -> str:
    return (files("fastsnn_deploy.reporting") / "templates" / name).read_text(encoding="utf-8")


def significant(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits and thousands separated: 1234.5 -> '1,234', 0.012340 -> '0.0123'."""
    if value is None:
        return ""
    text = f"{value:.{digits}g}"
    return f"{value:,.0f}" if abs(float(text)) >= 1000 else text


def joules(picojoules: float | None) -> str:
    """1.2e9 -> '1.20 mJ'."""
    return "" if picojoules is None else _with_prefix(picojoules * 1e-12, "J")


def seconds(nanoseconds: float | None) -> str:
    """1.2e6 -> '1.20 ms'."""
    return "" if nanoseconds is None else _with_prefix(nanoseconds * 1e-9, "s")


def _with_prefix(value: float, unit: str) -> str:
    scale, prefix = next((each for each in PREFIXES if abs(value) >= each[0]), PREFIXES[-1] if value else PREFIXES[0])
    return f"{significant(value / scale)} {prefix}{unit}"


def band(value: Span | None, show: Any = significant) -> str:
    """'low to high' of a band; nothing where both ends are the value."""
    if value is None or value.low == value.value == value.high:
        return ""
    return f"{show(value.low)} to {show(value.high)}"


def _latencies(file: ReportFile) -> list[tuple[str, Latency]]:
    """What is waited for, and how long."""
    if file.time is None:
        return []
    groups = (("has settled", file.time.latencies), ("is right for the first time", file.time.first_right))
    return [(until, each) for until, group in groups for each in group]


def _bars(file: ReportFile) -> list[tuple[LayerRow, float, float]]:
    """Each layer with the lengths of its bars, percent of the longest: spikes and synaptic operations."""
    rows = [row for row in file.layers if row.synaptic_operations is not None]
    spikes = [(row.positive_spikes or 0) + (row.negative_spikes or 0) for row in rows]
    operations = [row.synaptic_operations or 0 for row in rows]
    longest = max(spikes, default=0) or 1, max(operations, default=0) or 1
    lengths = ((100 * a / longest[0], 100 * b / longest[1]) for a, b in zip(spikes, operations, strict=True))
    return [(row, *each) for row, each in zip(rows, lengths, strict=True)]


def _swings(file: ReportFile) -> dict[str, Any]:
    """Where each bar of the tornado begins and how long it is, and where the estimate lies: percent of the width."""
    energy = file.energy
    if energy is None or not energy.tornado:
        return {"swings": [], "centre": 0.0}
    ends = [end for each in energy.tornado for end in (each.low_pj, each.high_pj)]
    low, room = min(ends), (max(ends) - min(ends)) or 1.0
    totals = {each.name: each.energy_pj for each in energy.boundaries}
    total = totals[energy.tornado_of]
    value = total.value if total is not None else low

    def bar(each: SwingPart) -> tuple[SwingPart, float, float]:
        return each, 100 * (each.low_pj - low) / room, 100 * (each.high_pj - each.low_pj) / room

    return {"swings": [bar(each) for each in energy.tornado], "centre": 100 * (value - low) / room}
