"""Train a detector (BCCD) or a segmentation network (CamVid), convert it, compare its three forms on all test images.

    python scripts/detection_segmentation.py --task bccd --data-root FOLDER --out FOLDER [--bits 4,3] [--json]

A float network first, then a twin for each number of bits. Of every twin: figures of the twin (float32), of its
integer network, and of the spiking network once it has settled, whose output integers must all be equal. Writes
checkpoints, `record.json` and pictures to --out, which must lie outside the repository: CamVid's pictures may not be
published. The defaults of --epochs, --width and the like, below, are what the records in docs/records were made with.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
import time
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from fastsnn_deploy.errors import DeployError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.lower import convert
from fastsnn_deploy.quantize import Checkpoint, load, save
from fastsnn_deploy.tasks import (
    Detection,
    Segmentation,
    Settings,
    Task,
    answers,
    load_bccd,
    load_camvid,
    run_both,
    train,
)

SIZE = (192, 256)
"""Height and width of BCCD's images, 0.4 of the files'."""

STRIDE = 8
"""Pixels of a cell of the detector: three halvings."""

DEFAULTS = {
    "bccd": Settings("tiny-yolo", {"width": 16, "widest": 64, "halvings": 3}, epochs=(100, 40), batch=8),
    "camvid": Settings(
        "vgg9-segmentation", {"width": 16, "dilation": 4, "stride": 4, "context": 64}, epochs=(50, 16), batch=8
    ),
}
SHOWN = (0, 7, 15)
"""Test images in the picture."""


def main() -> None:
    """Train, convert, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=sorted(DEFAULTS), required=True)
    parser.add_argument("--data-root", default="data", help="folder that holds bccd/ or camvid.npz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bits", default="4,3", help="activation bits of each stage, from the first to the last")
    parser.add_argument("--epochs", help="of the float stage and of each quantised one, as in 50,25")
    parser.add_argument("--rate", type=float, help="learning rate of the float stage; half of it in the others")
    parser.add_argument("--width", type=int, help="width of the network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, help="compare on the first so many test images only")
    parser.add_argument("--evaluate-only", action="store_true", help="take the checkpoints in --out, train nothing")
    parser.add_argument("--json", action="store_true", help="print the record")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    try:
        record = run(options)
    except DeployError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    if options.json:
        print(json.dumps(record, indent=1))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that `main` promises; returns the record."""
    task, settings = make_task(options.task, options.data_root), chosen_settings(options)
    options.out.mkdir(parents=True, exist_ok=True)
    bits = [int(part) for part in options.bits.split(",")]
    record: dict[str, Any] = {
        "task": options.task, "date": datetime.date.today().isoformat(), "python": platform.python_version(),
        "packages": {name: version(name) for name in ("torch", "torchvision", "torchmetrics", "numpy")},
        "threads": options.threads, "train images": len(task.train.levels), "test images": len(task.test.levels),
        "image": list(task.train.shape), "description": task.description, "settings": asdict(settings), "networks": [],
    }  # fmt: skip
    trained = options.out / "training.json"
    if not options.evaluate_only:
        stages = train(task, settings, bits, log)
        for stage in stages:
            if stage.bits is not None:
                save(stage.checkpoint(task, settings), file_of(options, stage.bits))
        summary = [
            {"bits": s.bits, "training seconds": round(s.seconds), "losses": s.losses, "test": s.figures}
            for s in stages
        ]
        trained.write_text(json.dumps(summary), encoding="utf-8")
    record["training"] = json.loads(trained.read_text(encoding="utf-8"))
    for own in bits:
        record["networks"].append(compare(task, load(file_of(options, own)), own, options))
        (options.out / "record.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


def make_task(name: str, root: str) -> Task:
    """Data and question."""
    if name == "bccd":
        return Detection(load_bccd(root, "train", SIZE), load_bccd(root, "test", SIZE), stride=STRIDE)
    return Segmentation(load_camvid(root, "train"), load_camvid(root, "test"))


def chosen_settings(options: argparse.Namespace) -> Settings:
    """The task's defaults with what the command line says."""
    settings = replace(DEFAULTS[options.task], seed=options.seed)
    if options.epochs:
        first, rest = map(int, options.epochs.split(","))
        settings = replace(settings, epochs=(first, rest))
    if options.rate:
        settings = replace(settings, rate=options.rate, quantised_rate=options.rate / 2)
    if options.width:
        settings = replace(settings, options={**settings.options, "width": options.width})
    return settings


def compare(task: Task, checkpoint: Checkpoint, bits: int, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of one network's three forms."""
    graph = convert(checkpoint)
    levels = task.test.levels[: options.images]
    whole = len(levels) == len(task.test.levels)
    start = time.perf_counter()
    early = graph.depth + 2**bits - 1  # as many steps as Fast-SNN's T, once the first charge has arrived
    both = run_both(
        graph, levels, threads=options.threads, early=(early,),
        progress=lambda done, n: log(f"{bits} bit: {done}/{n}"),
    )  # fmt: skip
    seconds = time.perf_counter() - start
    twin = answers(task, checkpoint.twin, levels)
    forms = {"twin": twin, "integer network": both.integer, "spiking network": both.spiking}
    forms[f"spiking network after {early} steps"] = both.early[early]
    chosen = [i for i in SHOWN if i < len(levels)]
    task.picture(both.spiking[chosen], chosen).save(options.out / f"{options.task}-{bits}bit.png", optimize=True)
    result = {
        "activation bits": bits,
        "weight bits": checkpoint.metadata["settings"]["weight_bits"],
        "images": len(levels),
        "images whose settled outputs differ from the integer network": 0,  # run_both raises otherwise
        "outputs of an image": int(both.integer[0].numel()),
        "hidden counts compared as well": both.neurons,
        **({name: task.score(values) for name, values in forms.items()} if whole else {}),
        "largest difference between twin and integer network": float((twin - both.integer).abs().max()),
        "root mean square of the outputs": float(twin.square().mean().sqrt()),
        "settle steps": {"mean": both.work.mean_settle_steps, "max": both.work.max_settle_steps},
        "messages of an image": both.work.messages / len(levels),
        "synaptic operations of an image": both.work.synaptic_operations / len(levels),
        "neurons": neurons(graph),
        "depth": graph.depth,
        "comparison seconds": round(seconds),
    }
    figures = {name: round(100 * result[name][task.metric], 2) for name in forms} if whole else {}
    log(f"{bits} bit, {task.metric} in %: {figures}; {both.work.mean_settle_steps:.1f} steps")
    return result


def neurons(graph: SpikingGraph) -> int:
    """Of all populations."""
    return sum(population.size for population in graph.populations)


def file_of(options: argparse.Namespace, bits: int) -> Path:
    """Where a twin lies."""
    return Path(options.out / f"{options.task}-{bits}bit.pt")


def log(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
