"""Tables of a profile for people. All numbers are for one image; nothing is computed here but means and ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from fastsnn_deploy.analysis.ann import AnnCounts
from fastsnn_deploy.analysis.counts import Counts
from fastsnn_deploy.analysis.energy import TERMS, AnnEnergy, Band, Energy
from fastsnn_deploy.analysis.hardware import Constant, Hardware

UNITS = ((1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ"), (1.0, "pJ"))

COUNT_COLUMNS = (
    ("neurons", "neurons", False),
    ("synapses", "synapses", False),
    ("parameters", "parameters", False),
    ("positive_spikes", "spikes\n+", True),
    ("negative_spikes", "spikes\n-", True),
    ("synaptic_operations", "synaptic\nops", True),
    ("neuron_updates_active", "updates\nactive", True),
    ("neuron_updates_inactive", "updates\ninactive", True),
)
"""Attribute of a layer, heading, and whether it is a sum over images."""

ENERGY_HEADINGS = ("synaptic ops", "updates inactive", "updates active", "messages", "hops")
"""One for each of `energy.TERMS`."""


def render(
    console: Console,
    hardware: Hardware,
    counts: Counts,
    ann: AnnCounts,
    energy: Energy,
    arithmetic: Energy,
    ann_energy: Sequence[AnnEnergy],
) -> None:
    """Print counts, energies, comparison, constants, sensitivity and caveats."""
    _line(console, f"{hardware.title} ({hardware.name}), {hardware.process}")
    _line(
        console,
        f"{counts.images} images, steps {counts.steps / counts.images:.1f} mean, {counts.max_steps} most; "
        "counts and energies are for one image",
    )
    _print(console, _count_table(counts, ann))
    _print(console, _energy_table(energy))
    _print(console, _comparison_table(energy, arithmetic, ann_energy))
    _line(console, _ratio_line(counts, ann))
    bench = ", ".join(f"{key} {_number(value)}" for key, value in counts.neurobench().items())
    _line(console, f"NeuroBench, an image: {bench}")
    _print(console, _constants_table(energy.used))
    for line in [*_source_lines(energy.used), *_sensitivity_lines(energy)]:
        _line(console, line)
    _line(console, f"scope: {hardware.scope}")
    for warning in energy.warnings:
        _line(console, f"note: {warning}")


class _Wide:
    """A table at its full width, whatever the width of a pipe or file: a cut number is a wrong number."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        free = options.update(max_width=10_000)
        width = Measurement.get(console, free, self.table).maximum
        yield from console.render(self.table, options.update(width=width))


def _print(console: Console, table: Table) -> None:
    if console.is_terminal:
        console.print(table)  # a narrow terminal folds headings and cells, and cuts nothing
    else:
        console.print(_Wide(table), crop=False, soft_wrap=True)


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=not console.is_terminal)


def _table(title: str, columns: Sequence[str], left: int = 1) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, heading in enumerate(columns):
        table.add_column(heading, justify="left" if i < left else "right", overflow="fold")
    return table


def _count_table(counts: Counts, ann: AnnCounts) -> Table:
    headings = [heading for _, heading, _ in COUNT_COLUMNS]
    table = _table("Counts", ["layer", "type", *headings, "ANN\nMACs"], left=2)
    for layer, dense in zip(counts.layers, ann.layers, strict=True):
        cells = [_number(getattr(layer, key) / (counts.images if sums else 1)) for key, _, sums in COUNT_COLUMNS]
        macs = _number(dense.macs / ann.images)
        table.add_row(escape(layer.name), layer.type, *cells, macs)
    table.add_section()
    cells = [_number(counts.total(key) / (counts.images if sums else 1)) for key, _, sums in COUNT_COLUMNS]
    table.add_row("total", "", *cells, _number(ann.total("macs") / ann.images))
    return table


def _energy_table(energy: Energy) -> Table:
    scale, unit = _unit(energy.total.value)
    title = f"Energy on {escape(energy.hardware)}, {unit}"
    table = _table(title, ["layer", *ENERGY_HEADINGS, "sum", "low to high"])
    for layer in energy.layers:
        cells = [_scaled(layer.terms[term].value, scale) for term in TERMS]
        table.add_row(escape(layer.name), *cells, _scaled(layer.total.value, scale), _span(layer.total, scale))
    table.add_section()
    sums = [_scaled(band.value, scale) for band in energy.terms.values()]
    table.add_row("dynamic", *sums, _scaled(energy.dynamic.value, scale), _span(energy.dynamic, scale))
    blank = [""] * len(TERMS)
    if energy.static is None:
        table.add_row("static", *blank, "not known", "")
    else:
        table.add_row("static", *blank, _scaled(energy.static.value, scale), _span(energy.static, scale))
        table.add_row("total", *blank, _scaled(energy.total.value, scale), _span(energy.total, scale))
    return table


def _comparison_table(energy: Energy, arithmetic: Energy, ann_energy: Sequence[AnnEnergy]) -> Table:
    table = _table("Spiking network against the conventional one", ["what", "profile", "energy", "low to high"], left=2)
    rows: list[tuple[str, str, Band]] = [("SNN, chip, dynamic", energy.hardware, energy.dynamic)]
    if energy.static is not None:
        rows.append(("SNN, chip, with static", energy.hardware, energy.total))
    if energy.aggregate is not None:
        rows.append(("SNN, chip, aggregate constant instead", energy.hardware, energy.aggregate))
    rows.append(("SNN, arithmetic alone", arithmetic.hardware, arithmetic.dynamic))
    for entry in ann_energy:
        rows.append(("ANN, arithmetic alone, all MACs", entry.hardware, entry.dense))
        rows.append(("ANN, arithmetic alone, zeros skipped", entry.hardware, entry.zero_skipping))
    for what, name, band in rows:
        scale, unit = _unit(band.value)
        table.add_row(what, escape(name), f"{_scaled(band.value, scale)} {unit}", f"{_span(band, scale)} {unit}")
    table.caption = "compare like with like: arithmetic alone has no memory access, a chip's constants have"
    table.caption_justify = "left"
    return table


def _ratio_line(counts: Counts, ann: AnnCounts) -> str:
    operations = counts.total("synaptic_operations") / counts.images
    unary = counts.total("payload_operations") / counts.images
    macs, padded, nonzero = (ann.total(f"macs{end}") / ann.images for end in ("", "_with_padding", "_nonzero"))
    ratio = f"{operations / macs:.3f} of" if macs else "against"
    return (
        f"SNN {_number(operations)} synaptic operations ({_number(unary)} if payloads were sent as binary spikes), "
        f"{ratio} ANN {_number(macs)} MACs ({_number(padded)} with padding, {_number(nonzero)} with zeros skipped)"
    )


def _constants_table(used: Mapping[str, Constant]) -> Table:
    table = _table("Constants used", ["constant", "value", "low to high", "unit", "status"])
    for key, constant in used.items():
        span = f"{constant.low:g} to {constant.high:g}"
        table.add_row(key, f"{constant.value:g}", span, constant.unit, constant.status)
    return table


def _source_lines(used: Mapping[str, Constant]) -> list[str]:
    keys: dict[str, list[str]] = {}
    for key, constant in used.items():
        keys.setdefault(f"{constant.source} ({constant.operating_point})", []).append(key.split(".", 1)[1])
    return [f"source of {', '.join(names)}: {source}" for source, names in keys.items()]


def _sensitivity_lines(energy: Energy) -> list[str]:
    scale, unit = _unit(energy.total.value)
    lines = [f"sensitivity: all constants low to high: {_span(energy.total, scale)} {unit}"]
    for term, (low, high) in energy.sensitivity.items():
        if low != high:
            span = _span(Band(low, 0.0, high), scale)
            lines.append(f"sensitivity: constants of {term.replace('_', ' ')} alone: {span} {unit}")
    return lines


def _unit(pj: float) -> tuple[float, str]:
    return next(((scale, unit) for scale, unit in UNITS if abs(pj) >= scale), UNITS[-1])


def _scaled(pj: float, scale: float) -> str:
    return f"{pj / scale:,.3f}"


def _span(band: Band, scale: float) -> str:
    return f"{_scaled(band.low, scale)} to {_scaled(band.high, scale)}"


def _number(value: Any) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
