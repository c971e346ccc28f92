"""A profile for people: tables, lines and a plot. Nothing is computed here but means and ratios."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastsnn_deploy.analysis.ann import AnnCounts
from fastsnn_deploy.analysis.chip import Chip
from fastsnn_deploy.analysis.counts import Counts
from fastsnn_deploy.analysis.energies import TERMS, Band, Energy
from fastsnn_deploy.analysis.energy import cannot_send
from fastsnn_deploy.analysis.hardware import Constant, load_hardware
from fastsnn_deploy.analysis.plain import SHARES, beside
from fastsnn_deploy.analysis.units import energy as in_unit
from fastsnn_deploy.analysis.units import number, unit_of
from fastsnn_deploy.plots import NEGATIVE, POSITIVE, axes
from fastsnn_deploy.tables import Column, Table, percent, shown, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastsnn_deploy.analysis.result import Profile

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
    """Counts, time, energies, comparison, constants, tornado and caveats; all numbers are for one image."""
    counts, energy, hardware = profile.counts, profile.energy, profile.hardware
    lacking = cannot_send(counts, hardware)
    return (
        f"{hardware.title} ({hardware.name}), {hardware.process}",
        f"{counts.images:,} images, {counts.steps / counts.images:.1f} steps on average, {counts.max_steps} at most; "
        "counts and energies are for one image",
        *_accuracy(profile),
        *([f"note: {lacking}"] if lacking else []),
        *profile.verdicts,
        _statistics_table(profile),
        _count_table(counts, profile.ann),
        _shares_table(counts),
        *_ann_table(profile),
        _memory_line(counts),
        *_placed(profile),
        _energy_table(energy),
        _boundary_table(energy),
        *dict.fromkeys(each.text for each in energy.break_even),
        _comparison_table(profile),
        _ratio_line(counts, profile.ann) if profile.ann else WITHOUT_ANN,
        *_bench_lines(profile),
        constants_table(energy.used),
        *_source_lines(energy.used),
        *_tornado(energy),
        f"scope: {hardware.scope}",
        *(f"note: {warning}" for warning in energy.warnings if warning != lacking),
    )


def headline(profile: Profile) -> str:
    """The profile in one line."""
    counts = profile.counts
    operations, spikes = (counts.total(key) / counts.images for key in ("synaptic_operations", "spikes"))
    return (
        f"Profile({counts.images} images, {operations:,.0f} synaptic operations and {spikes:,.0f} spikes per image, "
        f"{in_unit(profile.energy.dynamic.value)} on {profile.hardware.name})"
    )


def _accuracy(profile: Profile) -> Iterator[str]:
    for entry in profile.evaluation.topk[:1]:
        right = percent(entry.correct / profile.counts.images)
        yield f"accuracy {right} ({entry.correct:,} of {profile.counts.images:,})"


def _statistics_table(profile: Profile) -> Table:
    """One line a quantity."""
    rows: list[tuple[Any, ...]] = []
    for key, each in profile.statistics.items():
        scale, name = 1.0, key.replace("_", " ")
        if key.endswith("_pj"):
            scale, unit = unit_of(each.max)
            name = f"{name.removesuffix(' pj')}, {unit}"
        rows.append((name, *(value / scale for value in dataclasses.astuple(each))))
    headings = ("mean", "std", "min", "p50", "p99", "max")
    columns = (words("of one image"), *(Column(key, _plainly, drop=key == "std") for key in headings))
    return Table("Over images", columns, tuple(rows))


def _plainly(value: Any) -> str:
    return f"{value:,.0f}" if value >= 1000 or float(value).is_integer() else f"{value:,.2f}"


def _shares_table(counts: Counts) -> Table:
    headings = ("negative spikes", "neurons that never fire", "activation sparsity", "synapse sparsity")
    columns = (words("layer"), *(Column(heading, percent) for heading in headings))
    rows = [(layer.name, *(getattr(layer, key) for key in SHARES)) for layer in counts.layers]
    total = ("network", *(getattr(counts, key) for key in SHARES))
    return Table("Shares", columns, (*rows, total), totals=1)


def _placed(profile: Profile) -> Iterator[Table | str]:
    """Cores and time, or why there are none."""
    mapping = profile.mapping
    if profile.unplaced or mapping is None:
        yield f"not on cores: {profile.unplaced}"
        return
    board = f" ({mapping.board})" if mapping.board else ""
    yield f"fits: {mapping.cores:,} cores on {mapping.chips:,} chip{'s' if mapping.chips > 1 else ''}{board}"
    if profile.timing is not None:
        yield from profile.timing.report()


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
    """Dynamic energy by layer and term."""
    scale, unit = unit_of(energy.dynamic.value)
    priced = list(energy.terms)

    def cells(terms: Mapping[str, Band], total: Band) -> list[Any]:
        return [*(terms[term].value / scale if term in terms else None for term in priced),
                total.value / scale, _span(total, scale)]  # fmt: skip

    columns = [
        Column(heading, _scaled, drop=drop)
        for term, heading, drop in zip(TERMS, ENERGY_HEADINGS, (1, 2, 3, 4, 5), strict=True)
        if term in priced
    ]
    rows: list[tuple[Any, ...]] = [(layer.name, *cells(layer.terms, layer.total)) for layer in energy.layers]
    rows.append(("dynamic", *cells(energy.terms, energy.dynamic)))
    headings = (words("layer"), *columns, Column("sum", _scaled), Column("low to high"))
    return Table(f"Dynamic energy on {energy.hardware}, {unit}", headings, tuple(rows), totals=1)


def _boundary_table(energy: Energy) -> Table:
    columns = (
        words("boundary"), words("holds", drop=1), Column("static power, mW", drop=2), Column("energy"),
        Column("low to high"), Column("energy x latency, J s", drop=3),
    )  # fmt: skip
    rows: list[tuple[Any, ...]] = []
    for each in energy.boundaries:
        if each.energy is None:
            rows.append((each.name, each.reason, "", "not known", "", ""))
            continue
        scale, unit = unit_of(each.energy.high)
        power = "" if each.power is None else number(each.power.value)
        edp = "" if each.edp is None else f"{each.edp.value:.3g}"
        span = f"{_scaled(each.energy.low / scale)} to {_scaled(each.energy.high / scale)} {unit}"
        rows.append((each.name, each.holds, power, in_unit(each.energy.value), span, edp))
    notes = ("static energy is power times the least time of an image, so at least this; the host is not modelled",)
    return Table("Energy by boundary", columns, tuple(rows), notes=notes)


def _comparison_table(profile: Profile) -> Table:
    energy, arithmetic = profile.energy, profile.arithmetic
    rows: list[tuple[str, str, Band]] = [
        (f"SNN, {each.name}", energy.hardware, each.energy) for each in energy.boundaries if each.energy is not None
    ]
    if energy.aggregate is not None:
        rows.append(("SNN, aggregate constant instead", energy.hardware, energy.aggregate))
    rows.append(("SNN, arithmetic of synaptic operations alone", arithmetic.hardware, arithmetic.dynamic))
    for entry in profile.ann_energy:
        name = f"ANN, {entry.bits}" if entry.name == "equal bits" else f"ANN, {entry.name}"
        rows.append((f"{name}, arithmetic alone", entry.hardware, entry.dense))
        if entry.zero_skipping is not None:
            rows.append((f"{name}, arithmetic, zeros skipped", entry.hardware, entry.zero_skipping))
        if entry.memory is not None:
            rows.append((f"{name}, memory alone", entry.hardware, entry.memory))
            rows.append((f"{name}, arithmetic and memory", entry.hardware, entry.total))
    cells = []
    for what, name, band in rows:
        scale, unit = unit_of(band.value)
        cells.append((what, name, f"{_scaled(band.value / scale)} {unit}", f"{_span(band, scale)} {unit}"))
    columns = (words("what"), words("profile", drop=1), Column("energy"), Column("low to high"))
    note = "compare like with like: arithmetic alone has no memory access, a chip's constants have"
    notes = (note, _updates_note(profile))
    return Table("Spiking network against the conventional one", columns, tuple(cells), notes=notes)


def _updates_note(profile: Profile) -> str:
    """What arithmetic leaves out: no source gives a price for the update of a neuron."""
    updates = profile.counts.total("neuron_updates") / profile.counts.images
    added = updates * load_hardware(profile.arithmetic.hardware).prices.synaptic_operation.value
    whole = profile.arithmetic.dynamic.value
    share = f" ({100 * added / whole:.0f} % more)" if whole else ""
    return (
        f"arithmetic of synaptic operations leaves out {shown(updates)} neuron updates; at the price of one addition "
        f"each they would add {in_unit(added)}{share}"
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
        keys.setdefault(f"{constant.source} ({constant.operating_point})", []).append(key)
    return [f"source of {', '.join(names)}: {source}" for source, names in keys.items()]


def _tornado(energy: Energy) -> Iterator[Table]:
    """Constants by how far they move the total."""
    total = energy[energy.tornado_of].energy
    assert total is not None
    scale, unit = unit_of(total.high)
    columns = (
        words("constant"), Column("at its low", _scaled), Column("at its high", _scaled),
        Column("moves it by", percent), words("status", drop=1),
    )  # fmt: skip
    rows = [
        (each.key, each.low / scale, each.high / scale, each.width / total.value if total.value else 0.0,
         each.constant.status)
        for each in energy.tornado
    ]  # fmt: skip
    if rows:
        what = "dynamic" if energy.tornado_of == "dynamic" else f"with {energy.tornado_of}"
        yield Table(f"One constant at a time: energy {what}, {unit}", columns, tuple(rows))


def _bench_lines(profile: Profile) -> Iterator[str]:
    bench = profile.neurobench.to_dict()
    operations = bench.pop("SynapticOperations") | {"MembraneUpdates": bench.pop("MembraneUpdates")}
    operations |= bench.pop("NeuronOperations")
    bench.pop("ActivationSparsityByLayer")
    told = ", ".join(f"{key} {shown(value)}" for key, value in operations.items() if value is not None)
    yield f"NeuroBench, per image: {told}"
    few = profile.neurobench.membrane_images
    note = f"; MembraneUpdates of the first {few} images" if few < profile.counts.images and few else ""
    yield "NeuroBench: " + ", ".join(f"{key} {value:,.6g}" for key, value in bench.items()) + note


def _scaled(value: float | str | None) -> str:
    return f"{value:,.3f}" if isinstance(value, float) else value or ""


def _span(band: Band, scale: float) -> str:
    return f"{_scaled(band.low / scale)} to {_scaled(band.high / scale)}"
