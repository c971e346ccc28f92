"""Switch the parts of QFFS on and off, one at a time, on a small network; records for docs/results.md.

    python scripts/qffs_ablation.py --data-root FOLDER [--work FOLDER] [--epochs FLOAT,QUANTISED]

Trains four narrow VGG-11 networks with 2-bit activations on CIFAR-10: max or average pooling, and a spiking output of
2 bits, of 3 bits, or none. Each runs with and without negative spikes. Source of the parts: QFFS, Front. Neurosci.
16:918793, 2022, Algorithms 1 and 2 and Table 4. Schedules and network are ours: only differences mean something.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from results import Keeping
from results_page import RECORDS, stamp, store

from fastsnn_deploy.analysis.evaluate import evaluate
from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import Schedule, SpikingGraph
from fastsnn_deploy.graph.integer_network import logits
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.quantisation import load
from fastsnn_deploy.simulators import open_engine
from fastsnn_deploy.simulators.integer import integer_outputs
from fastsnn_deploy.training.answers import quantised_logits
from fastsnn_deploy.training.data import Images, load_images
from fastsnn_deploy.training.recipe import Augment, Recipe, Stage
from fastsnn_deploy.training.trainer import Trainer

NETWORK = "qffs-ablation"

VARIANTS: dict[str, dict[str, Any]] = {
    "average-2": {"model": "vgg11-average", "output_bits": 2},
    "max-2": {"model": "vgg11", "output_bits": 2},
    "max-3": {"model": "vgg11", "output_bits": 3},
    "max-float": {"model": "vgg11", "output_bits": None},
}
"""Average pooling and a 2-bit output, then one change a row, as in the paper's table."""


def recipe(name: str, epochs: tuple[int, int], width: int, data: str) -> Recipe:
    """The same for all variants but for the part in question."""
    chosen = VARIANTS[name]
    return Recipe(
        name=f"{NETWORK}-{name}",
        data=data,
        model=chosen["model"],
        model_options={"width": width},
        output_bits=chosen["output_bits"],
        stages=(
            Stage(epochs=epochs[0], learning_rate=0.1),
            Stage(epochs=epochs[1], learning_rate=0.02, bits=2, weight_bits=8),
        ),
        batch_size=128,
        weight_decay=5e-4,
        augment=Augment(shift=4, flip=True),
        precision="bfloat16",
        test_every=epochs[1],
    )


def spiking(graph: SpikingGraph, images: Images, integers: np.ndarray, threads: int | None) -> dict[str, Any]:
    """Until settled, and stopped as many steps after the first wave as the paper's T: window, window + 1 and so on.

    Input and bias come in equal parts over the window, as in the paper. All at once, unsigned neurons fire far too
    often.
    """
    graph = dataclasses.replace(graph, schedule=Schedule(graph.schedule.window, input="spread", bias="spread"))
    engine = Keeping(open_engine(graph, "cpu", threads))
    result = evaluate(graph, images.for_input(graph.input), images.labels.numpy(), engine=engine, topk=(1,))
    finals = np.concatenate(engine.finals)
    name = graph.outputs[0]
    same = logits(graph, {name: finals}).argmax(1) == logits(graph, {name: integers}).argmax(1)
    start = graph.depth  # the paper has no delay between layers: its T is counted from here
    curve = result.topk[0].extended(max(result.length, start + 16))
    return {
        "correct": result.topk[0].correct,
        "answers_differing": int((~same).sum()),
        "correct_after": {str(t): int(curve[start + t - 1]) for t in (3, 4, 5, 8, 16)},
        "steps_mean": result.mean_settle_steps,
        "depth": graph.depth,
        "spikes": result.spikes / result.images,
    }


def measure(name: str, options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Train one variant and run it."""
    made = recipe(name, options.epochs, options.width, options.data)
    file = work / f"{name}.pt"
    checkpoint = load(file) if file.exists() else None
    if checkpoint is None or checkpoint.metadata.get("recipe") != made.model_dump(mode="json"):
        checkpoint = Trainer(made, file, data_root=options.data_root, log=lambda line: print(line, flush=True)).run()
    images = load_images(made.data, "test", options.data_root)
    graph = convert(checkpoint)
    integers = integer_outputs(graph, images.for_input(graph.input))
    answers = logits(graph, {graph.outputs[0]: integers}).argmax(1)
    labels = images.labels.numpy()
    values = {
        "correct": int((answers == labels).sum()),
        "quantised_correct": int((quantised_logits(checkpoint.model, images).argmax(1) == labels).sum()),
        "model": made.model,
        "width": options.width,
        "epochs": list(options.epochs),
        "output_bits": made.output_bits,
        "signed": spiking(graph, images, integers, options.threads),
        "unsigned": spiking(with_neurons(graph, "unsigned"), images, integers, options.threads),
    }
    return {
        "data": made.data,
        "images": len(labels),
        "checkpoint_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "values": values,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for wrong input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--epochs", type=lambda text: tuple(map(int, text.split(","))), default=(4, 2))
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", choices=sorted(VARIANTS), action="append")
    parser.add_argument("--work", type=Path, help="keep the trained networks here, and use those that are")
    parser.add_argument("--records", type=Path, default=RECORDS)
    options = parser.parse_args(arguments)
    command = f"python scripts/qffs_ablation.py --data-root DATA --epochs {options.epochs[0]},{options.epochs[1]}"
    command += f" --width {options.width}"
    try:
        with tempfile.TemporaryDirectory() as temporary:
            work = options.work or Path(temporary)
            work.mkdir(parents=True, exist_ok=True)
            for name in options.only or VARIANTS:
                start = time.perf_counter()
                found = measure(name, options, work)
                seconds = round(time.perf_counter() - start, 1)
                made = {"network": NETWORK, "measurement": name, **stamp(), "command": command, "seconds": seconds}
                store(options.records, [{**made, **found}])
                print(f"{name}: {found['values']['correct']} right, {seconds:.0f} s", flush=True)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
