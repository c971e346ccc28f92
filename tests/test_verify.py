"""Verification finds any single wrong integer and says where it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsnn_deploy.analysis.differences import Differences, compare_runs, compare_settled
from fastsnn_deploy.analysis.verify import verify
from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats import netx
from fastsnn_deploy.graph import Population, Readout
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.quantisation import load
from fastsnn_deploy.simulators.reference import simulate
from fastsnn_deploy.training.data import load_images
from tests.random_graphs import random_graph, random_images


def tampered(mapping: dict, name: str, index: tuple[int, ...]) -> dict:
    """A copy with one integer of one array raised by one."""
    changed = mapping[name].copy()
    changed[index] += 1
    return {**mapping, name: changed}


@settings(max_examples=30)
@given(st.integers(0, 2**20))
def test_a_single_wrong_settled_integer_is_found(seed: int):
    graph = random_graph(seed)
    emitted = graph.input.encode(random_images(graph, seed))
    values, run = dict(integer_values(graph, emitted)), simulate(graph, emitted)
    clean = compare_settled(graph, values, run.final)
    assert clean.exact
    assert clean.compared == sum(
        2 * graph[name].size for name in set(run.counts) | {n.name for n in graph.nodes if isinstance(n, Readout)}
    )
    rng = np.random.default_rng(seed)
    name = sorted(run.counts)[rng.integers(len(run.counts))] if run.counts else graph.outputs[0]
    index = tuple(int(rng.integers(size)) for size in values[name].shape)
    found = compare_settled(graph, tampered(values, name, index), run.final)
    assert (found.differing, found.first.layer, found.first.step) == (1, name, None)
    assert (found.first.image, found.first.channel, *found.first.position) == index
    assert found.first.expected == found.first.found + 1


@settings(max_examples=30)
@given(st.integers(0, 2**20))
def test_a_single_wrong_spike_is_found(seed: int):
    graph = random_graph(seed)
    run = simulate(graph, graph.input.encode(random_images(graph, seed)))
    rng = np.random.default_rng(seed)
    name = sorted(run.spikes)[rng.integers(len(run.spikes))]
    index = tuple(int(rng.integers(size)) for size in run.spikes[name].shape)
    found = compare_runs(graph, run, replace(run, spikes=tampered(dict(run.spikes), name, index)))
    assert found.differing == 1
    assert (found.first.step, found.first.image, found.first.channel, *found.first.position) == index
    assert f"step {index[0]}" in str(found.first)
    assert f"'{name}'" in str(found.first)


def test_comparisons_add_up_and_keep_the_first_difference():
    graph = random_graph(1)
    run = simulate(graph, graph.input.encode(random_images(graph, 1)))
    wrong = replace(run, spikes=tampered(dict(run.spikes), "image", (0, 0, 0, 0, 0)))
    difference = compare_runs(graph, run, wrong)
    total = Differences(10) + difference.shifted(100) + Differences(5, 1)
    assert (total.compared, total.differing) == (15 + difference.compared, 2)
    assert total.first.image == 100


def test_exported_digits_network_is_exact(checkpoint_file: Path, net_file: Path):
    truth = convert(load(checkpoint_file))
    images = load_images("digits", "test").raw(slice(30)).numpy()
    result = verify(netx.read(net_file), images, truth=truth, batch=7)
    assert result.exact
    assert result.images == 30
    per_image = sum(n.size for n in truth.nodes if type(n).__name__ in ("Population", "MaxPool2d", "Readout"))
    assert result.settled.compared == 30 * per_image


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_an_engine_proves_what_the_reference_proves(seed: int):
    graph = random_graph(seed, blocks=3)
    images = random_images(graph, seed, 5)
    plain, fast = verify(graph, images), verify(graph, images, backend="cpu", batch=2)
    each = plain.settled.compared // 5
    assert fast.exact
    assert fast.settled.compared == plain.settled.compared + each
    assert list(fast.backend) == ["engine cpu"]
    assert np.array_equal(fast.settle_steps, plain.settle_steps)
    assert np.array_equal(fast.outputs, plain.outputs)
    assert "of the first 1:" in fast.summary()


def test_graded_export_is_exact_against_the_same_truth(checkpoint_file: Path):
    truth = convert(load(checkpoint_file))
    images = load_images("digits", "test").raw(slice(10)).numpy()
    graded = with_neurons(truth, "graded")
    result = verify(graded, images, truth=truth)
    assert result.exact
    assert result.settle_steps.max() <= graded.depth + 1


def test_a_changed_file_is_caught_and_the_layer_named(checkpoint_file: Path, net_file: Path):
    truth = convert(load(checkpoint_file))
    images = load_images("digits", "test").raw(slice(10)).numpy()
    victim = truth.populations[2]
    exported = netx.read(net_file)
    nodes = tuple(
        replace(n, threshold=n.threshold + n.threshold // 3)
        if isinstance(n, Population) and n.name == victim.name
        else n
        for n in exported.nodes
    )
    for backend in ("reference", "cpu"):
        result = verify(replace(exported, nodes=nodes), images, truth=truth, backend=backend)
        assert not result.exact
        assert result.total.first.layer == victim.name


def test_a_file_with_other_layers_is_refused():
    with pytest.raises(InputError, match="does not hold this network's layers") as caught:
        verify(random_graph(1), np.zeros((1, *random_graph(2).input.shape)), truth=random_graph(2))
    assert caught.value.exit_code == 2  # wrong input: 1 says that an integer differs, and nothing else
