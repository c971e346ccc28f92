"""Synaptic operations against accuracy: the shipped 3-bit ResNet-20, fine-tuned at several prices of an operation.

    python scripts/sparsity.py --data-root FOLDER --work FOLDER [--sparsity 0 1 2 4] [--epochs 3]

FOLDER holds cifar10 and weights/, as recipes use them. Every price is one training from the same checkpoint, with the
same images in the same order, and the teacher of the shipped recipe; 5,000 training images are held out and measured
while training, the test images after its end. What is interrupted goes on after the last finished epoch when the
same command is given again. Then the spiking networks, signed and graded, run on all test images until they have
settled. Results go to docs/records/sparsity.json, a line a price, and docs/images/sparsity.svg is drawn from them.
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import fastsnn_deploy as fd
from fastsnn_deploy.analysis.count import counts_of
from fastsnn_deploy.analysis.operations import integer_operations
from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.files import write_file
from fastsnn_deploy.graph import Encoded
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.quantisation import Checkpoint, load
from fastsnn_deploy.training.recipe import Recipe
from fastsnn_deploy.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]
RECORD, PICTURE = ROOT / "docs/records/sparsity.json", ROOT / "docs/images/sparsity.svg"
SOURCE = ROOT / "netx_exports/resnet20-3bit.pt"
HELD_OUT = 5000


class FineTuner(Trainer):
    """A training that starts from the shipped checkpoint."""

    def _float_network(self, name: str, options: dict[str, int], weights: str | None) -> nn.Module:
        return load(SOURCE).model


def recipe_of(sparsity: float, epochs: int, rate: float, exact: bool) -> Recipe:
    """One price. exact: float32, without a compiler."""
    stage = {"epochs": epochs, "learning_rate": rate, "bits": 3, "weight_bits": 4, "freeze_batch_norm": True}
    return Recipe.model_validate({
        "name": "resnet20-3bit-sparse", "data": "cifar10", "model": "resnet20", "sparsity": sparsity,
        "normalisation": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
        "teacher": {"model": "resnet32", "weights": "weights/resnet32-d509ac18.th"},
        "stages": [stage], "batch_size": 128, "weight_decay": 1e-4, "augment": {"shift": 4, "flip": True},
        "hold_out": HELD_OUT, "precision": "float32" if exact else "bfloat16", "compile": not exact,
    })  # fmt: skip


def measured(checkpoint: Checkpoint, root: Path) -> dict[str, Any]:
    """Accuracy, and operations of one image of the test set, of everything that a checkpoint becomes."""
    graph = convert(checkpoint)
    test = fd.load_data("cifar10", "test", root)
    levels, labels = np.asarray(test.for_input(graph.input)), test.labels.numpy()
    found: dict[str, Any] = {"quantised_accuracy": checkpoint.metadata["quantised_accuracy"]}
    total = 0
    for start in range(0, len(labels), 250):
        emitted = graph.input.encode(levels[start : start + 250])
        total += int(integer_operations(graph, integer_values(graph, Encoded(emitted))).sum())
    found["counts_alone"] = round(total / len(labels))
    for neurons in ("unary", "graded"):
        snn = convert(checkpoint, neurons=neurons)
        evaluation = fd.evaluate(snn, levels, labels)
        counts = counts_of(evaluation)
        found[neurons] = {
            "accuracy": evaluation.topk[0].correct / len(labels),
            "synaptic_operations": round(counts.total("synaptic_operations") / len(labels)),
            "spikes": round(counts.total("spikes") / len(labels)),
            "negative_spikes": round(counts.total("negative_spikes") / len(labels)),
            "steps": round(counts.steps / len(labels), 2),
        }
    return found


def draw(record: dict[str, Any]) -> None:
    """Operations against accuracy, signed and graded."""
    from fastsnn_deploy.plots import axes

    ax = axes(None)
    for neurons, mark in (("unary", "o"), ("graded", "s")):
        points = sorted(record["points"], key=lambda point: point[neurons]["synaptic_operations"])
        start = record["shipped"][neurons]
        each = [(p[neurons]["synaptic_operations"] / 1e6, 100 * p[neurons]["accuracy"]) for p in points]
        line = ax.plot(*zip(*each, strict=True), marker=mark, label=f"{neurons}, fine-tuned")[0]
        at = start["synaptic_operations"] / 1e6, 100 * start["accuracy"]
        ax.plot(*at, marker="*", markersize=11, color=line.get_color(), linestyle="none", label=f"{neurons}, shipped")
        for point, place in zip(points, each, strict=True):
            ax.annotate(f"{point['sparsity']:g}", place, xytext=(0, 6), textcoords="offset points", ha="center")
    ax.set(xlabel="synaptic operations of one image (million)", ylabel="accuracy (%)")
    ax.legend()
    assert ax.figure is not None
    ax.figure.savefig(PICTURE, bbox_inches="tight", metadata={"Date": None})


def main() -> None:
    """Train, measure, record, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints and unfinished trainings")
    parser.add_argument("--sparsity", type=float, nargs="*", default=[0.0, 1.0, 2.0, 4.0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--exact", action="store_true", help="float32 without a compiler: slower")
    parser.add_argument("--train-only", action="store_true", help="leave measuring to another call")
    options = parser.parse_args()
    torch.set_num_threads(1)
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"points": []}
    if not options.train_only and "shipped" not in record:
        record["shipped"] = measured(load(SOURCE), options.data_root)
        write_file(RECORD, json.dumps(record, indent=1) + "\n", again=True)
    for sparsity in options.sparsity:
        recipe = recipe_of(sparsity, options.epochs, options.learning_rate, options.exact)
        file, lines = options.work / f"sparsity-{sparsity:g}.pt", options.work / f"sparsity-{sparsity:g}.txt"

        def log(line: str, lines: Path = lines) -> None:
            with lines.open("a") as opened:
                opened.write(line + "\n")

        trainer = FineTuner(recipe, file, data_root=options.data_root, log=log)
        checkpoint = trainer.run(resume=file.exists() or trainer.resume_file.exists())
        if options.train_only:
            continue
        point = {
            "sparsity": sparsity, "epochs": options.epochs, "learning_rate": options.learning_rate,
            "date": str(datetime.date.today()), "torch": torch.__version__, "training": lines.read_text().splitlines(),
            **measured(checkpoint, options.data_root),
        }  # fmt: skip
        kept = [each for each in json.loads(RECORD.read_text())["points"] if each["sparsity"] != sparsity]
        record["points"] = sorted([*kept, point], key=lambda each: each["sparsity"])
        write_file(RECORD, json.dumps(record, indent=1) + "\n", again=True)
    if len(record["points"]) > 1:
        draw(record)


if __name__ == "__main__":
    main()
