"""The whole way on embedded data: train, convert, export, verify on Lava, profile."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastsnn_deploy.analysis.profile import profile
from fastsnn_deploy.analysis.result import Profile
from fastsnn_deploy.analysis.verify import Backend, Verification, verify
from fastsnn_deploy.backends.lava.compatibility import require_lava
from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.errors import BackendError
from fastsnn_deploy.formats import netx
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values, logits
from fastsnn_deploy.quantisation import Checkpoint
from fastsnn_deploy.training.data import load_images
from fastsnn_deploy.training.recipe import load_recipe
from fastsnn_deploy.training.trainer import Trainer

RECIPE = "digits-2bit"
STAGES = 5

Step = Callable[[int, str], Callable[[int, int], None]]
"""step(number, text) announces a stage and returns update(done, total) for its progress."""


@dataclass(frozen=True)
class Demo:
    """What the demo made and measured. accuracy: of the integer network on all test images; seconds: all stages."""

    checkpoint: Checkpoint
    graph: SpikingGraph
    model_file: Path
    net_file: Path
    accuracy: float
    backend: Backend
    verification: Verification
    profile: Profile
    seconds: float


def run_demo(folder: Path, samples: int, hardware: str, step: Step) -> Demo:
    """Train on scikit-learn's digits, export to `folder`, verify on `samples` images, profile on `hardware`.

    Lava is used if it is installed; otherwise the reference simulator alone, and the result says so.
    """
    start = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    model_file, net_file = folder / "demo-digits.pt", folder / "demo-digits.net"
    checkpoint = Trainer(load_recipe(RECIPE), model_file, progress=step(1, "train a quantised network")).run(
        restart=True
    )
    step(2, "convert and export")
    graph = convert(checkpoint)
    netx.write(graph, net_file)
    test = load_images("digits", "test")
    images = test.for_input(graph.input)
    answers = logits(graph, integer_values(graph, graph.input.encode(images))).argmax(1)
    accuracy = float((answers == test.labels.numpy()).mean())
    backend = _best_backend()
    place = "Lava" if backend == "lava" else "the reference simulator (Lava is not installed)"
    chosen = images[:samples]
    update = step(3, f"verify on {place}")
    exported = netx.read(net_file)
    verification = verify(exported, chosen, truth=graph, backend=backend, net=net_file, progress=update)
    measured = profile(exported, exported.input.encode(chosen), hardware, progress=step(4, f"profile on {hardware}"))
    step(5, "done")
    seconds = time.monotonic() - start
    return Demo(checkpoint, graph, model_file, net_file, accuracy, backend, verification, measured, seconds)


def _best_backend() -> Backend:
    try:
        require_lava()
    except BackendError:
        return "reference"
    return "lava"


def right(demo: Demo) -> int:
    """Correct predictions among the verified images."""
    labels = load_images("digits", "test").labels[: demo.verification.images].numpy()
    return int(np.sum(demo.verification.predictions == labels))
