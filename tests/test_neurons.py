"""Emission rules: bursts settle for any bound, unsigned neurons stop and may end elsewhere, targets refuse both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsnn_deploy.backends import lava
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats import netx
from fastsnn_deploy.formats.nir import export_graph
from fastsnn_deploy.graph import Input, Linear, Population, SpikingGraph, with_code
from fastsnn_deploy.graph.integer_network import evaluate
from fastsnn_deploy.graph.neurons import EMISSIONS, PAYLOADS, UNSETTLED, graded, settles, unary, unsigned
from fastsnn_deploy.simulators.reference import simulate
from tests.random_graphs import random_graph, random_images

SETTLED = sorted(set(EMISSIONS) - UNSETTLED)


def test_codes_and_which_of_them_settle() -> None:
    assert {"unary", "graded", "unsigned", *(f"burst{bound}" for bound in PAYLOADS)} == set(EMISSIONS)
    assert [code for code in EMISSIONS if not settles(code)] == ["unsigned"]
    with pytest.raises(KeyError):
        settles("morse")


@given(
    potential=st.integers(-(2**23), 2**23), count=st.integers(-4, 15), threshold=st.integers(1, 70_000),
    floor=st.integers(-4, 0), ceiling=st.integers(1, 15),
)  # fmt: skip
def test_rules_follow_their_definitions(potential: int, count: int, threshold: int, floor: int, ceiling: int) -> None:
    count = min(max(count, floor), ceiling)
    state = np.array([potential]), np.array([count]), np.array([threshold]), floor, ceiling
    due = min(max((potential + threshold * count) // threshold, floor), ceiling) - count
    assert graded(*state).tolist() == [due]
    assert unary(*state).tolist() == [np.sign(due)]
    assert unsigned(*state).tolist() == [max(np.sign(due), 0)]
    for bound in PAYLOADS:
        assert EMISSIONS[f"burst{bound}"](*state).tolist() == [min(max(due, -bound), bound)]


@pytest.mark.parametrize("code", SETTLED)
@given(seed=st.integers(0, 2**32 - 1), balance=st.booleans())
def test_every_code_that_settles_gives_the_integer_network(code: str, seed: int, balance: bool) -> None:
    graph = random_graph(seed, code=code, balance=balance)
    emitted = graph.input.encode(random_images(graph, seed))
    values, run = evaluate(graph, emitted), simulate(graph, emitted)
    for node in graph.populations:
        assert np.array_equal(run.counts[node.name][-1], values[node.name])
        if code.startswith("burst"):
            assert np.abs(run.spikes[node.name]).max(initial=0) <= int(code[5:])


@given(seed=st.integers(0, 2**32 - 1))
def test_unsigned_networks_come_to_rest_within_their_bounds(seed: int) -> None:
    graph = random_graph(seed, code="unsigned")
    run = simulate(graph, graph.input.encode(random_images(graph, seed)))
    for node in graph.populations:
        assert set(np.unique(run.spikes[node.name])) <= {0, 1}
        assert run.counts[node.name].max(initial=0) <= node.ceiling
        silent = (run.potentials[node.name][-1] < np.reshape(node.threshold, (-1,) + (1,) * (len(node.shape) - 1))) | (
            run.counts[node.name][-1] == node.ceiling
        )
        assert silent.all()


def early_then_inhibited(code: str) -> SpikingGraph:
    """One neuron whose synaptic input rises first and is taken back a step later: the settled count is 0."""
    one = np.ones(1, dtype=np.int64)

    def linear(name: str, source: str, weight: int, delay: int) -> Linear:
        whole = np.full((1, 1), weight, dtype=np.int8)
        return Linear(name=name, inputs=(source,), shape=(1,), weight=whole, exponent=one * 0, delay=delay)

    image = Input(name="image", shape=(1,), step=1.0, low=0, high=15, offset=one * 0, scale=1.0)
    neuron = Population(
        name="neuron", inputs=("up", "down"), shape=(1,), threshold=4 * one, bias=0 * one, initial=2 * one,
        input_scale=np.ones(1), ceiling=3, code=code, scale=1.0,
    )  # fmt: skip
    return SpikingGraph((image, linear("up", "image", 1, 1), linear("down", "image", -1, 3), neuron), ("neuron",))


@pytest.mark.parametrize("code", sorted(EMISSIONS))
def test_only_unsigned_neurons_keep_what_they_fired_too_early(code: str) -> None:
    graph = early_then_inhibited(code)
    emitted = np.full((1, 1), 15)
    assert evaluate(graph, emitted)["neuron"].tolist() == [[0]]
    assert simulate(graph, emitted).counts["neuron"][-1].tolist() == [[0 if settles(code) else 2]]


@pytest.mark.parametrize("code", ["unsigned", "burst7"])
def test_netx_refuses_codes_it_has_no_word_for(code: str, tmp_path: Path) -> None:
    graph = with_code(random_graph(3), code)
    with pytest.raises(InputError, match=f"NetX has no code '{code}', only unary and graded"):
        netx.write(graph, tmp_path / "model.net")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", ["unsigned", "burst7"])
def test_lava_refuses_codes_it_has_no_model_for(code: str) -> None:
    graph = early_then_inhibited(code)
    with pytest.raises(InputError, match=f"no code '{code}'"):
        lava.run(graph, np.full((1, 1), 15), 6, timeout=120)


def test_nir_refuses_codes_that_its_report_does_not_describe(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not describe code 'unsigned'"):
        export_graph(early_then_inhibited("unsigned"), tmp_path / "graph.nir")
    assert not list(tmp_path.iterdir())
