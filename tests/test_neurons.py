"""The neuron rule: bursts settle for any bound, unsigned neurons stop and may end elsewhere."""

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
from fastsnn_deploy.graph import Input, Linear, Population, SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.graph.neurons import emit, preset_name, spike_bounds
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.simulators.reference import simulate
from tests.random_graphs import bounds, random_graph, random_images

SETTLED = ("burst15", "burst2", "burst7", "graded", "unary")


def test_presets_and_which_of_them_settle() -> None:
    for neurons in (*SETTLED, "unsigned"):
        low, high = spike_bounds(neurons, -2, 60)
        assert preset_name(-2, 60, low, high) == neurons
        node = with_neurons(random_graph(3), neurons).populations[0]
        assert node.settles == (neurons != "unsigned")
    for unknown in ("morse", "burst", "burst0", "burst-2", "Unary"):
        with pytest.raises(InputError, match=unknown):
            spike_bounds(unknown, 0, 3)


@given(
    potential=st.integers(-(2**23), 2**23), count=st.integers(-4, 15), threshold=st.integers(1, 70_000),
    floor=st.integers(-4, 0), ceiling=st.integers(1, 15),
)  # fmt: skip
def test_the_rule_with_each_preset_is_the_published_neuron(
    potential: int, count: int, threshold: int, floor: int, ceiling: int
) -> None:
    count = min(max(count, floor), ceiling)
    state = np.array([potential]), np.array([count]), np.array([threshold]), floor, ceiling

    def sent(neurons: str) -> int:
        return int(emit(*state, *spike_bounds(neurons, floor, ceiling))[0])

    due = min(max((potential + threshold * count) // threshold, floor), ceiling) - count
    assert sent("graded") == due
    assert sent("unary") == (potential >= threshold and count < ceiling) - (potential < 0 and count > floor)
    assert sent("unsigned") == (potential >= threshold and count < ceiling)
    for bound in (1, 2, 3, 4, 7, 15):
        assert sent(f"burst{bound}") == min(max(due, -bound), bound)


@pytest.mark.parametrize("neurons", SETTLED)
@given(seed=st.integers(0, 2**32 - 1), balance=st.booleans())
def test_every_preset_that_settles_gives_the_integer_network(neurons: str, seed: int, balance: bool) -> None:
    graph = random_graph(seed, neurons=neurons, balance=balance)
    emitted = graph.input.encode(random_images(graph, seed))
    values, run = integer_values(graph, emitted), simulate(graph, emitted)
    for node in graph.populations:
        assert np.array_equal(run.counts[node.name][-1], values[node.name])
        if neurons.startswith("burst"):
            assert np.abs(run.spikes[node.name]).max(initial=0) <= int(neurons[5:])


@given(seed=st.integers(0, 2**32 - 1))
def test_unsigned_networks_come_to_rest_within_their_bounds(seed: int) -> None:
    graph = random_graph(seed, neurons="unsigned")
    run = simulate(graph, graph.input.encode(random_images(graph, seed)))
    for node in graph.populations:
        assert set(np.unique(run.spikes[node.name])) <= {0, 1}
        assert run.counts[node.name].max(initial=0) <= node.ceiling
        silent = (run.potentials[node.name][-1] < np.reshape(node.threshold, (-1,) + (1,) * (len(node.shape) - 1))) | (
            run.counts[node.name][-1] == node.ceiling
        )
        assert silent.all()


def early_then_inhibited(neurons: str) -> SpikingGraph:
    """One neuron whose synaptic input rises first and is taken back a step later: the settled count is 0."""
    one = np.ones(1, dtype=np.int64)

    def linear(name: str, source: str, weight: int, delay: int) -> Linear:
        whole = np.full((1, 1), weight, dtype=np.int8)
        return Linear(name=name, inputs=(source,), shape=(1,), weight=whole, exponent=one * 0, delay=delay)

    image = Input(name="image", shape=(1,), step=1.0, low=0, high=15, offset=one * 0, scale=1.0)
    neuron = Population(
        name="neuron", inputs=("up", "down"), shape=(1,), threshold=4 * one, bias=0 * one, initial=2 * one,
        input_scale=np.ones(1), ceiling=3, scale=1.0, **bounds(neurons, 0, 3),
    )  # fmt: skip
    return SpikingGraph((image, linear("up", "image", 1, 1), linear("down", "image", -1, 3), neuron), ("neuron",))


@pytest.mark.parametrize("neurons", [*SETTLED, "unsigned"])
def test_only_unsigned_neurons_keep_what_they_fired_too_early(neurons: str) -> None:
    graph = early_then_inhibited(neurons)
    emitted = np.full((1, 1), 15)
    assert integer_values(graph, emitted)["neuron"].tolist() == [[0]]
    assert simulate(graph, emitted).counts["neuron"][-1].tolist() == [[2 if neurons == "unsigned" else 0]]


@pytest.mark.lava
@pytest.mark.parametrize("neurons", ["unsigned", "burst7"])
def test_netx_and_lava_take_any_spike_bounds(neurons: str, tmp_path: Path) -> None:
    graph, emitted = early_then_inhibited(neurons), np.full((1, 1), 15)
    netx.write(graph, tmp_path / "model.net")
    assert netx.read(tmp_path / "model.net") == graph
    expected, found = simulate(graph, emitted, 8), lava.run(tmp_path / "model.net", emitted, 8, timeout=120)
    for kind in ("spikes", "counts", "potentials"):
        for name, series in getattr(expected, kind).items():
            assert np.array_equal(getattr(found, kind)[name], series), (kind, name)


def test_nir_refuses_neurons_that_its_report_does_not_describe(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not describe unsigned neurons"):
        export_graph(early_then_inhibited("unsigned"), tmp_path / "graph.nir")
    assert not list(tmp_path.iterdir())
