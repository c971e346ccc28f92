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

import h5py
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fastsnn_deploy as fd
from fastsnn_deploy.files import write_file
from fastsnn_deploy.quantisation.post_training.report import PostTraining
from fastsnn_deploy.simulators.integer import integer_logits
from fastsnn_deploy.training.answers import quantised_logits
from fastsnn_deploy.training.images import Images

RECORD = Path(__file__).parents[1] / "docs/records/post_training.json"
SHAPE = (3, 32, 32)
STAGES_MEASURED_ON = 1000
"""Test images for the accuracy after each stage; networks at the end are measured on all."""

KERAS_EPSILON = 1e-3


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


class MlperfTinyResNet8(nn.Module):
    """ResNet-8 of MLPerf Tiny's image classification with the weights of `pretrainedResnet.h5`.

    Float [N, 3, 32, 32], pixels from 0 to 255, -> logits [N, 10]; the softmax at the end is left out. With stride 2
    Keras pads "same" maps below and on the right only.
    Source: https://github.com/mlcommons/tiny, benchmark/training/image_classification, Apache-2.0.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        with h5py.File(file) as content:
            stored = content["model_weights"]
            self.convs = nn.ModuleList(_conv(_arrays(stored, _named("conv2d", i))) for i in range(9))
            self.norms = nn.ModuleList(_norm(_arrays(stored, _named("batch_normalization", i))) for i in range(7))
            dense = _arrays(stored, "dense")
        self.dense = nn.Linear(64, 10)
        _fill(self.dense, weight=dense["kernel"].T, bias=dense["bias"])

    def forward(self, x: Tensor) -> Tensor:
        conv, norm = self.convs, self.norms
        x = F.relu(norm[0](conv[0](x)))
        x = F.relu(x + norm[2](conv[2](F.relu(norm[1](conv[1](x))))))
        for first, around in ((3, 5), (6, 8)):
            number = 3 if first == 3 else 5
            inner = F.relu(norm[number](conv[first](F.pad(x, (0, 1, 0, 1)))))
            x = F.relu(conv[around](x) + norm[number + 1](conv[first + 1](inner)))
        return self.dense(F.avg_pool2d(x, 8).flatten(1))


def _named(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind


def _arrays(stored: Any, name: str) -> dict[str, Tensor]:
    """The arrays of one Keras layer by name."""
    return {key.split(":")[0]: torch.from_numpy(value[()]) for key, value in stored[name][name].items()}


def _conv(arrays: dict[str, Tensor]) -> nn.Conv2d:
    weight = arrays["kernel"].permute(3, 2, 0, 1)
    outputs, inputs, size, _ = weight.shape
    stride = 1 if outputs == 16 or (inputs == outputs) else 2
    conv = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2 if stride == 1 else 0)
    return _fill(conv, weight=weight, bias=arrays["bias"])


def _norm(arrays: dict[str, Tensor]) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(len(arrays["gamma"]), eps=KERAS_EPSILON)
    names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    return _fill(norm, **{ours: arrays[theirs] for ours, theirs in names.items()})


def _fill(layer: Any, **values: Tensor) -> Any:
    with torch.no_grad():
        for name, value in values.items():
            getattr(layer, name).copy_(value)
    return layer


def _resnet20(weights: Path) -> tuple[nn.Module, dict[str, Any]]:
    model = fd.load_model(weights / "resnet20-12fca82f.th", "resnet20")
    return model, {
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }


def _resnet8(weights: Path) -> tuple[nn.Module, dict[str, Any]]:
    model = MlperfTinyResNet8(weights / "mlperf_tiny_pretrainedResnet.h5")
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
