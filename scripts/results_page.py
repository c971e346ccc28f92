"""The records of docs/records/results.json and the page docs/results.md, which is made from nothing else."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fastsnn_deploy import __version__
from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.files import existing_file, write_file

DOCS = Path(__file__).resolve().parents[1] / "docs"
RECORDS = DOCS / "records" / "results.json"
PAGE = DOCS / "results.md"
ABLATION = "qffs-ablation"

Record = dict[str, Any]

FIELDS = (
    "network", "measurement", "date", "package", "torch", "command", "data", "images", "checkpoint_sha256", "seconds",
    "values",
)  # fmt: skip

SPIKING = (
    "correct", "answers_differing", "window", "depth", "steps", "steps_beyond_window", "images_within_window",
    "spikes", "negative_spikes", "synaptic_operations", "energy_nj",
)  # fmt: skip

VALUES: dict[str, tuple[str, ...]] = {
    "float": ("correct", "weights"),
    "quantised": ("correct", "recipe", "model", "teacher", "stages"),
    "integer": ("correct", "answers_differing_from_quantised", "macs", "energy_nj"),
    "settled": (*SPIKING, "images_with_another_output"),
    "graded": (*SPIKING, "images_with_another_output"),
    "window-unsigned": SPIKING,
    "window-signed": SPIKING,
    "window-tuned": (*SPIKING, "quantised_correct", "settings", "held_out_before", "held_out_after", "layers_kept"),
}
"""What a record of each measurement must hold. Order of the rows."""

SETTLED = ("settled", "graded")
"""Runs that give the integers of the integer network, or there is a bug."""

OPTIONAL = ("float", "window-tuned")

ABLATION_VALUES = ("correct", "quantised_correct", "model", "width", "epochs", "output_bits", "signed", "unsigned")

NAMES = {
    "float": "float network",
    "quantised": "quantised model",
    "integer": "integer ANN",
    "settled": "SNN, signed, until settled",
    "graded": "SNN, graded spikes, until settled",
    "window-unsigned": "SNN, unsigned, T = {window}",
    "window-signed": "SNN, signed, T = {window}",
    "window-tuned": "SNN, signed, fine-tuned, T = {window}",
}

TEXTS = Path(__file__).resolve().parent / "results_texts.md"
"""The prose of the page, in parts that begin with `<!-- part: NAME -->`."""


def stamp() -> Record:
    """Date and versions of a measurement that is made now."""
    return {"date": datetime.date.today().isoformat(), "package": __version__, "torch": torch.__version__}


def read_records(path: Path) -> list[Record]:
    """All records of a file. Raises InputError if it is missing or no list of records."""
    try:
        records = json.loads(existing_file(path, "file of records").read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error})") from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise InputError(f"{path}: is not a list of records. Measure again")
    return records


def store(path: Path, made: Sequence[Record]) -> None:
    """Put records into the file; each replaces the one of the same network and measurement."""
    old = read_records(path) if path.exists() else []
    new = {(record["network"], record["measurement"]) for record in made}
    kept = [record for record in old if (record.get("network"), record.get("measurement")) not in new]
    records = sorted([*kept, *made], key=lambda record: (str(record.get("network")), _place(record)))
    write_file(path, json.dumps(records, indent=1) + "\n")


def _place(record: Record) -> int:
    order = [*VALUES, "average-2", "max-2", "max-3", "max-float"]
    return order.index(record["measurement"]) if record.get("measurement") in order else len(order)


def check(records: Sequence[Record]) -> None:
    """Raise InputError listing every record that is incomplete, and every network of which something is missing."""
    problems = []
    for record in records:
        where = f"{record.get('network')} {record.get('measurement')}"
        known = ABLATION_VALUES if record.get("network") == ABLATION else VALUES.get(str(record.get("measurement")), ())
        missing = [key for key in FIELDS if key not in record]
        missing += [f"values.{key}" for key in known if key not in record.get("values", {})]
        if missing:
            problems.append(Problem(where, f"lacks {', '.join(missing)}"))
        elif not known:
            problems.append(Problem(where, "is no measurement of this page"))
        elif record["measurement"] in SETTLED and record["values"]["images_with_another_output"]:
            problems.append(Problem(where, "a settled network differs from the integer network, which is a bug"))
    for name, found in networks(records).items():
        if lacking := [key for key in VALUES if key not in found and key not in OPTIONAL]:
            problems.append(Problem(name, f"has no record of {', '.join(lacking)}"))
        if len({(record.get("checkpoint_sha256"), record.get("images")) for record in found.values()}) > 1:
            problems.append(Problem(name, "its records are of different checkpoints or images"))
    if not networks(records):
        problems.append(Problem("records", "hold no network"))
    if problems:
        raise InputError("the page needs complete records. Run scripts/results.py again", problems)


def networks(records: Iterable[Record]) -> dict[str, dict[str, Record]]:
    """Records by network and measurement, without the ablation."""
    found: dict[str, dict[str, Record]] = {}
    for record in records:
        if record.get("network") != ABLATION:
            found.setdefault(str(record.get("network")), {})[str(record.get("measurement"))] = record
    return found


def page(records: Sequence[Record]) -> str:
    """docs/results.md. Raises InputError for incomplete records."""
    check(records)
    texts = _texts()
    parts = [texts["head"]]
    for name, found in networks(records).items():
        parts += [f"## {name}", _made(found), _accuracy(found), _work(found), _tuning(found)]
    parts += [texts["published"], _beside(records)]
    ablation = [record for record in records if record.get("network") == ABLATION]
    if ablation:
        parts += [texts["ablation"], _ablation(ablation)]
    parts += [texts["limits"], _sources(records)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _texts() -> dict[str, str]:
    parts = TEXTS.read_text(encoding="utf-8").split("<!-- part: ")[1:]
    return {name: text.strip() for name, _, text in (part.partition(" -->") for part in parts)}


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(record: Record, correct: int | None = None) -> str:
    """Share of right answers, with as many digits as the number of images carries."""
    right = record["values"]["correct"] if correct is None else correct
    return f"{100 * right / record['images']:.2f} %"


def _made(found: Mapping[str, Record]) -> str:
    quantised = found["quantised"]
    values, window = quantised["values"], found["settled"]["values"]["window"]
    stages = [
        f"{stage['epochs']} epochs " + ("float" if stage["bits"] is None else f"at {stage['bits']} bits")
        for stage in values["stages"]
    ]
    weight_bits = values["stages"][-1]["weight_bits"] if values["stages"] else "?"
    start = f" from the float weights `{found['float']['values']['weights']}`" if "float" in found else ""
    teacher = f", teacher {values['teacher']}" if values["teacher"] else ""
    return (
        f"{values['model']} on {quantised['data']}, {int(window).bit_length()}-bit activations, "
        f"{weight_bits}-bit weights "
        f"(8 in the first and last layer), {found['settled']['values']['depth']} steps deep.\nRecipe "
        f"`{values['recipe']}`{start}:\n{', '.join(stages)}{teacher}. {quantised['images']:,} test images."
    )


def _accuracy(found: Mapping[str, Record]) -> str:
    rows = []
    for key in VALUES:
        if key not in found:
            continue
        record, values = found[key], found[key]["values"]
        row = [NAMES[key].format(**values), percent(record)]
        if "steps" in values:
            row += [str(values["answers_differing"])]
            for steps in (values["steps"], values["steps_beyond_window"]):
                row.append(f"{steps['mean']:.1f} / {steps['p99']} / {steps['max']}")
        else:
            other = values.get("answers_differing_from_quantised")
            row += ["" if other is None else f"{other} differ from the quantised model", "", ""]
        rows.append(row)
    headings = (
        "network", "accuracy", "answers unlike the integer ANN", "steps: mean / 99 % / most", "steps beyond the window",
    )  # fmt: skip
    return table(headings, rows)


def _work(found: Mapping[str, Record]) -> str:
    def energy(values: Record, name: str) -> str:
        low, value, high = values["energy_nj"][name]
        return f"{value / 1000:.1f} ({low / 1000:.1f} to {high / 1000:.1f})"

    integer = found["integer"]["values"]
    rows = [["integer ANN", "", "", f"{integer['macs']:,} MACs", "", energy(integer, "horowitz45-int8")]]
    for key in VALUES:
        if key in found and "steps" in (values := found[key]["values"]):
            rows.append(
                [
                    NAMES[key].format(**values),
                    f"{values['spikes']:,.0f}",
                    f"{values['negative_spikes']:,.0f}",
                    f"{values['synaptic_operations']:,.0f}",
                    energy(values, "loihi2"),
                    energy(values, "horowitz45-int8"),
                ]
            )
    headings = ("for one image", "spikes", "of them negative", "synaptic operations", "µJ, loihi2",
                "µJ, arithmetic only")  # fmt: skip
    return table(headings, rows)


def _tuning(found: Mapping[str, Record]) -> str:
    if "window-tuned" not in found:
        return "Layer-wise fine-tuning: not measured."
    record = found["window-tuned"]
    values, settings = record["values"], record["values"]["settings"]
    before, after = (100 * values[f"held_out_{when}"] / settings["held_out"] for when in ("before", "after"))
    return (
        f"Layer-wise fine-tuning: {settings['images']:,} training images, {settings['epochs']} pass, learning rate "
        f"{settings['learning_rate']:g}; {values['layers_kept']} of {values['layers']} layers kept their change.\n"
        f"{settings['held_out']:,} other training images: {before:.2f} % before, {after:.2f} % after. Without time the "
        f"fine-tuned quantised model has {percent(record, values['quantised_correct'])}."
    )


def _beside(records: Sequence[Record]) -> str:
    rows = []
    for name, found in networks(records).items():
        window = found["window-signed"]["values"]["window"]
        ours = [f"{NAMES[key].format(window=window)} {percent(found[key])}" for key in VALUES if key in found]
        rows.append([name, "; ".join(ours)])
    return "Ours, from the tables above:\n\n" + table(("network", "accuracy"), rows)


def _ablation(records: Sequence[Record]) -> str:
    rows = []
    for record in records:
        values = record["values"]
        output = "none, float logits" if values["output_bits"] is None else f"{values['output_bits']} bits"
        row = ["average" if values["model"].endswith("average") else "max", output, percent(record)]
        for code in ("signed", "unsigned"):
            run = values[code]
            stopped = " / ".join(f"{100 * run['correct_after'][t] / record['images']:.2f}" for t in ("4", "8", "16"))
            row += [f"{percent(record, run['correct'])} ({run['answers_differing']:,})", stopped]
        rows.append(row)
    first = records[0]["values"]
    said = (
        f"Measured on: VGG-11 of width {first['width']} (64 is the published one), CIFAR-10, {records[0]['images']:,} "
        f"test images, {first['epochs'][0]} float and {first['epochs'][1]} quantised epochs, 8-bit weights."
    )
    headings = (
        "pooling", "spiking output", "integer ANN", "negative spikes on, settled (answers unlike the integer ANN)",
        "on, T = 4 / 8 / 16, %", "off, settled (unlike)", "off, T = 4 / 8 / 16, %",
    )  # fmt: skip
    return f"{said}\n\n{table(headings, rows)}"


def _sources(records: Sequence[Record]) -> str:
    lines = sorted({
        (r["network"], r["date"], r["package"], r["torch"], r["command"]) for r in records
    })  # fmt: skip
    rows = [[name, date, package, made_with, f"`{command}`"] for name, date, package, made_with, command in lines]
    return table(("network", "date", "fastsnn-deploy", "torch", "command"), rows)
