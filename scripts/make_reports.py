"""Write the reports in docs/reports/ and the picture of one in docs/images/.

python scripts/make_reports.py [NAME ...]       # the data sets are where FASTSNN_DATA_ROOT says

When, on what and with which code is in each report.json and in docs/records/reports.json. The picture needs Chromium.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

from PIL import Image

import fastsnn_deploy as fd

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "docs" / "reports"
RECORD = ROOT / "docs" / "records" / "reports.json"
PICTURE = ROOT / "docs" / "images" / "report.png"

MADE = {
    "lenet": ("netx_exports/mnist-lenet-2bit-unary.net", ("--samples", "10000", "--proof-samples", "20")),
    "resnet20": ("netx_exports/resnet20-2bit-unary.net", ("--samples", "1000", "--proof-samples", "10")),
    "lenet-truenorth": (
        "netx_exports/mnist-lenet-2bit-unary.net",
        ("--hardware", "truenorth", "--samples", "100", "--proof-samples", "2"),
    ),
}
"""Network and options of each report."""

PICTURED, SIZE = "resnet20", (1340, 900)
"""Which report is in the picture, and pixels of the window."""


def make(name: str) -> dict[str, object]:
    """Write one report with the command that it prints."""
    net, options = MADE[name]
    command = [sys.executable, "-m", "fastsnn_deploy", "report", net, *options, "-o", f"docs/reports/{name}"]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode not in (0, 2):  # 2: it does not fit, and says so
        raise SystemExit(f"{name}: exit code {done.returncode}")
    report = json.loads((REPORTS / name / "report.json").read_text(encoding="utf-8"))
    return {
        "command": report["made"]["command"],
        "date": report["made"]["date"],
        "versions": report["made"]["versions"],
        "commit": subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True).strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "seconds": round(time.perf_counter() - start),
        "bytes": (REPORTS / name / "report.html").stat().st_size,
    }


def picture() -> None:
    """The first screen of one report as a PNG of few colours."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("Chromium is not there")
    with tempfile.TemporaryDirectory() as folder:
        shot, page = Path(folder) / "shot.png", REPORTS / PICTURED / "report.html"
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={SIZE[0]},{SIZE[1]}"]
        subprocess.run([browser, *options, f"--screenshot={shot}", page.as_uri()], check=True, capture_output=True)
        Image.open(shot).convert("RGB").quantize(200, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


def main() -> None:
    """Make the named reports, or all."""
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    for name in sys.argv[1:] or MADE:
        record[name] = make(name)
        RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    picture()
    print(f"{datetime.now(timezone.utc):%H:%M} UTC, fastsnn-deploy {fd.__version__}: {', '.join(record)}")


if __name__ == "__main__":
    main()
