"""Run the search of docs/tune.md on the shipped ResNet-20, and keep what it gave in docs/records/tune.json.

    python scripts/tune_resnet20.py --data-root FOLDER [--from FILE]

FOLDER holds cifar10. The record is the JSON of the command without the profile and the layers of the mapping. FILE: the
JSON that the command has printed already.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from fastsnn_deploy.files import write_file

RECORD = Path(__file__).parents[1] / "docs/records/tune.json"
SEARCH = (
    "tune", "netx_exports/resnet20-2bit.pt", "netx_exports/resnet20-3bit.pt", "--budget",
    "cores<=128, latency<1ms, accuracy>=90%", "--bits", "2,3", "--weight-bits", "3,4", "--start-delays", "0,2",
    "--trials", "26", "--samples", "500", "--judge", "test", "--test-samples", "4000", "--profile-samples", "10",
)  # fmt: skip
LEFT_OUT = ("profile", "mapping", "file", "command", "interrupted")


def record_of(found: dict[str, Any]) -> dict[str, Any]:
    """What is kept of the JSON of `tune`."""
    kept = {key: value for key, value in found.items() if key not in LEFT_OUT}
    return {"date": datetime.date.today().isoformat(), "command": ["fastsnn-deploy", *SEARCH], **kept}


def main() -> None:
    """Search, or take what a search gave, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--from", dest="given", type=Path)
    options = parser.parse_args()
    if options.given is not None:
        text = options.given.read_text()
    else:
        command = [sys.executable, "-m", "fastsnn_deploy", *SEARCH, "--data-root", options.data_root, "--json"]
        text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    write_file(RECORD, json.dumps(record_of(json.loads(text)), indent=1) + "\n")


if __name__ == "__main__":
    main()
