"""Sigma-delta networks: the error stays within its bound, the units fit, other graphs are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsnn_deploy import netx
from fastsnn_deploy.errors import LoweringError
from fastsnn_deploy.graph import MaxPool2d, Population, Readout, SpikingGraph
from fastsnn_deploy.sigma_delta import compare, convert, stages_of
from fastsnn_deploy.sigma_delta.convert import MESSAGE_UNITS
from fastsnn_deploy.sigma_delta.measure import activations_of
from fastsnn_deploy.stock import StockConv, StockDense, difference, run
from tests.conformance.chains import chain, images
from tests.random_graphs import random_graph


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_the_error_of_every_layer_stays_within_its_bound(seed: int) -> None:
    graph = chain(seed)
    emitted = images(graph, seed, 8)
    converted = convert(graph, emitted)
    real = emitted.astype(np.float64)
    for stage, bound, value in zip(converted.stages, converted.bounds, activations_of(converted, emitted), strict=True):
        real = stage.real(real)
        error = np.abs(value - real).max(axis=(0, *range(2, real.ndim)))
        assert (error <= bound.activation).all()


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_weights_messages_and_steps_fit(seed: int) -> None:
    graph = chain(seed)
    emitted = images(graph, seed, 4)
    converted = convert(graph, emitted)
    for layer in converted.network.layers:
        if isinstance(layer, (StockConv, StockDense)):
            assert np.abs(layer.weight).max() <= 127
    frames = np.concatenate([converted.frames(emitted), converted.frames(emitted)[:5]])
    longer = run(converted.network, frames, converted.steps + 5)
    for series in longer.spikes[:-1]:
        assert series is not None
        assert np.abs(series).max() < MESSAGE_UNITS * 64
        assert not series[converted.steps :].any()
    # nothing changes any more after `steps`
    assert longer.spikes[-1] is not None
    assert (longer.spikes[-1][converted.steps - 1 :] == longer.spikes[-1][-1]).all()


def test_comparison_reports_every_layer(tmp_path: Path) -> None:
    graph = chain(3)
    emitted = images(graph, 0, 200)
    converted = convert(graph, emitted)
    labels = np.arange(200) % 5
    result = compare(converted, graph, emitted, labels)
    assert [layer.name for layer in result.layers] == [stage.node.name for stage in stages_of(graph)]
    assert all(0 < layer.largest <= layer.bound for layer in result.layers)
    assert all(layer.mean < layer.quantised_mean for layer in result.layers)
    assert result.images == 200
    assert 0 <= result.different < 100
    assert result.accuracy is not None
    assert "predictions differ" in str(result)
    assert compare(converted, graph, emitted).accuracy is None
    netx.write_stock(converted.network, tmp_path / "sdnn.net")
    assert difference(netx.read_stock(tmp_path / "sdnn.net"), converted.network) is None


def test_what_has_no_sigma_delta_form_is_listed() -> None:
    graph = chain(1)
    nodes = list(graph.nodes)
    pool = nodes[3]
    nodes[3] = MaxPool2d(name="pool", inputs=pool.inputs, shape=(4, 4, 4), kernel=(2, 2), stride=(2, 2))
    spikes = nodes[4]
    assert isinstance(spikes, Population)
    nodes[5] = replace(nodes[5], inputs=("pool",))
    del nodes[4]
    with pytest.raises(LoweringError) as caught:
        convert(SpikingGraph(nodes=tuple(nodes), outputs=("out",)), images(graph, 0, 2))
    assert "MaxPool2d 'pool': has no sigma-delta form" in str(caught.value)
    signed = replace(graph.nodes[2], floor=-15)
    nodes = [signed if node.name == signed.name else node for node in graph.nodes]
    with pytest.raises(LoweringError, match="has a ReLU"):
        stages_of(replace(graph, nodes=tuple(nodes)))


def test_branches_and_several_outputs_are_refused() -> None:
    refused = 0
    for seed in range(40):
        graph = random_graph(seed)
        branches = any(isinstance(node, (Population, Readout)) and len(node.inputs) > 1 for node in graph.nodes)
        if branches or len(graph.outputs) > 1:
            refused += 1
            with pytest.raises(LoweringError):
                stages_of(graph)
    assert refused


def test_an_input_beyond_the_messages_is_refused() -> None:
    graph = chain(1, levels=2000)
    with pytest.raises(LoweringError, match="largest value of a 16-bit message"):
        convert(graph, images(graph, 0, 4))
