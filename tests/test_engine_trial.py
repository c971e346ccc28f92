"""The trial of a plan runs the loops of a run, and a loop that gives wrong integers is not used."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.simulators.batched import ReferenceEngine
from fastsnn_deploy.simulators.cpu import CpuEngine, assembly, convolution, loops, plan, winograd, winograd_loops
from fastsnn_deploy.simulators.cpu.plan import Plan
from fastsnn_deploy.simulators.cpu.workers import workers
from tests.test_engine import assert_equal_runs
from tests.test_engine_loops import SCHEDULES, wide_graph

Loop = Callable[..., int]


def deaf(make: Loop) -> Loop:
    """A loop made as if no bias arrived: neurons that read their synapse rightly and go wrong after."""
    return lambda images, steps, pair, signed, resumed, biased, extra: make(
        images, steps, pair, signed, resumed, 0, extra
    )


def graph_and_images() -> tuple[SpikingGraph, np.ndarray]:
    graph = wide_graph(6, (3, 64, 64), (6, 6), SCHEDULES[0])
    return graph, graph.input.encode(np.random.default_rng(1).integers(0, 61, (7, *graph.input.shape)))


def exact(engine: CpuEngine, emitted: np.ndarray) -> bool:
    assert_equal_runs(engine.run(emitted), ReferenceEngine(engine.graph).run(emitted))
    return True


@pytest.mark.avx512
def test_a_broken_winograd_loop_gives_way_to_one_tap_after_another(monkeypatch: pytest.MonkeyPatch):
    graph, emitted = graph_and_images()
    monkeypatch.setattr(winograd, "winograd_loop", deaf(winograd_loops.winograd_loop))
    engine = CpuEngine(graph, 1)
    assert engine.plan.rejected == {"second": ["winograd"]}
    assert engine.plan.synapses["second"].product.name == "convolution"
    assert engine.plan.unfused == set()
    assert exact(engine, emitted)


@pytest.mark.avx512
def test_a_broken_fused_loop_leaves_neurons_to_a_loop_of_their_own(monkeypatch: pytest.MonkeyPatch):
    graph, emitted = graph_and_images()
    monkeypatch.setattr(convolution, "neuron_loop", deaf(loops.neuron_loop))
    engine = CpuEngine(graph, 1)
    assert engine.plan.rejected == {"a": ["fused"]}
    assert engine.plan.synapses["first"].product.name == "convolution"
    assert engine.plan.synapses["second"].product.name == "winograd"
    assert exact(engine, emitted)


@pytest.mark.avx512
def test_a_wrong_cut_of_rows_is_noticed(monkeypatch: pytest.MonkeyPatch):
    """The last row is never computed."""
    graph, emitted = graph_and_images()

    right = convolution.launch

    def short(argument: object, loop: Loop, rows: int, *rest: object) -> None:
        right(argument, loop, max(1, rows - 1), *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(convolution, "launch", short)
    monkeypatch.setattr(winograd, "launch", short)
    engine = CpuEngine(graph, 1)
    assert engine.plan.rejected["first"][0] == "convolution"
    assert {"winograd", "convolution"} <= set(engine.plan.rejected["second"])
    assert engine.plan.unfused == {"a", "b"}
    assert exact(engine, emitted)


@pytest.mark.avx512
def test_a_broken_product_gives_way_to_the_next(monkeypatch: pytest.MonkeyPatch):
    graph, emitted = graph_and_images()
    right = convolution.Convolution.synaptic_input
    monkeypatch.setattr(convolution.Convolution, "synaptic_input", lambda self, rows: right(self, rows) * 2)
    engine = CpuEngine(graph, 1)
    assert engine.plan.rejected["last"] == ["convolution"]
    assert engine.plan.synapses["last"].product.name in ("onednn", "float32")
    assert exact(engine, emitted)


def test_what_no_way_computes_is_refused_by_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plan, "_agrees", lambda *parts: False)
    with pytest.raises(RuntimeError, match="first: no way to compute this synapse gives exact sums"):
        Plan(graph_and_images()[0])


def test_sound_loops_are_not_rejected():
    assert CpuEngine(graph_and_images()[0], 1).plan.rejected == {}


def test_the_number_of_torch_threads_is_left_as_it_was():
    graph, emitted = graph_and_images()
    engine = CpuEngine(graph, 2)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        engine.run(emitted)
        with ThreadPoolExecutor(1) as fresh:
            assert (torch.get_num_threads(), fresh.submit(torch.get_num_threads).result()) == (3, 3)
    finally:
        torch.set_num_threads(before)


def test_overlapping_runs_leave_the_number_of_torch_threads_as_it_was():
    """The first to begin ends first: the other began while there was one thread."""
    before = torch.get_num_threads()
    begun, may_end, inside = threading.Event(), threading.Event(), []

    def other() -> int:
        with workers(1) as pool:
            inside.append(pool.submit(torch.get_num_threads).result())
            begun.set()
            may_end.wait(10)
        return torch.get_num_threads()

    try:
        torch.set_num_threads(3)
        with ThreadPoolExecutor(1) as callers:
            with workers(1) as pool:
                inside.append(pool.submit(torch.get_num_threads).result())
                later = callers.submit(other)
                begun.wait(10)
            may_end.set()
            assert later.result() == 3
        with ThreadPoolExecutor(1) as fresh:
            assert (torch.get_num_threads(), fresh.submit(torch.get_num_threads).result()) == (3, 3)
        assert inside == [1, 1]
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not assembly.available(), reason="this processor has other instructions")
def test_loops_of_one_name_and_other_lines_are_other_loops():
    one = assembly.assembled("same_name", ["mov $1, %rax"])
    assert assembly.assembled("same_name", ["mov $2, %rax"]) != one
    assert assembly.assembled("same_name", ["mov $1, %rax"]) == one
