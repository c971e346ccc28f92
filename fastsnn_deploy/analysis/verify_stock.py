"""The proof for stock networks: every count of a thermometer code, and stock Lava's last layer step by step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.differences import Difference, Differences, compare
from fastsnn_deploy.analysis.verify import Backend, Models, Progress, Verification, require_options, verify
from fastsnn_deploy.backends import lava
from fastsnn_deploy.errors import GraphError, InputError, Problem
from fastsnn_deploy.formats import Network
from fastsnn_deploy.formats.base import format_of
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.images import sliceable
from fastsnn_deploy.graph.integer_network import integer_values, logits
from fastsnn_deploy.lava_dl import StockNetwork, StockRun, present
from fastsnn_deploy.lava_dl import run as run_stock
from fastsnn_deploy.lava_dl.thermometer import placements_of
from fastsnn_deploy.passes.stock_range import to_stock_range
from fastsnn_deploy.targets.thermometer.network import ThermometerNetwork

Int64 = npt.NDArray[np.int64]


def verify_network(
    network: Network,
    truth: SpikingGraph,
    images: Any,
    *,
    net: str | Path | None = None,
    **options: Any,
) -> Verification:
    """The proof for a network of either kind against the graph of its checkpoint.

    net: the file that it was read from, if any; with backend "lava" it is run itself where it is NetX. options: as
    `verify` and `verify_stock` take them.
    """
    if isinstance(network, StockNetwork):
        return verify_stock(network, truth, images, **options)
    file = net if net is not None and format_of(net).name == "netx" else None
    return verify(network, images, truth=truth, net=file, **options)


def verify_stock(
    network: StockNetwork,
    truth: SpikingGraph,
    images: Any,
    *,
    backend: Backend = "reference",
    batch: int = 50,
    models: Models = "fast",
    timeout: float = 600.0,
    progress: Progress | None = None,
) -> Verification:
    """Compare a stock network on raw images with what it should compute.

    A thermometer code must equal the integer network of `to_stock_range(truth)`: every count of every population and
    pool and every potential of the readouts is compared on the simulator of stock networks, where the images of a batch
    enter as a stream. With backend "lava" the last layer's spikes and potentials of stock Lava are compared with that
    simulator at every step, for every kind of stock network.

    Raises GraphError for a network without a thermometer code on the reference alone: a network that is not exact by
    construction leaves nothing to compare there.
    """
    require_options(images, backend, batch, models, timeout, progress)
    images = sliceable(images, len(truth.input.shape))
    placements = placements_of(network.metadata)
    if not placements and backend != "lava":
        raise GraphError(
            "the network holds no thermometer code, so no integer of it has to equal the quantised network's. Use "
            "--backend lava to compare it with stock Lava step by step, and evaluate for its accuracy"
        )
    code = ThermometerNetwork(network, to_stock_range(truth), placements) if placements else None
    if code:
        _require_nodes(code)
    total = Verification(0, Differences())
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        emitted = code.graph.input.encode(part) if code else network.encode(part)
        shown = present(network, emitted, stream=code is not None)
        run = run_stock(network, shown.frames, shown.steps)
        backends: dict[str, Differences] = {}
        if backend == "lava":
            on_lava = lava.run_stock(network, shown.frames, shown.steps, models=models, timeout=timeout)
            backends["lava"] = _compare_last_layer(network, run, on_lava)
        outputs = np.asarray(shown.answers(run), dtype=np.float64)
        predictions = outputs.reshape(len(part), -1).argmax(1)
        unrounded = logits(truth, integer_values(truth, part)).reshape(len(part), -1).argmax(1)
        settled = _counts(code, run, emitted) if code else Differences()
        steps = np.full(len(part), network.depth if code else shown.steps, dtype=np.int64)
        rounded = int((predictions != unrounded).sum())
        found = Verification(len(part), settled, backends, outputs, steps, "the last layer", rounded)
        total = total.joined(found)
        if progress is not None:
            progress(total.images, len(images))
    return total


def _require_nodes(code: ThermometerNetwork) -> None:
    """Raise InputError if a code holds counts of layers that the truth does not have."""
    shapes = {node.name: node.shape for node in code.graph.nodes}
    problems = [
        Problem(f"layer '{node}' {shape}", "is only in the exported file")
        for node, shape in sorted({(each.node, tuple(each.shape)) for each in code.placements})
        if shapes.get(node) != shape
    ]
    if problems:
        raise InputError("the exported file does not hold this network's layers", problems)


def _counts(code: ThermometerNetwork, run: StockRun, emitted: Int64) -> Differences:
    """Every value of every frame of a stream against the integer network."""
    values, settled = integer_values(code.graph, emitted), Differences()
    for frame in range(len(emitted)):
        found = code.read(run, frame)
        expected = {name: values[name][frame : frame + 1] for name in found}
        settled += _compare_frame(code.graph, expected, found).shifted(frame)
    return settled


def _compare_frame(graph: SpikingGraph, expected: Mapping[str, Any], found: Mapping[str, Any]) -> Differences:
    total = Differences()
    for name in found:
        total += compare(graph, name, "value", expected[name], found[name], timed=False)
    return total


def _compare_last_layer(network: StockNetwork, ours: StockRun, theirs: StockRun) -> Differences:
    """Spikes and potentials of the last layer, [T, N, ...]: our simulator against stock Lava."""
    total, name = Differences(), network.names[-1]
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
                layer=name, module="", quantity=quantity, image=image, channel=channel, position=tuple(position),
                step=step, expected=int(a[index]), found=int(b[index]),
            )  # fmt: skip
        total += Differences(a.size, int(unequal.sum()), first)
    return total
