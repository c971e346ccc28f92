"""Synaptic operations against accuracy: the shipped 3-bit ResNet-20, fine-tuned at several prices of an operation.

    python scripts/sparsity.py --data-root FOLDER --work FOLDER [--sparsity 0 16 32 64] [--epochs 2] [--images 15000]

FOLDER holds cifar10 and weights/, as recipes use them. Every price is one training from the same checkpoint, with the
same images in the same order, and the float network that it began with as teacher; 5,000 training images are held out
and measured while training, the test images after its end. What is interrupted goes on after the last finished epoch
when the same command is given again. Then the spiking networks, signed and graded, run on all test images until they
have settled. Results go to docs/records/sparsity.json, an entry a price, and docs/images/sparsity.svg is drawn from it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import fastsnn_deploy as fd
from fastsnn_deploy.analysis.count import counts_of
from fastsnn_deploy.analysis.counts import ConnectionCounts
from fastsnn_deploy.files import write_file
from fastsnn_deploy.plots import NEGATIVE, NEUTRAL, POSITIVE, picture
from fastsnn_deploy.quantisation import Checkpoint, load
from fastsnn_deploy.training.recipe import Recipe
from fastsnn_deploy.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]
RECORD, PICTURE = ROOT / "docs/records/sparsity.json", ROOT / "docs/images/sparsity.svg"
SOURCE = ROOT / "netx_exports/resnet20-3bit.pt"
HELD_OUT = 5000
FORMS: dict[str, dict[str, Any]] = {"unary": {}, "start_delay_2": {"start_delay": 2}, "graded": {"neurons": "graded"}}
"""What is measured of a checkpoint: options of `convert` by their name in the record."""

DRAWN = {"unary": ("signed", POSITIVE), "graded": ("graded", NEGATIVE)}


class FineTuner(Trainer):
    """A training that starts from the shipped checkpoint. most: images that it learns from."""

    def __init__(self, *arguments: Any, most: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.train_images = self.train_images.select(slice(0, most))

    def _float_network(self, name: str, options: dict[str, int], weights: str | None) -> nn.Module:
        return load(SOURCE).model


def recipe_of(sparsity: float, options: argparse.Namespace) -> Recipe:
    """One price."""
    stage = {
        "epochs": options.epochs, "learning_rate": options.learning_rate, "bits": 3, "weight_bits": 4,
        "freeze_batch_norm": True,
    }  # fmt: skip
    return Recipe.model_validate({
        "name": "resnet20-3bit-sparse", "data": "cifar10", "model": "resnet20", "sparsity": sparsity,
        "normalisation": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
        "teacher": {"model": "resnet20", "weights": "weights/resnet20-12fca82f.th"},
        "stages": [stage], "batch_size": options.batch, "weight_decay": 1e-4, "augment": {"shift": 4, "flip": True},
        "hold_out": HELD_OUT, "precision": "bfloat16", "compile": options.compile,
    })  # fmt: skip


def measured(checkpoint: Checkpoint, root: Path) -> dict[str, Any]:
    """Accuracy, and operations of one image of the test set, of everything that a checkpoint becomes."""
    graph = fd.convert(checkpoint)
    test = fd.load_data("cifar10", "test", root)
    levels, labels = np.asarray(test.for_input(graph.input)), test.labels.numpy()
    found: dict[str, Any] = {"quantised_accuracy": checkpoint.metadata["quantised_accuracy"]}
    for form, changed in FORMS.items():
        evaluation = fd.evaluate(fd.convert(checkpoint, **changed), levels, labels)
        counts = counts_of(evaluation)
        sums = {key: counts.total(key) for key in ("synaptic_operations", "spikes", "negative_spikes")}
        found[form] = {
            "accuracy": evaluation.topk[0].correct / len(labels), "steps": round(counts.steps / len(labels), 2),
            **{key: round(each / len(labels)) for key, each in sums.items()},
        }  # fmt: skip
    if counts.total("negative_spikes") == counts["input"].negative_spikes:  # no graded neuron took anything back
        of_image, others = partition(counts.connections)
        alone = sum(each.synaptic_operations for each in of_image) + sum(each.payload_operations for each in others)
        found["counts_alone"] = round(alone / len(labels))
    return found


def partition(connections: tuple[ConnectionCounts, ...]) -> tuple[list[ConnectionCounts], list[ConnectionCounts]]:
    """Those that read the image, and the others."""
    of_image = [each for each in connections if each.sources == ("input",)]
    return of_image, [each for each in connections if each not in of_image]


def draw(record: dict[str, Any]) -> None:
    """Operations against accuracy, signed above graded, each with the shipped network."""

    def panels(*both: Any) -> None:
        for ax, (form, (kind, colour)) in zip(both, DRAWN.items(), strict=True):
            places = [(place(point[form]), f"{point['sparsity']:g}") for point in record["points"]]
            line = list(zip(*(at for at, _ in places), strict=True))
            ax.plot(*line, marker="o", color=colour, label=f"{kind}, fine-tuned at this sparsity")
            start = place(record["shipped"][form])
            ax.plot(*start, "*", color=colour, markersize=12, linestyle="none", label=f"{kind}, shipped")
            ax.axvline(start[0] / 2, color=NEUTRAL, linestyle=":", label="half of shipped")
            for at, name in places:
                ax.annotate(name, at, xytext=(0, -13), textcoords="offset points", ha="center", fontsize=8)
            ax.set(ylabel="test images right, %", xlim=(0, 1.05 * start[0]))
            ax.margins(y=0.25)
            ax.grid(alpha=0.3)
            ax.legend(loc="upper left", fontsize=8)
        both[-1].set_xlabel("synaptic operations of one image, million")

    write_file(PICTURE, picture(panels, (6.4, 5.6), (1, 1), "svg"), again=True)


def place(found: dict[str, Any]) -> tuple[float, float]:
    """Where a network lies in the picture."""
    return found["synaptic_operations"] / 1e6, 100 * found["accuracy"]


def train(sparsity: float, options: argparse.Namespace) -> tuple[Checkpoint, list[str]]:
    """The checkpoint of one price, and a line for each epoch; goes on where it was."""
    recipe = recipe_of(sparsity, options)
    file, lines = options.work / f"sparsity-{sparsity:g}.pt", options.work / f"sparsity-{sparsity:g}.txt"
    begun = time.monotonic()

    def log(line: str) -> None:
        with lines.open("a") as opened:
            opened.write(line + "\n")

    def watch(done: int, total: int) -> None:
        if done % 10 == 0:
            operations = float(trainer.priced.spent[-1][0]) if sparsity else 0.0
            taken = time.monotonic() - begun
            print(f"{sparsity:g}: {done} of {total} steps, {taken:.0f} s, {operations:,.0f} operations", flush=True)

    trainer = FineTuner(recipe, file, data_root=options.data_root, log=log, progress=watch, most=options.images)
    checkpoint = trainer.run(resume=file.exists() or trainer.resume_file.exists())
    return checkpoint, [line for line in lines.read_text().splitlines() if line.startswith("stage")]


def main() -> None:
    """Train, measure, record, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints and unfinished trainings")
    parser.add_argument("--sparsity", type=float, nargs="*", default=[0.0, 16.0, 32.0, 64.0])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, default=15_000, help="training images of an epoch")
    parser.add_argument("--batch", type=int, default=128, help="images a step")
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--compile", action="store_true", help="through torch.compile: faster once it is compiled")
    parser.add_argument("--train-only", action="store_true", help="leave measuring to another call")
    options = parser.parse_args()
    torch.set_num_threads(1)
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"points": []}
    if not options.train_only and "shipped" not in record:
        record["shipped"] = measured(load(SOURCE), options.data_root)
        write_file(RECORD, json.dumps(record, indent=1) + "\n", again=True)
    for sparsity in options.sparsity:
        checkpoint, lines = train(sparsity, options)
        if options.train_only:
            continue
        point = {
            "sparsity": sparsity, "epochs": options.epochs, "images": options.images, "batch": options.batch,
            "learning_rate": options.learning_rate, "date": str(datetime.date.today()), "torch": torch.__version__,
            "training": lines, **measured(checkpoint, options.data_root),
        }  # fmt: skip
        kept = [each for each in record["points"] if each["sparsity"] != sparsity]
        record["points"] = sorted([*kept, point], key=lambda each: each["sparsity"])
        write_file(RECORD, json.dumps(record, indent=1) + "\n", again=True)
    if len(record["points"]) > 1:
        draw(record)


if __name__ == "__main__":
    main()
