"""A 2-bit ResNet-20 of CIFAR shape in population code, loaded by unmodified lava-dl and run on Lava.

    uv run python scripts/check_resnet20_population.py [--images 5] [--seed 0]

Weights are random: this checks equality, not accuracy. The images enter one in each step; the potentials of the last
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

from fastsnn_deploy import lava, netx
from fastsnn_deploy.lower import lower
from fastsnn_deploy.population import to_population
from fastsnn_deploy.quantize import calibrate, prepare
from fastsnn_deploy.quantize.models import build
from fastsnn_deploy.simulate import evaluate
from fastsnn_deploy.trace import trace


def main() -> None:
    """Exit code 0 if all logits are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    twin = prepare(build("resnet20"), bits=2, weight_bits=2, mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
    twin.eval()
    calibrate(twin, torch.rand(64, 3, 32, 32))
    population = to_population(lower(trace(twin, (3, 32, 32))), replicas=1)
    graph = population.graph
    levels = np.random.default_rng(options.seed).integers(0, 256, (options.images, 3, 32, 32))
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
    expected, wrong = evaluate(graph, emitted)[output], 0
    for image in range(options.images):
        values = (potentials[image + population.depth] >> 6).astype(np.int64)
        wrong += int((population.counts({population.depth: values})[output][0] != expected[image]).sum())
    print(f"{expected.size} logits of {options.images} images compared, {wrong} differ")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
