"""Compare every target of the trained ResNet-20 of 2 and of 3 bits, for docs/targets.md: its tables and pictures.

    python scripts/compare_targets.py [--data-root FOLDER] [--samples N] [--spiking-samples N] [NAME ...]

Networks are those of netx_exports/, images CIFAR-10's test images. Everything goes to docs/records/targets.json and
docs/images/targets-*.svg; --tables prints the tables of the record. Takes half an hour a network on two cores, most of
it for sigma-delta and stock-lif.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "docs" / "records" / "targets.json"
CHIPS = ("--hardware", "loihi2", "--hardware", "loihi1-davies2018")
NAMES = ("resnet20-2bit", "resnet20-3bit")


def main() -> None:
    """Measure the named networks, or all, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--spiking-samples", type=int, default=20)
    parser.add_argument("--tables", action="store_true", help="print the tables of the record, measure nothing")
    options = parser.parse_args()
    for name in options.names:
        if not options.tables:
            record = known()
            record[name] = measure(name, options)
            RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        print(f"{name}\n\n{table(known()[name])}\n")


def known() -> dict[str, Any]:
    """The record so far."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One network by the command that users have."""
    arguments = [
        "compare-targets", f"netx_exports/{name}.pt", "--samples", str(options.samples), "--spiking-samples",
        str(options.spiking_samples), *CHIPS, "--plot", f"docs/images/targets-{name}.svg",
    ]  # fmt: skip
    command = [sys.executable, "-m", "fastsnn_deploy", *arguments, "--data-root", options.data_root, "--json"]
    start = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        subprocess.run(command, cwd=ROOT, check=True, stdout=out)
        out.seek(0)
        found = json.load(out)
    return {
        "command": f"fastsnn-deploy {' '.join(arguments)}",
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
        "seconds": round(time.perf_counter() - start),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {package: version(package) for package in ("fastsnn-deploy", "torch", "numpy")},
        "commit": subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True).strip(),
        "found": found,
    }


def table(record: dict[str, Any]) -> str:
    """Rows of docs/targets.md."""
    headings = (
        "target", "front", "accuracy", "energy, µJ", "of it dynamic", "latency, µs", "cores", "synaptic operations",
        "spikes", "negative", "steps",
    )  # fmt: skip
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    for row in record["found"]["rows"]:
        if row["refused"]:
            lines.append(f"| {row['target']} | refused: {row['refused']} |" + " |" * (len(headings) - 2))
            continue
        few = f" of {row['images']}" if row["images"] != record["found"]["rows"][0]["images"] else ""
        numbers = (
            f"{100 * row['accuracy']:.1f} %{few}", f"{row['energy_pj']['value'] / 1e6:,.0f}",
            f"{row['dynamic_pj']['value'] / 1e6:,.0f}", f"{row['latency_ns'] / 1e3:,.0f}", f"{row['cores']:,}",
            f"{row['synaptic_operations']:,.0f}", f"{row['spikes']:,.0f}", f"{row['negative_spikes']:,.0f}",
            f"{row['steps']:.1f}",
        )  # fmt: skip
        lines.append(f"| {row['target']} | {'**yes**' if row['front'] else ''} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
