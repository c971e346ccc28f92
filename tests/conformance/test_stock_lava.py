"""Our simulator against unmodified lava-dl and Lava, every message and every state, in the interpreter under test."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.targets.sigma_delta.convert import convert
from tests.conformance.chains import chain, images, residual
from tests.conformance.networks import random_case
from tests.conformance.stock import EXTRA_CASES, Case, assert_same, run_stock

pytestmark = pytest.mark.lava

CASES = [(seed, False) for seed in range(8 + EXTRA_CASES)] + [(seed, True) for seed in range(100, 104 + EXTRA_CASES)]
"""(seed, sigma-delta) of each network."""

SECONDS_PER_CASE = 20


@pytest.mark.timeout(60 + 2 * SECONDS_PER_CASE * len(CASES))
def test_random_networks_equal_stock_lava(tmp_path: Path) -> None:
    cases = [random_case(seed, sigma_delta=sigma_delta) for seed, sigma_delta in CASES]
    cases += [converted_case(seed) for seed in range(1 + EXTRA_CASES // 4)]
    cases.append(converted_case(0, residual()))
    results = run_stock(cases, tmp_path, timeout=60 + SECONDS_PER_CASE * len(cases))
    for case, stock in zip(cases, results, strict=True):
        assert_same(case, stock)


def converted_case(seed: int, graph: SpikingGraph | None = None) -> Case:
    """The sigma-delta network of a spiking graph (default: a chain), fed as the conversion says."""
    graph = graph or chain(seed)
    emitted = images(graph, seed, 1)
    converted = convert(graph, emitted)
    return Case(converted.network, converted.frames(emitted)[:, 0])
