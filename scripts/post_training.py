"""Quantise trained float networks without training, and measure them on all test images of CIFAR-10.

    python scripts/post_training.py --data-root FOLDER [--only resnet20-4-4 ...] [--model-folder FOLDER]

FOLDER holds cifar10 and weights/, as recipes use them. Every network at every width is one entry of
docs/records/post_training.json; entries that are there are left out unless --again is given, so that a run that was
interrupted goes on. The MLPerf Tiny ResNet-8 is read from its Keras file as arrays; nothing of Keras is needed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import fastsnn_deploy as fd
from fastsnn_deploy.files import write_file
from fastsnn_deploy.quantisation.post_training.report import PostTraining
from fastsnn_deploy.simulators.integer import integer_logits
from fastsnn_deploy.training.answers import quantised_logits
from fastsnn_deploy.training.images import Images
from fastsnn_deploy.training.models.mlperf_tiny import ResNet8

RECORD = Path(__file__).parents[1] / "docs/records/post_training.json"
SHAPE = (3, 32, 32)
STAGES_MEASURED_ON = 1000
"""Test images for the accuracy after each stage; networks at the end are measured on all."""


@dataclass(frozen=True)
class Entry:
    """A network at a width. options: of `quantize`; training: of `fit`, empty without training."""

    network: str
    bits: int
    weight_bits: int
    options: dict[str, Any]
    training: dict[str, Any]


FINETUNE = {"epochs": 3, "learning_rate": 0.01, "batch_size": 128, "freeze_batch_norm": True, "shift": 4, "flip": True}
QUICK = {"stages": ("equalisation", "bias correction")}
"""With 6 bits and more the rounding, by far the longest stage, has little left to gain."""

ENTRIES = {
    "resnet20-8-8": Entry("resnet20", 8, 8, QUICK, {}),
    "resnet20-6-8": Entry("resnet20", 6, 8, QUICK, {}),
    "resnet20-4-8": Entry("resnet20", 4, 8, {}, {}),
    "resnet20-4-4": Entry("resnet20", 4, 4, {}, {}),
    "resnet20-3-4-tuned": Entry("resnet20", 3, 4, {"iterations": 500}, FINETUNE),
    "mlperf-tiny-resnet8-8-8": Entry("mlperf-tiny-resnet8", 8, 8, QUICK, {}),
}


def _resnet20(weights: Path) -> tuple[nn.Module, dict[str, Any]]:
    model = fd.load_model(weights / "resnet20-12fca82f.th", "resnet20")
    return model, {
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }


def _resnet8(weights: Path) -> tuple[nn.Module, dict[str, Any]]:
    model = ResNet8().load_keras(weights / "mlperf_tiny_pretrainedResnet.h5")
    return model.eval(), {"std": (1 / 255,)}


NETWORKS: dict[str, Callable[[Path], tuple[nn.Module, dict[str, Any]]]] = {
    "resnet20": _resnet20, "mlperf-tiny-resnet8": _resnet8
}  # fmt: skip


def measure(entry: Entry, train: Images, test: Images, weights: Path, keep: Path | None) -> dict[str, Any]:
    """Quantise, train if asked, and count what is right among all test images."""
    model, normalisation = NETWORKS[entry.network](weights)
    start = time.monotonic()
    few = (test.raw(slice(0, STAGES_MEASURED_ON)), test.labels[:STAGES_MEASURED_ON])
    found: PostTraining = fd.quantize(
        model, train, entry.bits, entry.weight_bits, test=few, input_shape=SHAPE, **normalisation, **entry.options
    )
    print(found.summary(), flush=True)
    record = {"date": str(datetime.date.today()), "network": entry.network, **found.to_dict()}
    record |= {"options": entry.options, "stages_measured_on": STAGES_MEASURED_ON, "test_images": len(test.labels)}
    record |= {"seconds": round(time.monotonic() - start), "torch_threads": torch.get_num_threads()}
    labels = test.labels.numpy()
    right = {"float": quantised_logits(found.teacher, test), "quantised": quantised_logits(found.model, test)}
    if entry.training:
        start = time.monotonic()
        history = fd.fit(found.model, train, teacher=found.teacher, **entry.training)
        record["training"] = {**entry.training, **history.to_dict(), "seconds": round(time.monotonic() - start)}
        right["trained"] = quantised_logits(found.model, test)
    if keep is not None:
        fd.save(found.model, keep)
    snn = fd.convert(found.model, SHAPE)
    record["losses"] = json.loads(snn.metadata.get("losses", "[]"))
    right["integer"] = integer_logits(snn, test.for_input(snn.input))
    record["accuracy"] = {name: float((logits.argmax(1) == labels).mean()) for name, logits in right.items()}
    return record


def main() -> None:
    """Measure what is asked for and not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(ENTRIES), choices=list(ENTRIES))
    parser.add_argument("--again", action="store_true", help="measure entries anew that are there already")
    parser.add_argument("--model-folder", type=Path, help="also keep the quantised models here")
    options = parser.parse_args()
    train, test = (fd.load_data("cifar10", split, options.data_root) for split in ("train", "test"))
    for name in options.only:
        if name in _records() and not options.again:
            continue
        keep = None if options.model_folder is None else options.model_folder / f"{name}.pt"
        record = measure(ENTRIES[name], train, test, options.data_root / "weights", keep)
        records = dict(sorted({**_records(), name: record}.items()))
        write_file(RECORD, json.dumps(records, indent=1) + "\n", again=True)
        print(name, json.dumps(record["accuracy"]), flush=True)


def _records() -> dict[str, Any]:
    return dict(json.loads(RECORD.read_text(encoding="utf-8"))) if RECORD.exists() else {}


if __name__ == "__main__":
    main()
