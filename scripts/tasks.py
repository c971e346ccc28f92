"""Train the detector of BCCD and the segmentation network of CamVid from the shell, and measure every form of them.

    python scripts/tasks.py --data-root FOLDER --work FOLDER [--only bccd] [--full]

FOLDER holds bccd/ and camvid.npz. Every step is a command of the shell, printed before it runs; what a step has left in
the work folder is not made again, so that an interrupted run goes on. Without --full the trainings are brief, minutes
on a free core. Writes docs/records/tasks.json, or the record of --full into the work folder. CamVid's pictures may not
be published: the work folder should lie outside the repository.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastsnn_deploy.files import write_file

RECORD = Path(__file__).parents[1] / "docs/records/tasks.json"
BRIEF = {
    "bccd": ["--task", "detection", "--size", "96x128", "--epochs", "12,5,1"],
    "camvid": ["--task", "segmentation", "--epochs", "8,4,1"],
}
FULL = {"bccd": ["--task", "detection"], "camvid": ["--task", "segmentation"]}
MEASURED = {"bccd": [], "camvid": ["--samples", "20"]}
"""Test images of the brief run: all, or so many."""

PACKAGES = ("torch", "torchvision", "torchmetrics", "pycocotools", "numpy")


def main() -> None:
    """Run what is missing, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", choices=sorted(BRIEF))
    parser.add_argument("--full", action="store_true", help="the recipes' own epochs and sizes, all test images: hours")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    place = options.work / "tasks.json" if options.full else RECORD
    record = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    for name in [options.only] if options.only else sorted(BRIEF):
        record[name] = measured(name, options.work, options.data_root, options.full)
        write_file(place, json.dumps(record, indent=1) + "\n")


def measured(name: str, work: Path, root: Path, full: bool) -> dict[str, Any]:
    """Train, export, verify, evaluate and draw one network; its entry of the record."""
    model, net, samples = work / f"{name}.pt", work / f"{name}.net", [] if full else MEASURED[name]
    data = ["--data-root", str(root)]
    training = ["train", *(FULL if full else BRIEF)[name]]
    left(model, [*training, *data, "-o", str(model)])
    left(net, ["export", str(model), "-o", str(net)])
    proof = told(work / f"{name}-verify.json", ["verify", str(model), str(net), *data, "--samples", "4"])
    forms = ["--checkpoint", str(model), "--float", str(work / f"{name}-float.pt")]
    found = told(work / f"{name}-evaluate.json", ["evaluate", str(net), *data, *samples, *forms])
    pictures = work / f"{name}-pictures"
    left(pictures, ["run", str(net), *data, "--samples", "8", "--draw", str(pictures)])
    kept = ("images", "figures", "outputs_compared", "outputs_different", "per_image")
    settled = {key: found["settle_steps"][key] for key in ("mean", "max")}
    return {
        "date": datetime.date.fromtimestamp(model.stat().st_mtime).isoformat(),
        "python": platform.python_version(),
        "packages": {package: version(package) for package in PACKAGES},
        "training": " ".join(training),
        "verify": {key: proof[key] for key in proof if key not in ("settled", "unsettled", "data")},
        "evaluate": {**{key: found[key] for key in kept}, "settle_steps": settled},
    }


def left(path: Path, arguments: list[str]) -> None:
    """Run a command unless it has left its file or folder."""
    if not path.exists():
        shell(arguments)


def told(path: Path, arguments: list[str]) -> Any:
    """What a command prints with --json, kept in a file."""
    if not path.exists():
        write_file(path, shell([*arguments, "--json"]))
    return json.loads(path.read_text(encoding="utf-8"))


def shell(arguments: list[str]) -> str:
    """A command of fastsnn-deploy; its output."""
    print("fastsnn-deploy", " ".join(arguments), file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "fastsnn_deploy", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
