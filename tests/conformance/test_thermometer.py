"""Random graphs in thermometer code on unmodified lava-dl and Lava: every count and logit is the integer network's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastsnn_deploy.graph import MaxPool2d, Population, Readout
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.lava_dl import StockConv
from fastsnn_deploy.targets.thermometer.network import ThermometerNetwork, to_thermometer
from tests.conformance.stock import EXTRA_CASES, Case, run_stock
from tests.random_graphs import random_graph, random_images

pytestmark = pytest.mark.lava

SEEDS = range(6 + EXTRA_CASES)
FRAMES = 2
SECONDS_PER_CASE = 25
WIDEST = 127
"""Channels of a convolution: beyond, Lava's own model stops under NumPy 2 (conv/utils.py:279)."""


@pytest.mark.timeout(60 + 2 * SECONDS_PER_CASE * len(SEEDS))
def test_thermometer_code_of_random_graphs_on_stock_lava(tmp_path: Path) -> None:
    """Two images enter in successive steps; each is answered by every layer as if it were alone."""
    networks, cases, images = [], [], []
    for seed in SEEDS:
        graph = random_graph(seed, blocks=3, max_size=6, max_channels=3)
        network = to_thermometer(graph)
        if any(isinstance(layer, StockConv) and layer.shape[0] > WIDEST for layer in network.network.layers):
            continue
        emitted = network.graph.input.encode(random_images(graph, seed, FRAMES))
        padding = np.zeros((network.depth, *emitted.shape[1:]), dtype=np.int64)
        networks.append(network)
        images.append(emitted)
        cases.append(Case(network.network, np.concatenate([emitted, padding])))
    results = run_stock(cases, tmp_path, timeout=60 + SECONDS_PER_CASE * len(cases))
    for network, emitted, series in zip(networks, images, results, strict=True):
        values = integer_values(network.graph, emitted)
        for frame in range(FRAMES):
            found = network.counts(layers_at(network, series, frame))
            kinds = (Population, MaxPool2d, Readout)
            assert set(network.graph.outputs) <= set(found)
            assert all(isinstance(network.graph[name], kinds) for name in found)
            for name, value in found.items():
                assert np.array_equal(value[0], values[name][frame]), name


def layers_at(network: ThermometerNetwork, series: dict[str, np.ndarray], frame: int) -> dict[int, np.ndarray]:
    """What each layer with weights (from 1) says about a frame: its messages, or a readout's potential."""
    readouts = {placement.layer for placement in network.placements if not placement.levels}
    layers = {}
    for number in range(1, network.depth + 1):
        values = series[f"v{number - 1}"] >> 6 if number in readouts else series[f"s{number - 1}"]
        layers[number] = values[frame + number][None].astype(np.int64)
    return layers
