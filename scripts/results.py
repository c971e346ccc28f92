"""Measure trained networks on a whole test set, for docs/results.md.

    python scripts/results.py --checkpoint NAME=MODEL.pt [--tuned NAME=TUNED.pt] --data-root FOLDER
    python scripts/results.py --page

NAME says which rows of the record are replaced; others stay. A tuned network comes from `fastsnn-deploy finetune`.
Every measurement becomes one record of docs/records/results.json; --page writes docs/results.md from them.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results_page import PAGE, RECORDS, page, read_records, stamp, store

from fastsnn_deploy.analysis.ann import ann_counts
from fastsnn_deploy.analysis.baseline import estimate_ann
from fastsnn_deploy.analysis.count import counts_of
from fastsnn_deploy.analysis.energies import Band
from fastsnn_deploy.analysis.energy import estimate
from fastsnn_deploy.analysis.evaluate import evaluate
from fastsnn_deploy.analysis.evaluation import Evaluation
from fastsnn_deploy.analysis.hardware import load_hardware
from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.files import write_file
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.integer_network import logits
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.quantisation import Checkpoint, load
from fastsnn_deploy.quantisation.sources.weights import load_weights
from fastsnn_deploy.simulators import BatchRun, Engine, open_engine
from fastsnn_deploy.simulators.integer import integer_outputs
from fastsnn_deploy.training.answers import quantised_logits
from fastsnn_deploy.training.data import Images, load_images
from fastsnn_deploy.training.finetune import published_graph
from fastsnn_deploy.training.models import build

HARDWARE = ("loihi2", "horowitz45-int8")
"""Profiles that price every run: a chip, and bare additions."""


class Keeping(Engine):
    """Another engine that keeps the final integers of the first output: int32 [N, *shape] in `finals`."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.graph, engine.threads)
        self.engine = engine
        self.finals: list[np.ndarray] = []

    @property
    def batch_size(self) -> int:
        return self.engine.batch_size

    def run(self, emitted: np.ndarray, steps: int | None = None, record: Sequence[str] = ()) -> BatchRun:
        run = self.engine.run(emitted, steps, record)
        self.finals.append(run.final(self.graph.outputs[0]).copy())
        return run


class Network:
    """One checkpoint on one set of images. threads: cores for the simulator."""

    def __init__(self, name: str, file: Path, images: Images, threads: int | None) -> None:
        self.name, self.file, self.images, self.threads = name, file, images, threads
        self.checkpoint = load(file)
        self.graph = convert(self.checkpoint)
        self.levels, self.labels = images.for_input(self.graph.input), images.labels.numpy()
        self.sha256 = hashlib.sha256(file.read_bytes()).hexdigest()

    def integers(self) -> np.ndarray:
        """Final integers of the integer network: int64 [N, classes]."""
        return integer_outputs(self.graph, self.levels)

    def right(self, answers: np.ndarray) -> int:
        """Images whose label has the greatest logit; of equal ones the lowest class wins."""
        return int((answers.argmax(1) == self.labels).sum())

    def spiking(self, graph: SpikingGraph, integers: np.ndarray) -> dict[str, Any]:
        """Run a graph over all images and compare its answers with the integer network's."""
        engine = Keeping(open_engine(graph, "cpu", self.threads))
        result = evaluate(graph, self.levels, self.labels, engine=engine, topk=(1,))
        finals = np.concatenate(engine.finals)
        name = graph.outputs[0]
        same = logits(graph, {name: finals}).argmax(1) == logits(self.graph, {name: integers}).argmax(1)
        return {
            "correct": result.topk[0].correct,
            "answers_differing": int((~same).sum()),
            "images_with_another_output": int((finals != integers).reshape(len(finals), -1).any(1).sum()),
            **steps_of(result, graph),
            **work_of(result),
        }


def steps_of(result: Evaluation, graph: SpikingGraph) -> dict[str, Any]:
    """Steps until nothing changes, absolute and beyond the last step of the published window."""
    end = graph.schedule.window + graph.depth
    settled, steps = result.settled, np.arange(len(result.settled))
    beyond = np.maximum(steps - end, 0)
    return {
        "window": graph.schedule.window,
        "depth": graph.depth,
        "steps": {
            "mean": result.mean_settle_steps, "p99": result.settle_percentile(99), "max": result.max_settle_steps,
        },
        "steps_beyond_window": {
            "mean": float(settled @ beyond) / result.images,
            "p99": max(result.settle_percentile(99) - end, 0),
            "max": max(result.max_settle_steps - end, 0),
        },
        "images_within_window": int(settled[: end + 1].sum()),
    }  # fmt: skip


def work_of(result: Evaluation) -> dict[str, Any]:
    """Spikes, operations and energy of one image, means over all."""
    counts = counts_of(result)
    negative = sum(activity.negative for activity in result.activity.values())
    return {
        "spikes": result.spikes / result.images,
        "negative_spikes": negative / result.images,
        "synaptic_operations": result.synaptic_operations / result.images,
        "energy_nj": {name: nanojoules(estimate(counts, load_hardware(name)).dynamic) for name in HARDWARE},
    }


def nanojoules(band: Band) -> list[float]:
    """[low, value, high]"""
    return [band.low / 1000, band.value / 1000, band.high / 1000]


def measure(network: Network, tuned: Path | None, data_root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every measurement of a network: its name and values."""
    recipe = dict(network.checkpoint.metadata["recipe"])
    if recipe.get("weights"):
        yield "float", of_float(network, recipe, data_root)
    quantised = quantised_logits(network.checkpoint.model, network.images)
    yield "quantised", {"correct": network.right(quantised), **trained(network, recipe)}
    integers = network.integers()
    real = logits(network.graph, {network.graph.outputs[0]: integers})
    dense = ann_counts(network.graph, network.graph.input.encode(network.levels[:1]))
    yield (
        "integer",
        {
            "correct": network.right(real),
            "answers_differing_from_quantised": int((real.argmax(1) != quantised.argmax(1)).sum()),
            "macs": dense.total("macs"),
            "energy_nj": {"horowitz45-int8": nanojoules(estimate_ann(dense, load_hardware("horowitz45-int8")).dense)},
        },
    )
    yield "settled", network.spiking(network.graph, integers)
    yield "graded", network.spiking(with_neurons(network.graph, "graded"), integers)
    yield "window-unsigned", network.spiking(published_graph(network.checkpoint, "unsigned"), integers)
    yield "window-signed", network.spiking(published_graph(network.checkpoint, "unary"), integers)
    if tuned is not None:
        yield "window-tuned", of_tuned(network, tuned, integers)


def of_float(network: Network, recipe: dict[str, Any], data_root: Path) -> dict[str, Any]:
    """The float network that training started from, on the same images."""
    images = network.images
    model = build(recipe["model"], channels=images.shape[0], classes=images.classes, **recipe["model_options"])
    load_weights(model, data_root / recipe["weights"])
    chosen = recipe.get("normalisation") or {"mean": images.mean, "std": images.std}
    mean, std = (torch.tensor(chosen[key]).view(1, -1, 1, 1) for key in ("mean", "std"))

    class Raw(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return model((x - mean) / std)  # type: ignore[no-any-return]

    model.eval()
    return {"correct": network.right(quantised_logits(Raw(), images)), "weights": recipe["weights"]}


def trained(network: Network, recipe: dict[str, Any]) -> dict[str, Any]:
    """What made the quantised model. Only the stages up to its own bits are named: a recipe leaves a network after
    each."""
    window = network.graph.schedule.window
    stages = recipe["stages"]
    last = max((i for i, stage in enumerate(stages) if stage.get("bits") == window.bit_length()), default=-1)
    keys = ("epochs", "bits", "weight_bits", "learning_rate")
    return {
        "recipe": recipe["name"],
        "model": recipe["model"],
        "teacher": (recipe.get("teacher") or {}).get("model"),
        "stages": [{key: stage.get(key) for key in keys} for stage in stages[: last + 1]],
    }


def of_tuned(network: Network, file: Path, integers: np.ndarray) -> dict[str, Any]:
    """The fine-tuned network after its window, against the integers of the network before fine-tuning."""
    checkpoint: Checkpoint = load(file)
    if "finetune" not in checkpoint.metadata:
        raise InputError(f"{file}: has not been fine-tuned. Use `fastsnn-deploy finetune` to make it")
    made = checkpoint.metadata["finetune"]
    graph = published_graph(checkpoint, made["settings"]["code"])
    quantised = quantised_logits(checkpoint.model, network.images)
    values = network.spiking(graph, integers)
    # its logits have other scales and integers: only answers can be compared
    del values["images_with_another_output"]
    return {
        **values,
        "quantised_correct": network.right(quantised),
        "settings": made["settings"],
        "held_out_before": made["held_out_correct_before"],
        "held_out_after": made["held_out_correct_after"],
        "layers": len(made["layers"]),
        "layers_kept": sum(layer["kept"] for layer in made["layers"]),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }


def named_files(pairs: Sequence[str]) -> dict[str, Path]:
    """NAME=FILE pairs. Raises InputError for anything else and for names that are given twice."""
    found: dict[str, Path] = {}
    for pair in pairs:
        name, _, file = pair.partition("=")
        if not name or not file or name in found:
            raise InputError(f"'{pair}': give each network once, as NAME=FILE")
        found[name] = Path(file)
    return found


def run(options: argparse.Namespace, log: Callable[[str], None]) -> None:
    """Measure all networks; store each record as soon as it is made."""
    checkpoints, tuned = named_files(options.checkpoint), named_files(options.tuned)
    if unknown := sorted(tuned.keys() - checkpoints.keys()):
        raise InputError(f"--tuned {', '.join(unknown)}: name the network before tuning with --checkpoint too")
    for name, file in checkpoints.items():
        data = str(load(file).metadata.get("data"))
        images = load_images(data, "test", options.data_root)
        if options.images is not None:
            images = dataclasses.replace(
                images, levels=images.levels[: options.images], labels=images.labels[: options.images]
            )
        network = Network(name, file, images, options.threads)
        command = f"python scripts/results.py --checkpoint {name}=MODEL.pt"
        command += f" --tuned {name}=TUNED.pt" if name in tuned else ""
        command += " --data-root DATA" + (f" --images {options.images}" if options.images else "")
        start = time.perf_counter()
        for measurement, values in measure(network, tuned.get(name), options.data_root):
            seconds = time.perf_counter() - start
            record = {
                "network": name, "measurement": measurement, **stamp(), "command": command, "data": data,
                "images": len(images.labels), "checkpoint_sha256": network.sha256, "seconds": round(seconds, 1),
                "values": values,
            }  # fmt: skip
            store(options.records, [record])
            log(f"{name} {measurement}: {values['correct']} of {record['images']} right, {seconds:.0f} s")
            start = time.perf_counter()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for wrong input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--tuned", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--images", type=int, help="only the first of the test images")
    parser.add_argument("--threads", type=int, help="cores of the simulator, default all")
    parser.add_argument("--records", type=Path, default=RECORDS)
    parser.add_argument("--page", action="store_true", help="write docs/results.md from the records")
    options = parser.parse_args(arguments)
    try:
        run(options, lambda line: print(line, flush=True))
        if options.page:
            write_file(PAGE, page(read_records(options.records)))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
