"""A 2-bit ResNet-20 of CIFAR shape in thermometer code, loaded by unmodified lava-dl and run on Lava.

    uv run python scripts/check_resnet20_thermometer.py [--checkpoint MODEL.pt --data-root FOLDER]

Without a checkpoint weights and images are random. The images enter one in each step; the potentials of the last
layer must be the logits of the integer network. Lava's processes are its own; its convolution runs through our process
model (the same integers, `lava.run_stock(models="fast")`), without which a run takes very long. Takes about a minute.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from fastsnn_deploy.backends import lava
from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.conversion.lower import lower
from fastsnn_deploy.conversion.trace import trace
from fastsnn_deploy.formats import netx
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.quantisation import calibrate, load, prepare
from fastsnn_deploy.targets.thermometer.network import to_thermometer
from fastsnn_deploy.training.data import load_images
from fastsnn_deploy.training.models import build


def random(options: argparse.Namespace) -> tuple[SpikingGraph, np.ndarray]:
    """A network with random 2-bit weights, and random images, int64 [N, 3, 32, 32]."""
    torch.manual_seed(options.seed)
    quantised = prepare(build("resnet20"), bits=2, weight_bits=2, mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
    quantised.eval()
    calibrate(quantised, torch.rand(64, 3, 32, 32))
    levels = np.random.default_rng(options.seed).integers(0, 256, (options.images, 3, 32, 32))
    return lower(trace(quantised, (3, 32, 32))), levels


def trained(options: argparse.Namespace) -> tuple[SpikingGraph, np.ndarray]:
    """The network of a checkpoint, and the first of its test images."""
    checkpoint = load(options.checkpoint)
    images = load_images(str(checkpoint.metadata["data"]), "test", options.data_root)
    return convert(checkpoint), images.levels[: options.images].numpy()


def main() -> None:
    """Exit code 0 if all logits are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="a trained network; its test images are used")
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    source, levels = trained(options) if options.checkpoint else random(options)
    population = to_thermometer(source, replicas=8 if options.checkpoint else 1)
    graph = population.graph
    emitted = graph.input.encode(levels)
    print(f"{population.neurons:,} LIF neurons, {population.weights[0]:,} weights, {population.depth} steps")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "resnet20.net"
        netx.write_stock(population.network, file)
        run = lava.run_stock(file, emitted[:, None], options.images + population.depth, timeout=3600)
    print(f"Lava: {time.monotonic() - start:.0f} s")
    output, potentials = graph.outputs[0], run.potentials[-1]
    assert potentials is not None
    expected, wrong = integer_values(graph, emitted)[output], 0
    for image in range(options.images):
        values = (potentials[image + population.depth] >> 6).astype(np.int64)
        wrong += int((population.counts({population.depth: values})[output][0] != expected[image]).sum())
    print(f"{expected.size} logits of {options.images} images compared, {wrong} differ")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
