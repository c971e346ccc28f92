"""Make the example exports in `netx_exports/` and their manifest: train, export, verify on Lava, record.

    uv run python scripts/make_examples.py [--data-root FOLDER] [NAME ...]
    uv run python scripts/make_examples.py --trained resnet20-2bit=MODEL.pt --data-root FOLDER

The second form takes a network that `fastsnn-deploy train` has made, keeps its checkpoint beside the exports, and
prints what its thermometer code gives, which is too large to keep. Each entry of `manifest.json` says what made the
file, when and with what, and what was measured.
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

from fastsnn_deploy import __version__
from fastsnn_deploy.analysis.verify import verify
from fastsnn_deploy.analysis.verify_stock import verify_stock
from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.files import write_file
from fastsnn_deploy.formats import netx
from fastsnn_deploy.formats.export import export
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.passes.stock_range import to_stock_range
from fastsnn_deploy.quantisation import Checkpoint, load, save
from fastsnn_deploy.simulators.integer import integer_logits
from fastsnn_deploy.training.data import load_images
from fastsnn_deploy.training.recipe import load_recipe
from fastsnn_deploy.training.trainer import Trainer

FOLDER = Path(__file__).resolve().parent.parent / "netx_exports"
RECIPES = ("digits-2bit", "mnist-lenet-2bit")
CODES = ("unary", "graded")
VERIFIED_IMAGES = 100
VERIFIED_TRAINED = 5


def main() -> None:
    """Make the named examples, all by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"recipes among {', '.join(RECIPES)}; default all")
    parser.add_argument("--trained", action="append", default=[], metavar="NAME=MODEL.pt")
    parser.add_argument("--data-root", default="data", help="folder that holds the data sets")
    options = parser.parse_args()
    manifest_file = FOLDER / "manifest.json"
    manifest = json.loads(manifest_file.read_text()) if manifest_file.exists() else {}
    for name in options.names or (() if options.trained else RECIPES):
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(load_recipe(name), Path(folder) / "model.pt", data_root=options.data_root, log=print)
            checkpoint = trainer.run()
        seconds = round(time.monotonic() - start)
        command = f"uv run python scripts/make_examples.py {name}"
        for neurons in CODES:
            file = FOLDER / f"{name}-{neurons}.net"
            entry = make(checkpoint, neurons, file, options.data_root, VERIFIED_IMAGES)
            manifest[file.name] = {"command": command, **entry, "training_seconds": seconds}
    for name, _, model in (each.partition("=") for each in options.trained):
        checkpoint = load(model)
        save(checkpoint, FOLDER / f"{name}.pt")
        command = f"uv run python scripts/make_examples.py --trained {name}=MODEL.pt"
        for neurons in (*CODES, "stock-lif"):
            file = FOLDER / f"{name}-{neurons}.net"
            entry = make(checkpoint, neurons, file, options.data_root, VERIFIED_TRAINED)
            print(json.dumps(entry, indent=2), flush=True)
            if neurons == "stock-lif":
                file.unlink()
            else:
                manifest[file.name] = {"command": command, **entry, "checkpoint": f"{name}.pt"}
    write_file(manifest_file, json.dumps(dict(sorted(manifest.items())), indent=2) + "\n")


def make(checkpoint: Checkpoint, neurons: str, file: Path, data_root: str, images: int) -> dict[str, Any]:
    """Export one file, verify it on Lava with some images; return its entry of the manifest."""
    graph = convert(checkpoint)
    test = load_images(str(checkpoint.metadata["data"]), "test", data_root)
    levels, labels = test.for_input(graph.input), test.labels.numpy()
    if neurons == "stock-lif":
        export(graph, file, "stock-lif")
        result = verify_stock(netx.read_stock(file), graph, levels[:images], backend="lava")
        graph = to_stock_range(graph)
    else:
        graph = with_neurons(graph, neurons)
        netx.write(graph, file)
        result = verify(netx.read(file), levels[:images], truth=graph, backend="lava", net=file)
    answers = integer_logits(graph, levels).argmax(1)
    return {
        "recipe": graph.metadata["recipe"],
        "neurons": neurons,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "date": datetime.date.today().isoformat(),
        "versions": {"fastsnn-deploy": __version__, "python": platform.python_version()}
        | {package: version(package) for package in ("torch", "numpy", "lava-nc")},
        "cores": os.cpu_count(),
        "test_images": len(labels),
        "quantised_accuracy": checkpoint.metadata["quantised_accuracy"],
        "integer_accuracy": float((answers == labels).mean()),
        "verified_on_lava": {
            "images": result.images,
            "integers_compared": result.total.compared,
            "integers_differing": result.total.differing,
        },
        "settle_steps": {"mean": float(result.settle_steps.mean()), "max": int(result.settle_steps.max())},
    }


if __name__ == "__main__":
    main()
