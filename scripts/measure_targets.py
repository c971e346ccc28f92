"""Measure every target on trained networks, for the table of docs/targets.md.

    uv run python scripts/measure_targets.py MODEL.pt [MODEL.pt ...] [--data-root FOLDER] [--samples N]

Prints one table a network: a row for each target, all numbers but neurons and synapses for one image.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from dataclasses import replace
from importlib.metadata import version

import numpy as np

from fastsnn_deploy import quantisation
from fastsnn_deploy.analysis.count import count, counts_of
from fastsnn_deploy.analysis.evaluate import evaluate as evaluate_network
from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values, logits
from fastsnn_deploy.lava_dl import StockNetwork, present
from fastsnn_deploy.lava_dl import run as run_stock
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.simulators.reference import simulate
from fastsnn_deploy.targets.sigma_delta.convert import convert as to_sigma_delta
from fastsnn_deploy.targets.stock_notes import described_input
from fastsnn_deploy.targets.thermometer.network import to_thermometer
from fastsnn_deploy.training.data import load_images

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
        checkpoint = quantisation.load(file)
        graph = convert(checkpoint)
        test = load_images(str(checkpoint.metadata["data"]), "test", options.data_root)
        emitted = graph.input.encode(test.for_input(graph.input, slice(options.samples)))
        print(f"{graph.metadata.get('recipe')}, {len(emitted)} images\n")
        print("| " + " | ".join(HEADINGS) + " |\n" + "|---" * len(HEADINGS) + "|")
        for row in (
            extension(graph, emitted, "unary"),
            extension(graph, emitted, "graded"),
            sigma_delta(graph, emitted),
            stock_lif(graph, emitted),
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
        network = to_sigma_delta(graph, emitted).network
    except InputError as error:
        reason = str(error.problems[0] if error.problems else error)
        return "sigma-delta", f"refused: {reason}", "yes", *("",) * (len(HEADINGS) - 3)
    same, row = stock(network, graph, emitted)
    return "sigma-delta", f"no ({same} of {len(emitted)} predictions as before)", "yes", *row


def stock_lif(graph: SpikingGraph, emitted: np.ndarray) -> tuple[str, ...]:
    """Row of `stock-lif`: frames stream, one a step."""
    result = to_thermometer(graph)
    shown = present(result.network, emitted, stream=True)
    run = run_stock(result.network, shown.frames, shown.steps)
    values = integer_values(result.graph, emitted)
    exact = all(
        np.array_equal(found, values[name][i : i + 1])
        for i in range(len(emitted))
        for name, found in result.read(run, i).items()
    )
    same, row = stock(result.network, graph, emitted)
    note = f"{'yes' if exact else 'NO'}, after rounding ({same} of {len(emitted)} predictions as before)"
    return "stock-lif", note, "yes", *row


def stock(network: StockNetwork, graph: SpikingGraph, emitted: np.ndarray) -> tuple[int, tuple[str, ...]]:
    """Predictions that are the integer network's, and the figures of a row. emitted: as for the graph."""
    offset = graph.input.offset.reshape(-1, *(1,) * (emitted.ndim - 2))
    labels = logits(graph, integer_values(graph, emitted)).argmax(1)
    described = replace(network, metadata={"input": json.dumps(described_input(graph.input)), **network.metadata})
    found = evaluate_network(described, np.asarray(emitted) + offset, labels, topk=(1,))
    counts = counts_of(found)
    steps = f"1 a frame, latency {found.latency}" if found.latency else f"{found.max_settle_steps}"
    sums = (counts.total(key) / len(emitted) for key in ("spikes", "synaptic_operations"))
    sizes = (f"{counts.total(key):,}" for key in ("neurons", "synapses"))
    return found.topk[0].correct, (*sizes, steps, *(f"{n:,.0f}" for n in sums))


if __name__ == "__main__":
    main()
