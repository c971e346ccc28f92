"""The shipped ResNet-20 on the images of CIFAR-10, in every mode, beside its float network.

    python benchmarks/trained.py --data-root data --weights resnet20-12fca82f.th --out benchmarks/results/trained.json

Images a second, with all that a run counts; every contender once a round, in turns. `verify` is timed once.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastsnn_deploy as fd
from fastsnn_deploy.analysis.verify import verify
from fastsnn_deploy.simulators import open_engine
from fastsnn_deploy.simulators.integer import IntegerNetwork

sys.path.insert(0, str(Path(__file__).parent))
from machine import describe  # type: ignore[import-not-found]
from rounds import in_turns, stopwatch  # type: ignore[import-not-found]

EXPORTS = Path(__file__).parents[1] / "netx_exports"


def settled(file: str, images: Any) -> Callable[[], None]:
    """Simulate until settled, a batch at a time."""
    network = fd.read(EXPORTS / file)
    engine, emitted = open_engine(network, "cpu"), np.asarray(network.encode(images(network)))

    def run() -> None:
        for start in range(0, len(emitted), engine.batch_size):
            engine.run(emitted[start : start + engine.batch_size])

    return run


def integer(file: str, images: Any) -> Callable[[], None]:
    """The integer network."""
    network = fd.read(EXPORTS / file)
    opened, emitted = IntegerNetwork(network), network.encode(images(network))

    def run() -> None:
        for start in range(0, len(emitted), opened.batch_size):
            opened.answers(emitted[start : start + opened.batch_size])

    return run


def floating(weights: Path, count: int) -> Callable[[], None]:
    """The float network in PyTorch."""
    model = fd.load_model(weights, "resnet20").eval().to(memory_format=torch.channels_last)
    images = torch.rand(128, 3, 32, 32).to(memory_format=torch.channels_last)

    def run() -> None:
        with torch.inference_mode():
            for start in range(0, count, 128):
                model(images[: count - start])

    return run


MODES = (("settled", settled, "unary"), ("graded", settled, "graded"), ("integer", integer, "unary"))


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    test = fd.load_data("cifar10", "test", options.data_root)

    def images(network: Any) -> Any:
        return test.for_input(network.input)[: options.images]

    runs = {
        f"{bits} bits, {mode}": how(f"resnet20-{bits}bit-{code}.net", images)
        for bits in (2, 3)
        for mode, how, code in (
            ("settled", settled, "unary"),
            ("graded", settled, "graded"),
            ("integer", integer, "unary"),
        )
    }
    runs["float32, PyTorch"] = floating(options.weights, options.images)
    for run in runs.values():
        run()  # what is compiled is compiled now
    samples = in_turns({name: lambda run=run: stopwatch(run) for name, run in runs.items()}, options.repeat)
    network = fd.read(EXPORTS / "resnet20-2bit-unary.net")
    proof = stopwatch(lambda: verify(network, test.for_input(network.input)[:1000], backend="cpu"))
    record: dict[str, Any] = {"machine": describe(), "images": options.images, "verify_1000_images_s": round(proof, 1)}
    record["images_per_second"] = {
        name: {
            key: round(options.images / value)
            for key, value in (("median", each.median), ("least", max(each.seconds)), ("most", min(each.seconds)))
        }
        for name, each in samples.items()
    }
    print(json.dumps(record, indent=1))
    if options.out is not None:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
