"""The proof for the thermometer code: every count of every layer, and the last layer of stock Lava step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.compare import Comparison, Difference, compare
from fastsnn_deploy.analysis.verify import Backend, Progress, Verification
from fastsnn_deploy.backends import lava
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values, logits
from fastsnn_deploy.lava_dl import StockNetwork
from fastsnn_deploy.lava_dl import run as run_stock
from fastsnn_deploy.passes.stock_range import to_stock_range
from fastsnn_deploy.targets.thermometer.network import ThermometerNetwork, placements_of


def verify_thermometer(
    network: StockNetwork,
    truth: SpikingGraph,
    images: npt.NDArray[np.generic],
    *,
    backend: Backend = "reference",
    batch: int = 50,
    models: Literal["fast", "stock"] = "fast",
    timeout: float = 600.0,
    progress: Progress | None = None,
) -> Verification:
    """Compare a thermometer network with the integer network of `to_stock_range(truth)` on raw images.

    Every count of every population and pool and every potential of the readouts is compared on the simulator of stock
    networks; with backend "lava" also the last layer's spikes and potentials at every step of stock Lava. The images
    of a batch enter as a stream, a new one in every step. Raises GraphError if the network holds no thermometer code.
    """
    graph = to_stock_range(truth)
    population = ThermometerNetwork(network, graph, placements_of(network))
    emitted = graph.input.encode(images)
    total = Verification(0, Comparison())
    for start in range(0, len(emitted), batch):
        part = _verify_batch(population, truth, emitted[start : start + batch], backend, models, timeout)
        total = total.joined(part)
        if progress is not None:
            progress(total.images, len(emitted))
    return total


def _verify_batch(
    population: ThermometerNetwork,
    truth: SpikingGraph,
    emitted: npt.NDArray[np.int64],
    backend: Backend,
    models: Literal["fast", "stock"],
    timeout: float,
) -> Verification:
    graph, count = population.graph, len(emitted)
    steps = count + population.depth
    stream = emitted[:, None]  # [frames, 1, *shape]: one image a step
    run = run_stock(population.network, stream, steps)
    values = integer_values(graph, emitted)
    settled = Comparison()
    for frame in range(count):
        found = population.read(run, frame)
        expected = {name: values[name][frame : frame + 1] for name in found}
        settled += _compare_frame(graph, expected, found).shifted(frame)
    backends: dict[str, Comparison] = {}
    if backend == "lava":
        on_lava = lava.run_stock(population.network, stream, steps, models=models, timeout=timeout)
        backends["lava"] = _compare_last_layer(population, run, on_lava)
    predictions, unrounded = (
        logits(graph, answers).reshape(count, -1).argmax(1) for answers in (values, integer_values(truth, emitted))
    )
    latency = np.full(count, population.depth, dtype=np.int64)
    rounded = int((predictions != unrounded).sum())
    return Verification(count, settled, backends, predictions, latency, "the last layer", rounded)


def _compare_frame(graph: SpikingGraph, expected: Mapping[str, Any], found: Mapping[str, Any]) -> Comparison:
    total = Comparison()
    for name in found:
        total += compare(graph, name, "value", expected[name], found[name], timed=False)
    return total


def _compare_last_layer(population: ThermometerNetwork, ours: Any, theirs: Any) -> Comparison:
    """Spikes and potentials of the last layer, [T, 1, ...]: our simulator against stock Lava."""
    total, layer = Comparison(), population.network.layers[-1]
    for quantity in ("spikes", "potentials"):
        a, b = getattr(ours, quantity)[-1], getattr(theirs, quantity)[-1]
        if a is None or b is None:
            continue
        unequal = a != b
        first = None
        if unequal.any():
            step, image, channel, *position = (int(i) for i in np.argwhere(unequal)[0])
            index = (step, image, channel, *position)
            first = Difference(
                layer=layer.name, module="", quantity=quantity, image=image, channel=channel, position=tuple(position),
                step=step, expected=int(a[index]), found=int(b[index]),
            )  # fmt: skip
        total += Comparison(a.size, int(unequal.sum()), first)
    return total
