"""Targets through the command line's own path: export, verify, count, on a trained network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastsnn_deploy as fd
from fastsnn_deploy.analysis.count import counts_of
from fastsnn_deploy.analysis.evaluate import evaluate
from fastsnn_deploy.analysis.verify_stock import verify_stock
from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.errors import GraphError, InputError
from fastsnn_deploy.formats import netx
from fastsnn_deploy.formats.export import export
from fastsnn_deploy.graph import load as load_graph
from fastsnn_deploy.lava_dl import Lif, Sdnn, StockConv, StockDense, StockInput, StockNetwork
from fastsnn_deploy.lava_dl import run as run_stock
from fastsnn_deploy.lava_dl.synapses import fan_out
from fastsnn_deploy.passes.stock_range import to_stock_range
from fastsnn_deploy.quantisation import load
from fastsnn_deploy.targets.thermometer.network import to_thermometer
from fastsnn_deploy.training.data import load_images
from tests.commands import runner


def test_unknown_targets_are_refused(checkpoint_file: Path, tmp_path: Path):
    with pytest.raises(InputError, match="Known: graded, sigma-delta, signed-if, stock-lif"):
        export(convert(load(checkpoint_file)), tmp_path / "x.net", "abacus")


@pytest.mark.parametrize("target", ["signed-if", "graded"])
def test_extension_targets_hold_the_graph(checkpoint_file: Path, tmp_path: Path, target: str):
    graph = convert(load(checkpoint_file))
    exported = export(graph, tmp_path / "x.net", target)
    codes = {population.neurons for population in netx.read(tmp_path / "x.net").populations}
    assert codes == {"graded" if target == "graded" else "unary"}
    assert exported.totals["synapses"] == sum(row["synapses"] for row in exported.layers) > 0


@pytest.mark.parametrize("target", ["signed-if", "graded", "stock-lif"])
def test_the_graph_beside_a_file_is_the_one_it_holds(
    checkpoint_file: Path, tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    run = runner(monkeypatch, capsys)
    files = tmp_path / "x.net", tmp_path / "x.safetensors"
    result = run("export", checkpoint_file, "--target", target, "-o", files[0], "--graph", files[1])
    assert result.returncode == 0, result.stderr
    graph = fd.convert(checkpoint_file)
    if target == "stock-lif":
        assert to_stock_range(graph) != graph
        assert load_graph(files[1]) == to_stock_range(graph)
    else:
        assert load_graph(files[1]) == netx.read(files[0])


@pytest.mark.parametrize("target", ["signed-if", "graded", "stock-lif"])
def test_nir_comes_with_a_loss_report(checkpoint_file: Path, tmp_path: Path, target: str):
    graph = convert(load(checkpoint_file))
    exported = export(graph, tmp_path / "x.nir", target, "nir")
    assert exported.loss_report is not None
    report = json.loads((tmp_path / "x.nir.loss.json").read_text())
    fields = {loss["field"] for loss in report["losses"]}
    assert ("soft_reset" in fields or "reset" in fields) == (target != "stock-lif"), fields


def test_population_export_is_exact_and_a_changed_weight_is_found(checkpoint_file: Path, tmp_path: Path):
    graph = convert(load(checkpoint_file))
    export(graph, tmp_path / "x.net", "stock-lif")
    assert netx.kind_of(tmp_path / "x.net") == "stock"
    network = netx.read_stock(tmp_path / "x.net")
    images = load_images("digits", "test").raw(slice(8)).numpy()
    result = verify_stock(network, graph, images, batch=3)
    assert result.exact
    assert result.images == 8
    nodes = [node for node in graph.nodes if type(node).__name__ in ("Population", "MaxPool2d", "Readout")]
    assert result.settled.compared == 8 * sum(node.size for node in nodes)
    layers = list(network.layers)
    weight = layers[-1].weight.copy()
    weight[3, np.flatnonzero(weight[3])] += 1
    layers[-1] = replace(layers[-1], weight=weight)
    broken = verify_stock(replace(network, layers=tuple(layers)), graph, images)
    assert not broken.exact
    assert (broken.total.first.layer, broken.total.first.channel) == ("classifier", 3)


def test_a_foreign_stock_file_is_not_a_population(tmp_path: Path, checkpoint_file: Path):
    layers = (
        StockInput(shape=(4,)),
        StockDense(shape=(2,), weight=np.ones((2, 4), dtype=np.int64), bias=None, neuron=Lif(1)),
    )
    with pytest.raises(GraphError, match="no thermometer code"):
        verify_stock(StockNetwork(layers), convert(load(checkpoint_file)), np.zeros((1, 1, 8, 8)))


@settings(max_examples=40)
@given(st.integers(0, 2**20))
def test_stock_fan_out_counts_nonzero_weights_by_brute_force(seed: int):
    rng = np.random.default_rng(seed)
    groups, height, width = int(rng.integers(1, 3)), int(rng.integers(3, 7)), int(rng.integers(3, 7))
    kernel, stride = rng.integers(1, 4, 2), rng.integers(1, 3, 2)
    padding, dilation = rng.integers(0, 2, 2), np.ones(2, dtype=np.int64)
    weight = rng.integers(-1, 2, (2 * groups, 2, *kernel))
    size = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip((height, width), padding, kernel, stride, strict=True)]
    layer = StockConv(
        shape=(2 * groups, *map(int, size)), weight=weight, bias=None, neuron=Lif(0), groups=groups,
        stride=tuple(map(int, stride)), padding=tuple(map(int, padding)), dilation=tuple(map(int, dilation)),
    )  # fmt: skip
    expected = np.zeros((2 * groups, height, width), dtype=np.int64)
    for o, y, x in np.ndindex(layer.shape):
        for i, a, b in np.ndindex(weight.shape[1:]):
            row, column = y * stride[0] - padding[0] + a, x * stride[1] - padding[1] + b
            if weight[o, i, a, b] and 0 <= row < height and 0 <= column < width:
                expected[o // 2 * 2 + i, row, column] += 1
    assert np.array_equal(fan_out(layer, (2 * groups, height, width)), expected)


def test_stock_counts_of_a_tiny_stream():
    """Two inputs, two hidden neurons, one output; every message and operation counted by hand."""
    hidden = StockDense(shape=(2,), weight=np.array([[1, 0], [1, 1]]), bias=np.array([0, 0]), neuron=Lif(0))
    output = StockDense(shape=(1,), weight=np.array([[2, 3]]), bias=np.array([0]), neuron=Lif(100))
    network = StockNetwork((StockInput(shape=(2,)), hidden, output))
    images = np.array([[1, 0], [0, 1], [0, 0]])
    counts = counts_of(evaluate(network, images, None))
    # frame 0: input 0 reaches both hidden neurons, both fire; frame 1: input 1 reaches the second, it fires
    assert (counts.total("neurons"), counts.total("synapses"), counts.total("parameters")) == (2 + 3, 5, 5)
    assert counts.total("spikes") == 2 + 2 + 1
    assert counts.total("synaptic_operations") == (2 + 1) + (2 + 1)
    # one inference a step: every neuron, the inputs included, is updated once for each image
    assert (counts.images, counts.steps, counts.max_steps) == (3, 3, 1)
    assert counts.total("neuron_updates_active") + counts.total("neuron_updates_inactive") == 3 * 5


def test_stock_counts_of_a_tiny_sigma_delta_network():
    """A constant input is sent once; a hidden neuron sends its bias, then its change; the output sends no message."""
    hidden = StockDense(shape=(2,), weight=np.array([[64, 0], [64, 64]]), bias=np.array([0, 3]), neuron=Sdnn())
    output = StockDense(shape=(1,), weight=np.array([[64, 32]]), bias=None, neuron=Sdnn(sigma_output=True))
    network = StockNetwork((StockInput(shape=(2,), neuron=Sdnn()), hidden, output))
    evaluation = evaluate(network, np.array([[5, 0]]), None)
    counts = counts_of(evaluation)
    assert (counts.total("neurons"), counts.total("synapses"), counts.total("parameters")) == (2 + 3, 5, 5)
    # input 0 once; hidden 0 once; hidden 1 twice: 3, then 5 more
    assert counts.total("spikes") == 1 + 1 + 2
    assert counts.total("synaptic_operations") == 2 + 3
    # step 0 input, step 1 hidden, step 2 output
    assert evaluation.settled.tolist() == [0, 0, 0, 1]


def test_population_needs_one_step_a_frame(checkpoint_file: Path):
    result = to_thermometer(convert(load(checkpoint_file)))
    images = load_images("digits", "test").raw(slice(5)).numpy()
    emitted = result.graph.input.encode(images)
    together = run_stock(result.network, emitted[:, None], 5 + result.depth)
    for i in range(5):
        alone = run_stock(result.network, emitted[i : i + 1, None], 1 + result.depth)
        a, b = result.read(together, i), result.read(alone, 0)
        assert all(np.array_equal(a[name], b[name]) for name in a)
