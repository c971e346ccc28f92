"""Plant faults in a quantised ResNet-20, one at a time, and see what `fd.compare` says of each.

    python scripts/compare_faults.py --data-root FOLDER [--only NAME ...] [--samples N] [--keep FILE]

FOLDER holds cifar10 and weights/, as recipes use them. The network is quantised without training to 4-bit activations
and 8-bit weights (steps and biases only), and kept in FILE if one is named, or read from it. A fault is planted on
purpose: what it costs is the difference to the same network without it, on the same images. Each is one entry of
docs/records/compare.json.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import datetime
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx

import fastsnn_deploy as fd
from fastsnn_deploy.files import write_file

RECORD = Path(__file__).parents[1] / "docs/records/compare.json"
SHAPE = (3, 32, 32)
FLOAT = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
LAYER = "layer2.1.conv2"
INNER = "layer2.1.conv1"


def _activation(model: fx.GraphModule, layer: str) -> Any:
    """The quantised activation whose counts a layer of the spiking graph has."""
    from fastsnn_deploy.analysis.comparison.forms import forms_of

    forms = forms_of(model, None, None, None, None, SHAPE, None, False, {})
    place = next(place for place in forms.places if place.layer == layer)
    return model.get_submodule(place.activation)


def small_step(model: fx.GraphModule) -> None:
    """The step of one activation a quarter of what it should be: its large values clip."""
    activation = _activation(model, LAYER)
    activation.learned.data /= 4


def large_step(model: fx.GraphModule) -> None:
    """The step of one activation eight times what it should be: its small values vanish."""
    activation = _activation(model, INNER)
    activation.learned.data *= 8


def dead_channels(model: fx.GraphModule) -> None:
    """A quarter of the channels so small that none reaches half a step; the float network stays what it was."""
    norm: Any = model.get_submodule("layer2.1.bn1")
    conv: Any = model.get_submodule(LAYER)
    chosen = slice(0, len(norm.weight) // 4)
    norm.weight.data[chosen] /= 100
    norm.bias.data[chosen] /= 100
    conv.weight.data[:, chosen] *= 100
    conv.reset_weight_step()


def coarse_weights(model: fx.GraphModule) -> None:
    """2-bit weights in one layer, of 8 bits everywhere else."""
    layer: Any = model.get_submodule(LAYER)
    layer.set_weight_bits(2)


def nothing(model: fx.GraphModule) -> None:
    """No fault."""


IN_MODEL: dict[str, tuple[Callable[[fx.GraphModule], None], str]] = {
    "nothing": (nothing, ""),
    "small step": (small_step, LAYER),
    "large step": (large_step, INNER),
    "dead channels": (dead_channels, INNER),
    "coarse weights": (coarse_weights, LAYER),
}
"""Faults of the quantised model, and the layers that the verdict should name first."""


def one_weight(graph: fd.SpikingGraph) -> fd.SpikingGraph:
    """One weight of a layer is 40 more."""

    def changed(node: Any) -> Any:
        if node.name != f"{LAYER}.weight":
            return node
        weight = node.weight.astype(np.int64)
        weight[3, 2, 1, 1] += 40 if weight[3, 2, 1, 1] < 80 else -40
        return dataclasses.replace(node, weight=weight)

    return dataclasses.replace(graph, nodes=tuple(map(changed, graph.nodes)))


def _file(name: str, model: fx.GraphModule, folder: Path) -> tuple[Path, str]:
    """An exported network that is not quite that of the model, and the first layer that differs."""
    path = folder / "model.net"
    if name == "one weight":
        fd.export(one_weight(fd.convert(model, SHAPE)), path)
        return path, LAYER
    other = copy.deepcopy(model)
    for module in other.modules():
        if hasattr(module, "reset_weight_step"):
            module.weight.data += 0.02 * torch.randn(module.weight.shape, generator=torch.Generator().manual_seed(0))
            module.reset_weight_step()
    fd.export(fd.convert(other, SHAPE), path)
    return path, "conv1"


IN_FILE = ("one weight", "other weights")
EIGHT_BITS = "eight bits"
"""No fault, and bits enough: calibrated on the last test images, on which nothing is compared."""


def measure(name: str, sound: fx.GraphModule, test: Any, others: Any, float_model: Any) -> dict[str, Any]:
    """What the verdict says, beside what the fault costs."""
    model, file, expected = copy.deepcopy(sound), None, ""
    with tempfile.TemporaryDirectory() as folder:
        if name == EIGHT_BITS:
            model = fd.prepare(float_model, 8, 8, input_shape=SHAPE, **FLOAT)
            fd.calibrate(model, others)
        elif name in IN_FILE:
            file, expected = _file(name, model, Path(folder))
        else:
            plant, expected = IN_MODEL[name]
            plant(model)
        start, used = time.monotonic(), time.process_time()
        found = fd.compare(
            model, test, net=file, input_shape=SHAPE, float_model=None if name == "dead channels" else float_model,
            **({} if name == "dead channels" else FLOAT),
        )  # fmt: skip
    print(name, found.summary(), sep="\n", flush=True)
    whole = found.to_dict()
    kept = ("images", "images_fitted", "images_judged", "tried", "verdict", "stages", "advice", "settle_steps", "notes")
    record = {"date": str(datetime.date.today()), "expected": expected, **{key: whole[key] for key in kept}}
    record["differences"] = len(whole["differences"])
    record["layers"] = [
        layer for layer in whole["layers"] if layer["layer"] in (expected, whole["layers"][-1]["layer"])
    ]
    record["seconds"] = round(time.monotonic() - start, 1)
    record["processor_seconds"] = round(time.process_time() - used, 1)
    return record | {"torch_threads": torch.get_num_threads()}


def table(records: dict[str, Any]) -> str:
    """The table of docs/compare.md: loss with the fault, after the first advice, and without the fault."""
    rows = ["| fault | the verdict's first layer | loss with it | after the first advice | without the fault |"]
    rows.append("|---|---|---|---|---|")
    without = records["nothing"]["advice"][0]["chosen"]["before"]
    for name in IN_MODEL:
        if name == "nothing" or name not in records:
            continue
        first = records[name]["advice"][0]
        scores = (first["chosen"]["before"], first["chosen"]["after"], without)
        cells = (f"{score['loss']:.3f}, {100 * score['accuracy']:.1f} %" for score in scores)
        rows.append(f"| {name} | `{first['layer']}`: {first['chosen']['words']} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    """Plant what is asked for."""
    names = [*IN_MODEL, EIGHT_BITS, *IN_FILE]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=names, choices=names)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--keep", type=Path, help="the quantised network: read if it is there, else written")
    options = parser.parse_args()
    test = fd.load_data("cifar10", "test", options.data_root)
    others = test.raw(slice(-256, None))
    test = dataclasses.replace(test, levels=test.levels[: options.samples], labels=test.labels[: options.samples])
    float_model = fd.load_model(options.data_root / "weights/resnet20-12fca82f.th", "resnet20")
    if options.keep is not None and options.keep.exists():
        sound = fd.load(options.keep)
    else:
        train = fd.load_data("cifar10", "train", options.data_root)
        sound = fd.quantize(float_model, train, 4, 8, stages=("bias correction",), input_shape=SHAPE, **FLOAT).model
        if options.keep is not None:
            fd.save(sound, options.keep, input_shape=SHAPE)
    for name in options.only:
        records = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
        records[name] = measure(name, sound, test, others, float_model)
        write_file(
            RECORD, json.dumps({key: records[key] for key in names if key in records}, indent=1) + "\n", again=True
        )


if __name__ == "__main__":
    main()
