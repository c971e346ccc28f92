"""Measure every target on trained networks, for the table of docs/targets.md.

    uv run python scripts/measure_targets.py MODEL.pt [MODEL.pt ...] [--data-root FOLDER] [--samples N]

Prints one table a network: a row for each target, all numbers but neurons and synapses for one image.
"""

from __future__ import annotations

import argparse
import datetime
import platform
from importlib.metadata import version

import numpy as np

from fastsnn_deploy import quantize
from fastsnn_deploy.analysis.counting import count
from fastsnn_deploy.analysis.stock_counts import count_stock
from fastsnn_deploy.convert.convert import convert
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values, logits
from fastsnn_deploy.lava_dl import run as run_stock
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.simulators.reference import simulate
from fastsnn_deploy.targets.sigma_delta.convert import convert as to_sigma_delta
from fastsnn_deploy.targets.thermometer.network import to_thermometer
from fastsnn_deploy.training.data import load_images

SIGMA_DELTA_BATCH = 5
"""Images that are run at a time: every layer of every step is recorded."""

HEADINGS = ("target", "same integers?", "stock?", "neurons", "synapses", "steps", "spikes", "synaptic operations")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--samples", type=int, default=20)
    options = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy"))
    print(f"{datetime.date.today().isoformat()}, Python {platform.python_version()}, {packages}\n")
    for file in options.models:
        checkpoint = quantize.load(file)
        graph = convert(checkpoint)
        test = load_images(str(checkpoint.metadata["data"]), "test", options.data_root)
        emitted = graph.input.encode(test.levels[: options.samples].numpy())
        print(f"{graph.metadata.get('recipe')}, {len(emitted)} images\n")
        print("| " + " | ".join(HEADINGS) + " |\n" + "|---" * len(HEADINGS) + "|")
        for row in (
            extension(graph, emitted, "unary"),
            extension(graph, emitted, "graded"),
            sigma_delta(graph, emitted),
            population(graph, emitted),
        ):
            print("| " + " | ".join(row) + " |")
        print()


def extension(graph: SpikingGraph, emitted: np.ndarray, neurons: str) -> tuple[str, ...]:
    """Row of `signed-if` or `graded`."""
    run = simulate(with_neurons(graph, neurons), emitted)
    counts = count(with_neurons(graph, neurons), run)
    steps = f"{run.settle_steps.mean():.1f} (at most {run.settle_steps.max()})"
    figures = (counts.total("neurons"), counts.total("synapses"))
    sums = (counts.total(key) / len(emitted) for key in ("spikes", "synaptic_operations"))
    name = "signed-if" if neurons == "unary" else neurons
    exact = all(np.array_equal(run.final(p.name), integer_values(graph, emitted)[p.name]) for p in graph.populations)
    return name, "yes" if exact else "NO", "no", *(f"{n:,}" for n in figures), steps, *(f"{n:,.0f}" for n in sums)


def sigma_delta(graph: SpikingGraph, emitted: np.ndarray) -> tuple[str, ...]:
    """Row of `sigma-delta`, its units chosen on the same images; the reason where the graph has no such form."""
    try:
        network = to_sigma_delta(graph, emitted)
    except InputError as error:
        reason = str(error.problems[0] if error.problems else error)
        return "sigma-delta", f"refused: {reason}", "yes", *("",) * (len(HEADINGS) - 3)
    counted, predictions = [], []
    for start in range(0, len(emitted), SIGMA_DELTA_BATCH):
        frames = network.frames(emitted[start : start + SIGMA_DELTA_BATCH])
        run = run_stock(network.network, frames, network.steps)
        counted.append(count_stock(network.network, frames, run))
        unit, sigma = network.stages[-1].units[0], run.potentials[-1]
        predictions.append(logits(graph, {unit.node.name: unit.read(network.readout(sigma[-1]))}).argmax(1))
    before = logits(graph, integer_values(graph, emitted)).argmax(1)
    same = int((np.concatenate(predictions) == before).sum())
    sums = (sum(getattr(each, key) for each in counted) / len(emitted) for key in ("spikes", "synaptic_operations"))
    sizes = f"{counted[0].neurons:,}", f"{counted[0].synapses:,}"
    note = f"no ({same} of {before.size} predictions as before)"
    return "sigma-delta", note, "yes", *sizes, f"{network.steps}", *(f"{n:,.0f}" for n in sums)


def population(graph: SpikingGraph, emitted: np.ndarray) -> tuple[str, ...]:
    """Row of `population`: frames stream, one a step."""
    result = to_thermometer(graph)
    run = run_stock(result.network, emitted[:, None], len(emitted) + result.depth)
    counts = count_stock(result.network, emitted[:, None], run)
    values, before = integer_values(result.graph, emitted), integer_values(graph, emitted)
    exact = all(
        np.array_equal(found, values[name][i : i + 1])
        for i in range(len(emitted))
        for name, found in result.read(run, i).items()
    )
    same = (logits(graph, before).argmax(1) == logits(result.graph, values).argmax(1)).sum()
    note = f"{'yes' if exact else 'NO'}, after rounding ({same} of {len(emitted)} predictions as before)"
    steps = f"1 a frame, latency {result.depth}"
    sums = (total / len(emitted) for total in (counts.spikes, counts.synaptic_operations))
    sizes = f"{counts.neurons:,}", f"{counts.synapses:,}"
    return "stock-lif", note, "yes", *sizes, steps, *(f"{n:,.0f}" for n in sums)


if __name__ == "__main__":
    main()
