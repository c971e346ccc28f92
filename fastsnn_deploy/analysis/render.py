"""A profile for people: tables, lines and a plot. Nothing is computed here but means and ratios."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastsnn_deploy.analysis.ann import AnnCounts
from fastsnn_deploy.analysis.chip import Chip
from fastsnn_deploy.analysis.counts import Counts
from fastsnn_deploy.analysis.energy import TERMS, Band, Energy, cannot_send
from fastsnn_deploy.analysis.hardware import Constant, load_hardware
from fastsnn_deploy.analysis.plain import beside
from fastsnn_deploy.plots import NEGATIVE, POSITIVE, axes
from fastsnn_deploy.tables import Column, Table, shown, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastsnn_deploy.analysis.result import Profile

WITH_STATIC = "SNN, chip, with static"
WITHOUT_HOPS = "SNN, chip, with static, without hops"

UNITS = ((1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ"), (1.0, "pJ"))

COUNT_COLUMNS = (
    ("neurons", False, Column("neurons", drop=3)),
    ("synapses", False, Column("synapses", drop=5)),
    ("parameters", False, Column("parameters", drop=4)),
    ("positive_spikes", True, Column("spikes +")),
    ("negative_spikes", True, Column("spikes -")),
    ("synaptic_operations", True, Column("synaptic operations")),
    ("neuron_updates_active", True, Column("updates active", drop=2)),
    ("neuron_updates_inactive", True, Column("updates inactive", drop=2)),
)
"""Attribute of a layer, whether it is a sum over images, and its column."""

WITHOUT_ANN = "this file does not say which network without spikes it stands for: export it again to compare them"

ENERGY_HEADINGS = ("synaptic operations", "updates inactive", "updates active", "messages", "hops")
"""One for each of `energy.TERMS`."""


def report(profile: Profile) -> tuple[Table | str, ...]:
    """Counts, energies, comparison, constants, sensitivity and caveats; all numbers are for one image."""
    counts, energy, hardware = profile.counts, profile.energy, profile.hardware
    bench = ", ".join(f"{key} {shown(value)}" for key, value in counts.neurobench().items())
    return (
        f"{hardware.title} ({hardware.name}), {hardware.process}",
        f"{counts.images} images, {counts.steps / counts.images:.1f} steps on average, {counts.max_steps} at most; "
        "counts and energies are for one image",
        *([f"note: {lacking}"] if (lacking := cannot_send(counts, hardware)) else []),
        _count_table(counts, profile.ann),
        *_ann_table(profile),
        _memory_line(counts),
        _energy_table(energy),
        _comparison_table(profile),
        _ratio_line(counts, profile.ann) if profile.ann else WITHOUT_ANN,
        f"NeuroBench, per image: {bench}",
        constants_table(energy.used),
        *_source_lines(energy.used),
        *_sensitivity_lines(energy),
        f"scope: {hardware.scope}",
        *(f"note: {warning}" for warning in energy.warnings if warning != lacking),
    )


def headline(profile: Profile) -> str:
    """The profile in one line."""
    counts, dynamic = profile.counts, profile.energy.dynamic
    scale, unit = _unit(dynamic.value)
    operations, spikes = (counts.total(key) / counts.images for key in ("synaptic_operations", "spikes"))
    return (
        f"Profile({counts.images} images, {operations:,.0f} synaptic operations and {spikes:,.0f} spikes per image, "
        f"{dynamic.value / scale:,.1f} {unit} on {profile.hardware.name})"
    )


def draw_layers(profile: Profile, ax: Axes | None) -> Axes:
    """See `Profile.plot_layers`."""
    layers, images = profile.counts.layers, profile.counts.images
    ax = axes(ax, (6.4, 1.2 + 0.32 * len(layers)))
    places = range(len(layers))
    ax.barh([at - 0.2 for at in places], [layer.spikes / images for layer in layers], 0.4, color=POSITIVE)
    operations = [layer.synaptic_operations / images for layer in layers]
    ax.barh([at + 0.2 for at in places], operations, 0.4, color=NEGATIVE)
    ax.set_yticks(list(places), [layer.name for layer in layers])
    ax.invert_yaxis()
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xlim(left=0)
    ax.set(xlabel="per image (logarithmic)", title="Spikes sent and synaptic operations received, by layer")
    ax.legend(
        ["spikes", "synaptic operations"],
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        borderaxespad=3.5,
        ncols=2,
        frameon=False,
    )
    ax.grid(axis="x", alpha=0.3)
    return ax


def _count_table(counts: Counts, ann: AnnCounts | None) -> Table:
    dense = [layer.macs / counts.images for layer in beside(counts, ann) if layer is not None]
    macs = (Column("ANN MACs"),) if dense else ()
    columns = (words("layer"), words("type", drop=1), *(c for _, _, c in COUNT_COLUMNS), *macs)
    rows = [
        (layer.name, layer.type, *_means(layer, counts.images), *dense[index : index + 1])
        for index, layer in enumerate(counts.layers)
    ]
    sums = [counts.total(key) / (counts.images if mean else 1) for key, mean, _ in COUNT_COLUMNS]
    return Table("Counts", columns, (*rows, ("total", "", *sums, *([sum(dense)] if dense else []))), totals=1)


def _ann_table(profile: Profile) -> tuple[Table, ...]:
    """The layers of the conventional network, where they are not those of the spiking one."""
    ann = profile.ann
    if ann is None or any(beside(profile.counts, ann)):
        return ()
    rows = [(layer.name, layer.type, layer.parameters, layer.macs / ann.images) for layer in ann.layers]
    total = ("total", "", ann.total("parameters"), ann.total("macs") / ann.images)
    columns = (words("layer"), words("type", drop=1), Column("parameters"), Column("ANN MACs"))
    return (Table("The network without spikes", columns, (*rows, total), totals=1),)


def _memory_line(counts: Counts) -> str:
    bits = counts.memory_bits()
    parts = ", ".join(f"{shown(value)} {key.replace('_', ' ')}" for key, value in bits.items())
    return f"memory: {shown(sum(bits.values()))} bits ({parts})"


def _means(layer: Any, images: int) -> list[float]:
    return [getattr(layer, key) / (images if mean else 1) for key, mean, _ in COUNT_COLUMNS]


def _energy_table(energy: Energy) -> Table:
    scale, unit = _unit(energy.known.value)
    priced = list(energy.terms)

    def cells(terms: Mapping[str, Band], total: Band) -> list[Any]:
        return [*(terms[term].value / scale for term in priced), total.value / scale, _span(total, scale)]

    columns = [
        Column(heading, _scaled, drop=drop)
        for term, heading, drop in zip(TERMS, ENERGY_HEADINGS, (1, 2, 3, 4, 5), strict=True)
        if term in priced
    ]
    rows: list[tuple[Any, ...]] = [(layer.name, *cells(layer.terms, layer.total)) for layer in energy.layers]
    rows.append(("dynamic", *cells(energy.terms, energy.dynamic)))
    blank = [None] * len(priced)
    for name, band in (("static", energy.static), ("total", energy.total)):
        cell = ("not known", "") if band is None else (band.value / scale, _span(band, scale))
        rows.append((name, *blank, *cell))
    headings = (words("layer"), *columns, Column("sum", _scaled), Column("low to high"))
    return Table(f"Energy on {energy.hardware}, {unit}", headings, tuple(rows), totals=len(rows) - len(energy.layers))


def _comparison_table(profile: Profile) -> Table:
    energy, arithmetic = profile.energy, profile.arithmetic
    rows: list[tuple[str, str, Band]] = [("SNN, chip, dynamic", energy.hardware, energy.dynamic)]
    if energy.static is not None:
        rows.append((WITH_STATIC if energy.complete else WITHOUT_HOPS, energy.hardware, energy.known))
    if energy.aggregate is not None:
        rows.append(("SNN, chip, aggregate constant instead", energy.hardware, energy.aggregate))
    rows.append(("SNN, arithmetic of synaptic operations alone", arithmetic.hardware, arithmetic.dynamic))
    for entry in profile.ann_energy:
        rows.append(("ANN, arithmetic alone, all MACs", entry.hardware, entry.dense))
        if entry.zero_skipping is not None:
            rows.append(("ANN, arithmetic alone, zeros skipped", entry.hardware, entry.zero_skipping))
    cells = []
    for what, name, band in rows:
        scale, unit = _unit(band.value)
        cells.append((what, name, f"{_scaled(band.value / scale)} {unit}", f"{_span(band, scale)} {unit}"))
    columns = (words("what"), words("profile"), Column("energy"), Column("low to high"))
    note = "compare like with like: arithmetic alone has no memory access, a chip's constants have"
    notes = (note, _updates_note(profile))
    return Table("Spiking network against the conventional one", columns, tuple(cells), notes=notes)


def _updates_note(profile: Profile) -> str:
    """What arithmetic leaves out: no source gives a price for the update of a neuron."""
    updates = profile.counts.total("neuron_updates") / profile.counts.images
    added = updates * load_hardware(profile.arithmetic.hardware).prices.synaptic_operation.value
    whole = profile.arithmetic.dynamic.value
    share = f" ({100 * added / whole:.0f} % more)" if whole else ""
    scale, unit = _unit(added)
    return (
        f"arithmetic of synaptic operations leaves out {shown(updates)} neuron updates; at the price of one addition "
        f"each they would add {_scaled(added / scale)} {unit}{share}"
    )


def _ratio_line(counts: Counts, ann: AnnCounts) -> str:
    operations = counts.total("synaptic_operations") / counts.images
    unary = counts.total("payload_operations") / counts.images
    macs, padded = (ann.total(f"macs{end}") / ann.images for end in ("", "_with_padding"))
    known = ann.known("macs_nonzero")
    nonzero = "" if known is None else f", {shown(known / ann.images)} with zeros skipped"
    ratio = f"{operations / macs:.3f} of" if macs else "against"
    return (
        f"SNN {shown(operations)} synaptic operations ({shown(unary)} if payloads were sent as binary spikes), "
        f"{ratio} ANN {shown(macs)} MACs ({shown(padded)} with padding{nonzero})"
    )


def constants_table(used: Mapping[str, Constant], title: str = "Constants used") -> Table:
    """Constants of a hardware profile by key."""
    columns = (words("constant"), Column("value"), Column("low to high"), words("unit"), words("status"))
    rows = (
        (key, f"{constant.value:g}", f"{constant.low:g} to {constant.high:g}", constant.unit, constant.status)
        for key, constant in used.items()
    )
    return Table(title, columns, tuple(rows))


def limits_table(chip: Chip) -> Table:
    """What a chip can hold, by key."""
    columns = (words("limit"), Column("value"), words("unit"), words("status"), words("source", drop=1))
    rows = ((key, each.value, each.unit, each.status, each.source) for key, each in chip.limits())
    boards = ", ".join(f"{board.name} ({board.chips})" for board in chip.boards)
    notes = (f"rules of the compiler: {chip.compiler}; cut along {chip.cutting}; soft reset: {chip.soft_reset}",)
    return Table("Limits of a chip", columns, tuple(rows), notes=(*notes, f"boards and their chips: {boards}"))


def _source_lines(used: Mapping[str, Constant]) -> list[str]:
    keys: dict[str, list[str]] = {}
    for key, constant in used.items():
        keys.setdefault(f"{constant.source} ({constant.operating_point})", []).append(key.split(".", 1)[1])
    return [f"source of {', '.join(names)}: {source}" for source, names in keys.items()]


def _sensitivity_lines(energy: Energy) -> list[str]:
    scale, unit = _unit(energy.known.value)
    lines = [f"sensitivity: all constants low to high: {_span(energy.known, scale)} {unit}"]
    for term, (low, high) in energy.sensitivity.items():
        if low != high:
            span = _span(Band(low, 0.0, high), scale)
            lines.append(f"sensitivity: constants of {term.replace('_', ' ')} alone: {span} {unit}")
    return lines


def _unit(pj: float) -> tuple[float, str]:
    return next(((scale, unit) for scale, unit in UNITS if abs(pj) >= scale), UNITS[-1])


def _scaled(value: float | str | None) -> str:
    return f"{value:,.3f}" if isinstance(value, float) else value or ""


def _span(band: Band, scale: float) -> str:
    return f"{_scaled(band.low / scale)} to {_scaled(band.high / scale)}"
