"""Evaluation against a plain one of each image alone, in parts of any size."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from operator import add
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fastsnn_deploy as fd
from fastsnn_deploy.analysis.count import count, counts_of
from fastsnn_deploy.analysis.curve import curve_rows
from fastsnn_deploy.analysis.evaluate import evaluate, ranks
from fastsnn_deploy.analysis.evaluation import Evaluation, nothing
from fastsnn_deploy.analysis.serialise import pack, unpack
from fastsnn_deploy.analysis.structure import layers_of
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats import netx
from fastsnn_deploy.graph import Input, Linear, MaxPool2d, Readout, SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values, logits
from fastsnn_deploy.passes.one_pass import one_pass
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.quantisation import load
from fastsnn_deploy.simulators import open_engine
from fastsnn_deploy.simulators.integer import IntegerNetwork, integer_logits, integer_outputs
from fastsnn_deploy.simulators.reference import simulate
from fastsnn_deploy.training.answers import quantised_logits
from fastsnn_deploy.training.data import load_images
from tests.random_graphs import random_graph, random_images

NET = Path(__file__).parents[1] / "netx_exports" / "digits-2bit-unary.net"
MANIFEST = json.loads((NET.parent / "manifest.json").read_text())[NET.name]
KS = (1, 2, 5)

seeds = st.integers(0, 10_000)
presets = st.sampled_from(["unary", "graded"])


def drawn(seed: int, neurons: str = "unary") -> SpikingGraph:
    """A random graph in which every window of a max pool holds a position of its map: others have no maximum."""
    graph = random_graph(seed, blocks=3, neurons=neurons, max_size=6)
    for node in graph.nodes:
        if isinstance(node, MaxPool2d):
            assume(node.apply(np.zeros((1, *graph[node.inputs[0]].shape), dtype=np.int64)).min() == 0)
    return graph


def drawn_data(graph: SpikingGraph, seed: int, images: int = 5) -> tuple[np.ndarray, np.ndarray]:
    return random_images(graph, seed, images), np.random.default_rng(seed).integers(0, 5, images)


def plain(graph: SpikingGraph, levels: np.ndarray, labels: np.ndarray, steps: int | None = None) -> dict:
    """Each image alone, its classes sorted by Python at each step, its spikes counted by NumPy."""
    answers, settle, per_step = [], [], []
    spikes = {node.name: np.zeros(node.shape, dtype=np.int64) for node in layers_of(graph) if node.sends}
    name = graph.outputs[0]
    for image, label in zip(levels, labels, strict=True):
        run = simulate(graph, graph.input.encode(image[None]), steps)
        series = run.potentials[name] if isinstance(graph[name], Readout) else run.counts[name]
        places = []
        for values in series:
            scores = logits(graph, {name: values})[0].tolist()
            places.append(sorted(range(5), key=lambda c, s=scores: (-s[c], c)).index(label))
        answers.append(places)
        settle.append(int(run.settle_steps[0]))
        for key, sent in run.spikes.items():
            spikes[key] += np.count_nonzero(sent, axis=(0, 1))
        per_step.append([sum(int(np.count_nonzero(s[t])) for s in run.spikes.values()) for t in range(run.steps)])
    length = max(settle) if steps is None else steps
    late = [[places[min(step, len(places) - 1)] for step in range(length)] for places in answers]
    return {
        "settle": settle,
        "correct": {k: sum(places[-1] < k for places in answers) for k in KS},
        "curve": {k: [sum(places[step] < k for places in late) for step in range(length)] for k in KS},
        "spikes": spikes,
        "per_step": [sum(sent[t] for sent in per_step if t < len(sent)) for t in range(length)],
    }


def run_it(graph: SpikingGraph, levels: np.ndarray, labels: np.ndarray | None, **options) -> Evaluation:
    return evaluate(graph, levels, labels, engine="reference", **{"topk": KS, **options})


def in_order(a: Evaluation) -> Evaluation:
    """Spikes of single images from few to many."""
    return replace(a, activity={k: replace(x, by_image=np.sort(x.by_image)) for k, x in a.activity.items()})


def same(a: Evaluation, b: Evaluation) -> bool:
    """Every number is the same, in whatever order the images were; .npz files of equal arrays are equal bytes."""
    return pack(in_order(a)) == pack(in_order(b)) and a.to_dict() == b.to_dict() and curve_rows(a) == curve_rows(b)


@settings(max_examples=25)
@given(seed=seeds, neurons=presets, fixed=st.sampled_from([None, 1, 6]))
def test_equals_each_image_alone_for_any_batch(seed: int, neurons: str, fixed: int | None):
    graph = drawn(seed, neurons)
    levels, labels = drawn_data(graph, seed)
    expected = plain(graph, levels, labels, fixed)
    whole = run_it(graph, levels, labels, steps=fixed, batch=5)
    assert np.repeat(np.arange(len(whole.settled)), whole.settled).tolist() == sorted(expected["settle"])
    assert whole.mean_settle_steps == pytest.approx(np.mean(expected["settle"]))
    assert whole.max_settle_steps == max(expected["settle"])
    for entry in whole.topk:
        assert entry.correct == expected["correct"][entry.k]
        assert entry.curve.tolist() == expected["curve"][entry.k]
        assert whole.accuracy(entry.k) == entry.correct / 5
    for name, activity in whole.activity.items():
        np.testing.assert_array_equal(activity.spikes, expected["spikes"][name])
    assert whole.spikes_per_step.tolist() == expected["per_step"]
    assert whole.spikes == sum(expected["per_step"])
    for batch in (1, 2, 3):
        assert same(run_it(graph, levels, labels, steps=fixed, batch=batch), whole)


@settings(max_examples=25)
@given(seed=seeds, neurons=presets, fixed=st.sampled_from([None, 2, 30]))
def test_operations_equal_the_profile(seed: int, neurons: str, fixed: int | None):
    graph = drawn(seed, neurons)
    levels, labels = drawn_data(graph, seed)
    run = simulate(graph, graph.input.encode(levels), fixed)
    counts = count(graph, run, every_step=fixed is not None)
    found = run_it(graph, levels, labels, steps=fixed, batch=2)
    assert found.operations == {c.name: c.synaptic_operations + c.undelivered_operations for c in counts.connections}
    assert found.synaptic_operations == counts.total("synaptic_operations") + counts.total("undelivered_operations")
    if fixed is None:
        assert counts.total("undelivered_operations") == 0
    assert found.spikes == counts.total("spikes")
    assert found.neuron_updates == counts.total("neuron_updates")
    assert found.counted_steps == counts.steps


@settings(max_examples=25)
@given(seed=seeds, neurons=presets)
def test_counts_are_those_of_the_profile(seed: int, neurons: str):
    graph = drawn(seed, neurons)
    levels, labels = drawn_data(graph, seed)
    expected = count(graph, simulate(graph, graph.input.encode(levels)))
    assert counts_of(run_it(graph, levels, labels, batch=2)) == expected
    assert counts_of(evaluate(graph, levels, labels, engine=open_engine(graph, "cpu", 1))) == expected


def test_runs_of_fixed_length_cannot_be_counted():
    graph = drawn(1)
    levels, labels = drawn_data(graph, 1)
    with pytest.raises(InputError, match="Evaluate without a number of steps"):
        counts_of(run_it(graph, levels, labels, steps=4))


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000))
def test_integer_outputs_are_those_of_the_integer_network(seed: int):
    graph = random_graph(seed, blocks=4)
    levels = random_images(graph, seed, 5)
    name = graph.outputs[0]
    expected = integer_values(graph, graph.input.encode(levels))
    for batch in (1, 2, 50):
        found = integer_outputs(graph, levels, batch)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, expected[name])
    np.testing.assert_array_equal(integer_logits(graph, levels), logits(graph, expected))
    assert integer_outputs(graph, levels[:0]).shape == (0, *graph[name].shape)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000))
def test_one_pass_settles_to_the_integer_network(seed: int):
    graph = random_graph(seed, blocks=4)
    emitted = graph.encode(random_images(graph, seed, 3))
    expected, single = integer_values(graph, emitted), one_pass(graph)
    run = simulate(single, emitted)
    for name, spikes in run.spikes.items():
        np.testing.assert_array_equal(spikes.sum(0), expected[name])
    answers = IntegerNetwork(graph, "cpu", 1).answers(emitted)
    np.testing.assert_array_equal(answers, expected[graph.outputs[0]])


def test_integer_mode_answers_as_the_settled_run():
    images = load_images("digits", "test")
    network = netx.read(NET)
    settled = fd.evaluate(network, images)
    found = fd.evaluate(network, images, mode="integer")
    assert {entry.k: entry.correct for entry in settled.topk} == found.correct
    assert found.to_dict()["accuracy"]["top1"] == settled.accuracy()
    assert "top-1" in found.summary()
    assert "top-1" in repr(found)
    for wrong, said in (({"mode": "fast"}, "mode"), ({"mode": "integer", "steps": 3}, "no steps")):
        with pytest.raises(InputError, match=said):
            fd.evaluate(network, images, **wrong)


def test_answers_of_the_quantised(checkpoint_file: Path):
    quantised, images = load(checkpoint_file).model, load_images("digits", "test")
    seen: list[tuple[int, int]] = []
    found = quantised_logits(
        quantised.train(), images, batch=200, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(200, 360), (360, 360)]
    assert found.shape == (360, 10)
    assert found.dtype == np.float32
    with torch.no_grad():
        np.testing.assert_allclose(found, quantised.eval()(images.raw(slice(0, 360))).numpy(), rtol=1e-4, atol=1e-5)
    assert (
        float((found.argmax(1) == images.labels.numpy()).mean()) == load(checkpoint_file).metadata["quantised_accuracy"]
    )
    again: list[tuple[int, int]] = []
    integer_logits(netx.read(NET), images.raw(slice(3)).numpy(), 2, lambda done, total: again.append((done, total)))
    assert again == [(2, 3), (3, 3)]


@settings(max_examples=15)
@given(seed=seeds, cuts=st.lists(st.integers(0, 6), max_size=3))
def test_parts_add_up_in_any_order(seed: int, cuts: list[int]):
    graph = drawn(seed)
    levels, labels = drawn_data(graph, seed, 6)
    whole = run_it(graph, levels, labels)
    edges = [0, *sorted(cuts), 6]
    parts = [run_it(graph, levels[a:b], labels[a:b]) for a, b in pairwise(edges)]
    assert same(reduce(add, parts), whole)
    assert same(reduce(add, reversed(parts)), whole)
    assert same(whole + nothing(graph, KS), whole)
    assert same(unpack(graph, pack(whole)), whole)


@settings(max_examples=10)
@given(seed=seeds)
def test_without_labels_all_but_accuracy(seed: int):
    graph = drawn(seed)
    levels, labels = drawn_data(graph, seed)
    labelled, unlabelled = run_it(graph, levels, labels), run_it(graph, levels, None)
    assert same(replace(labelled, topk=()), unlabelled)
    assert unlabelled.to_dict()["accuracy"] == {}
    with pytest.raises(KeyError):
        unlabelled.accuracy()


def test_ranks_break_ties_by_the_lowest_class():
    scores = np.array([[1.0, 3.0, 3.0, 0.0]] * 4)
    assert ranks(scores, np.arange(4)).tolist() == [2, 0, 1, 3]
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 3, (500, 10)).astype(float), rng.integers(0, 10, 500)
    found = ranks(scores, labels)
    np.testing.assert_array_equal(found == 0, scores.argmax(1) == labels)
    order = np.argsort(-scores, axis=1, kind="stable")
    np.testing.assert_array_equal(found, (order == labels[:, None]).argmax(1))


def silent() -> SpikingGraph:
    """A network with weights of zero: nothing but the input ever sends, and only for images that are not zero."""
    image = Input(name="image", shape=(3,), step=1.0, low=0, high=15, offset=np.zeros(3), scale=1.0)
    synapse = Linear(name="w", inputs=("image",), shape=(5,), weight=np.zeros((5, 3), np.int8), exponent=np.zeros(5))
    readout = Readout(name="out", inputs=("w",), shape=(5,), bias=np.zeros(5), scale=np.ones(5))
    return SpikingGraph(nodes=(image, synapse, readout), outputs=("out",))


def test_a_network_that_never_changes_answers_with_its_zeros():
    graph, labels = silent(), np.array([0, 1, 0, 4])
    still = evaluate(graph, np.zeros((4, 3), dtype=np.int64), labels, topk=KS)
    assert (still.length, still.spikes, still.synaptic_operations, still.neuron_updates) == (0, 0, 0, 0)
    assert [entry.correct for entry in still.topk] == [2, 3, 4]
    assert curve_rows(still) == []
    moved = evaluate(graph, np.ones((1, 3), dtype=np.int64), np.array([0]), topk=KS)
    assert moved.length == 1
    # the still images answer with class 0 in the step that only the other one needs
    assert (still + moved).topk[0].curve.tolist() == [3]
    assert (moved + still).topk[0].curve.tolist() == [3]


def test_settle_percentile_is_the_nearest_rank():
    settled = np.zeros(31, dtype=np.int64)
    settled[[10, 20, 30]] = 98, 1, 1
    found = replace(nothing(silent()), images=100, settled=settled)
    assert [found.settle_percentile(p) for p in (50, 98, 99, 100)] == [10, 10, 20, 30]
    assert found.mean_settle_steps == pytest.approx(10.3)


def test_progress_and_batches_of_the_engine():
    graph = drawn(1)
    levels, labels = drawn_data(graph, 1, 23)
    seen: list[tuple[int, int]] = []
    run_it(graph, levels, labels, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(10, 23), (20, 23), (23, 23)]


def test_wrong_arguments():
    graph = drawn(1)
    levels, labels = drawn_data(graph, 1)
    cases = [
        ({"labels": labels[:-1]}, "one for each image"),
        ({"labels": labels.astype(float)}, "needs integers"),
        ({"labels": labels + 5}, "the network has 5 classes"),
        ({"batch": 0}, "batch is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"topk": (0,)}, "topk is 0"),
        ({"engine": "abacus"}, "abacus"),
        ({"engine": open_engine(with_neurons(graph, "graded"), "reference")}, "another network"),
    ]
    for wrong, message in cases:
        options = {"labels": labels, "engine": "reference", **wrong}
        with pytest.raises(InputError, match=message):
            evaluate(graph, levels, options.pop("labels"), **options)
    with pytest.raises(InputError, match="takes"):
        run_it(graph, levels[:, :, :-1], labels)
    maps = replace(graph, outputs=(next(p.name for p in graph.populations if len(p.shape) == 3),))
    with pytest.raises(InputError, match="accuracy is for one output"):
        run_it(maps, levels, labels)
    whole = run_it(graph, levels, labels)
    for other in (run_it(graph, levels, None), run_it(graph, levels, labels, steps=3)):
        with pytest.raises(ValueError, match="do not add up"):
            whole + other
