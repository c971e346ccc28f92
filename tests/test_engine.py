"""The batched engines equal the reference simulator in every integer, whatever the graph, schedule and batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastsnn_deploy.engine import BatchRun, Engine, open_engine
from fastsnn_deploy.engine.base import recordable
from fastsnn_deploy.engine.cpu import CpuEngine
from fastsnn_deploy.engine.reference import ReferenceEngine
from fastsnn_deploy.graph import SpikingGraph
from tests.random_graphs import random_graph, random_images

SEEDS = st.integers(0, 2**20)
CODES = st.sampled_from(["unary", "graded"])
DENSITIES = st.sampled_from([-1.0, 0.02, 0.3, 2.0])
"""Every step through products, a mixture, every message followed."""


def recorded_nodes(graph: SpikingGraph) -> list[str]:
    return [node.name for node in graph.nodes if recordable(node)]


def assert_equal_runs(run: BatchRun, expected: BatchRun) -> None:
    assert run.steps == expected.steps
    assert np.array_equal(run.settle_steps, expected.settle_steps)
    assert run.outputs.keys() == expected.outputs.keys()
    for name, series in expected.outputs.items():
        assert np.array_equal(run.outputs[name], series), name
    assert run.activity.keys() == expected.activity.keys()
    for name, activity in expected.activity.items():
        for key, value in vars(activity).items():
            assert np.array_equal(getattr(run.activity[name], key), value), (name, key)
    assert run.recorded.keys() == expected.recorded.keys()
    for name, recording in expected.recorded.items():
        for key, value in vars(recording).items():
            found = getattr(run.recorded[name], key)
            assert (found is None) == (value is None), (name, key)
            if value is not None:
                assert found.dtype == value.dtype == np.int32
                assert np.array_equal(found, value), (name, key)


def case(seed: int, images: int = 3, **options: Any) -> tuple[SpikingGraph, np.ndarray]:
    graph = random_graph(seed, **options)
    return graph, graph.input.encode(random_images(graph, seed, images))


@settings(max_examples=150, deadline=None)
@given(SEEDS, CODES, st.booleans(), DENSITIES, st.booleans(), st.sampled_from([None, 0, 1, 3, 7, 30]))
def test_cpu_equals_the_reference_in_every_integer(
    seed: int, code: str, balance: bool, density: float, private: bool, steps: int | None
):
    graph, emitted = case(seed, code=code, balance=balance)
    names = recorded_nodes(graph)
    run = CpuEngine(graph, 1, private=private, density=density).run(emitted, steps, names)
    assert_equal_runs(run, ReferenceEngine(graph).run(emitted, steps, names))
