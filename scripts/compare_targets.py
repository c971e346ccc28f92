"""Compare every target of four trained networks on two chips, for docs/targets.md: its tables and pictures.

    python scripts/compare_targets.py [--data-root FOLDER] [--samples N] [--spiking-samples N] [NAME ...]

Networks are those of netx_exports/, images the first test images of the data set. Everything goes to
docs/records/targets.json and docs/images/targets-*.svg; --tables prints the tables of the record. A ResNet-20 takes ten
minutes on two cores, most of it for sigma-delta.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import time
from dataclasses import replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fastsnn_deploy as fd
from fastsnn_deploy.analysis.choosing.draw import drawn
from fastsnn_deploy.files import write_file

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "docs" / "records" / "targets.json"
CHIPS = ("loihi2", "loihi1-davies2018")
MORE = re.compile(r"( and \d+ more violations?)?; see `map`")
"""What the reason of a network that does not fit ends with."""

PICTURED = ("resnet20-2bit", "resnet20-3bit")
NAMES = ("digits-2bit", "mnist-lenet-2bit", *PICTURED)


def main() -> None:
    """Measure the named networks, or all, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--spiking-samples", type=int, default=20)
    parser.add_argument("--tables", action="store_true", help="only print the tables of the record, and draw")
    options = parser.parse_args()
    for name in options.names:
        if not options.tables:
            made = measure(name, options)
            record = known() | {name: made}
            RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        if name in PICTURED:
            write_file(ROOT / "docs" / "images" / f"targets-{name}.svg", drawn(known()[name]["found"], "svg"))
        print(f"{name}\n\n{tables(known()[name])}\n")


def known() -> dict[str, Any]:
    """The record so far."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One network, as the command does it."""
    start = time.perf_counter()
    model = ROOT / "netx_exports" / f"{name}.pt"
    graph = fd.convert(model) if model.exists() else fd.read(model.with_name(f"{name}-unary.net"))
    data = fd.load_data(graph.metadata["data"], "test", options.data_root)
    images = data.select(slice(0, options.samples))
    found = fd.compare_targets(graph, images, hardware=CHIPS, spiking_images=options.spiking_samples, progress=shown)
    found = replace(found, name=name)
    return {
        "images": f"{graph.metadata['data']}, the first {len(images.labels):,} test images",
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
        "seconds": round(time.perf_counter() - start),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {package: version(package) for package in ("fastsnn-deploy", "torch", "numpy")},
        "found": found.to_dict(),
    }


def shown(done: int, total: int) -> None:
    """Progress in one line."""
    print(f"\r{done:,} of {total:,} images", end="", file=sys.stderr, flush=True)


def tables(record: dict[str, Any]) -> str:
    """Those of docs/targets.md, a chip below the other."""
    return "\n\n".join(f"On {chip}:\n\n{table(record['found'], chip)}" for chip in CHIPS)


def table(found: dict[str, Any], chip: str) -> str:
    """The targets that a chip can have, and the reasons of the others."""
    headings = (
        "target", "front", "accuracy", "energy, µJ", "of it dynamic", "latency, µs", "cores", "synaptic operations",
        "spikes", "of them negative", "steps",
    )  # fmt: skip
    rows = [row for row in found["rows"] if row["hardware"] == chip]
    most = max(row["images"] for row in rows)
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    for row in rows:
        if row["refused"]:
            continue
        few = f" of {row['images']}" if row["images"] != most else ""
        micro = (row["energy_pj"]["value"] / 1e6, row["dynamic_pj"]["value"] / 1e6, row["latency_ns"] / 1e3)
        numbers = (
            f"{100 * row['accuracy']:.1f} %{few}", *(f"{x:,.3g}" if x < 100 else f"{x:,.0f}" for x in micro),
            f"{row['cores']:,}", *(f"{row[key]:,.0f}" for key in ("synaptic_operations", "spikes", "negative_spikes")),
            f"{row['steps']:.1f}",
        )  # fmt: skip
        lines.append(f"| {row['target']} | {'**yes**' if row['front'] else ''} | " + " | ".join(numbers) + " |")
    lines = lines if len(lines) > 2 else []
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["refused"]:
            reasons.setdefault(MORE.sub("", row["refused"]), []).append(f"`{row['target']}`")
    lines += [f"\nRefused: {', '.join(names)}: {reason}." for reason, names in reasons.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
