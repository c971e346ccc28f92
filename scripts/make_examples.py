"""Make the example exports in `netx_exports/` and their manifest: train, export, verify on Lava, record.

    uv run python scripts/make_examples.py [--data-root FOLDER] [NAME ...]

Each entry of `manifest.json` says what made the file, when and with what, and what was measured.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fastsnn_deploy import __version__, netx
from fastsnn_deploy.files import atomic_write_text
from fastsnn_deploy.graph import with_code
from fastsnn_deploy.lower import convert
from fastsnn_deploy.quantize import Checkpoint
from fastsnn_deploy.quantize.data import load_images
from fastsnn_deploy.quantize.recipe import load_recipe
from fastsnn_deploy.quantize.train import Trainer
from fastsnn_deploy.simulate import evaluate, logits
from fastsnn_deploy.verify import verify

FOLDER = Path(__file__).resolve().parent.parent / "netx_exports"
RECIPES = ("digits-2bit", "mnist-lenet-2bit")
CODES = ("unary", "graded")
VERIFIED_IMAGES = 100


def main() -> None:
    """Make the named examples, all by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(RECIPES), help=f"recipes among {', '.join(RECIPES)}")
    parser.add_argument("--data-root", default="data", help="folder that holds the data sets")
    options = parser.parse_args()
    manifest_file = FOLDER / "manifest.json"
    manifest = json.loads(manifest_file.read_text()) if manifest_file.exists() else {}
    for name in options.names:
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(load_recipe(name), Path(folder) / "model.pt", data_root=options.data_root, log=print)
            checkpoint = trainer.run()
        seconds = round(time.monotonic() - start)
        for code in CODES:
            file = FOLDER / f"{name}-{code}.net"
            manifest[file.name] = make(checkpoint, name, code, file, options.data_root) | {"training_seconds": seconds}
            print(json.dumps(manifest[file.name], indent=2))
    atomic_write_text(manifest_file, json.dumps(dict(sorted(manifest.items())), indent=2) + "\n")


def make(checkpoint: Checkpoint, name: str, code: str, file: Path, data_root: str) -> dict[str, Any]:
    """Export one file; return its entry of the manifest."""
    graph = with_code(convert(checkpoint), code)
    netx.write(graph, file)
    test = load_images(str(checkpoint.metadata["data"]), "test", data_root)
    levels, labels = test.levels.numpy(), test.labels.numpy()
    answers = [
        logits(graph, evaluate(graph, graph.input.encode(part))).argmax(1)
        for part in np.array_split(levels, max(1, len(levels) // 500))
    ]
    result = verify(netx.read(file), levels[:VERIFIED_IMAGES], truth=graph, backend="lava", net=file)
    return {
        "recipe": name,
        "code": code,
        "command": f"uv run python scripts/make_examples.py {name}",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "date": datetime.date.today().isoformat(),
        "versions": {"fastsnn-deploy": __version__, "python": platform.python_version()}
        | {package: version(package) for package in ("torch", "numpy", "lava-nc")},
        "cores": os.cpu_count(),
        "test_images": len(labels),
        "twin_accuracy": checkpoint.metadata["quantised_accuracy"],
        "integer_accuracy": float((np.concatenate(answers) == labels).mean()),
        "verified_on_lava": {
            "images": result.images,
            "integers_compared": result.total.compared,
            "integers_differing": result.total.differing,
        },
        "settle_steps": {"mean": float(result.settle_steps.mean()), "max": int(result.settle_steps.max())},
    }


if __name__ == "__main__":
    main()
