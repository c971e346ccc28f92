"""Sigma-delta networks: the error stays within its bound, the units fit, other graphs are refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from fastsnn_deploy.errors import InputError, LoweringError
from fastsnn_deploy.formats import netx
from fastsnn_deploy.graph import MaxPool2d, Population, Readout, SpikingGraph, Synapse
from fastsnn_deploy.graph.arithmetic import per_channel
from fastsnn_deploy.lava_dl import StockConv, StockDense, difference, run
from fastsnn_deploy.targets.sigma_delta.convert import MESSAGE_UNITS, SigmaDeltaNetwork, convert
from fastsnn_deploy.targets.sigma_delta.measure import activations_of, compare
from fastsnn_deploy.targets.sigma_delta.merge import stages_of
from tests.conformance.chains import chain, images, residual
from tests.random_graphs import random_graph, random_images


def accepted(graph: SpikingGraph, emitted: np.ndarray) -> SigmaDeltaNetwork:
    """The conversion; chains with a layer whose weights all round to 0 are refused, and another is drawn."""
    try:
        return convert(graph, emitted)
    except InputError as error:
        if all("all weights" in str(problem) for problem in error.problems):
            reject()
        raise


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_the_error_of_every_layer_stays_within_its_bound(seed: int) -> None:
    graph = chain(seed)
    emitted = images(graph, seed, 8)
    converted = accepted(graph, emitted)
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
    converted = accepted(graph, emitted)
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
    assert "Train with average pooling or strided convolutions in its place" in str(caught.value)
    signed = replace(graph.nodes[2], floor=-15)
    nodes = [signed if node.name == signed.name else node for node in graph.nodes]
    with pytest.raises(LoweringError, match="has a ReLU"):
        stages_of(replace(graph, nodes=tuple(nodes)))


def real_values(graph: SpikingGraph, emitted: np.ndarray) -> dict[str, np.ndarray]:
    """The real-valued ReLU network, node by node, without the chain: float64 [N, *node shape]."""
    values: dict[str, np.ndarray] = {graph.input.name: emitted.astype(np.float64)}
    for node in graph.nodes[1:]:
        sources = [values[name] for name in node.inputs]
        if isinstance(node, Synapse):
            shape = graph[node.inputs[0]].shape
            inside = int(np.prod(shape))
            matrix = node.apply(np.eye(inside, dtype=np.int64).reshape(inside, *shape)).reshape(inside, -1)
            values[node.name] = (sources[0].reshape(len(emitted), -1) @ matrix).reshape(-1, *node.shape)
        elif isinstance(node, Readout):
            values[node.name] = sum(sources) + per_channel(node.bias, len(node.shape))
        elif isinstance(node, Population):
            bias = node.bias + node.initial - node.threshold // 2
            total = sum(sources) + per_channel(bias, len(node.shape))
            values[node.name] = np.maximum(total / per_channel(node.threshold, len(node.shape)), 0.0)
        else:
            values[node.name] = node.value(*sources)
    return values


REFUSED = ("cannot take a maximum", "has a ReLU", "has values below 0 and is read", "must have one readout")


def assert_known(error: LoweringError) -> None:
    for problem in error.problems:
        assert any(reason in problem.what for reason in REFUSED), str(error)


def test_branches_stay_within_their_bounds_and_are_the_real_valued_network() -> None:
    found: Counter[str] = Counter()
    for seed in range(120):
        graph = random_graph(seed, max_size=7, max_channels=3)
        emitted = graph.input.encode(random_images(graph, seed, 4))
        try:
            converted = convert(graph, emitted)
        except LoweringError as error:
            assert_known(error)
            found["refused"] += 1
            continue
        real, expected = emitted.astype(np.float64), real_values(graph, emitted)
        assert not set(graph.outputs) - {unit.node.name for stage in converted.stages for unit in stage.units}
        values = activations_of(converted, emitted)
        for stage, bound, value in zip(converted.stages, converted.bounds, values, strict=True):
            real = stage.real(real)
            assert (np.abs(value - real).max(axis=(0, *range(2, real.ndim))) <= bound.activation).all(), seed
            for unit in stage.units:
                np.testing.assert_allclose(unit.read(real), expected[unit.node.name], rtol=1e-9, atol=1e-9)
            computed = sum(rows.stop - rows.start for unit in stage.units for rows, _ in unit.parts)
            found["relays"] += computed < stage.shape[0]
            found["phases"] += any(len(unit.parts) > 1 for unit in stage.units)
    assert found["refused"] < 100
    assert found["relays"] > 10
    assert found["phases"]


def test_comparison_names_the_units_of_a_residual_graph() -> None:
    graph = residual()
    emitted = graph.input.encode(random_images(graph, 0, 30))
    result = compare(convert(graph, emitted), graph, emitted)
    assert sorted(layer.name for layer in result.layers) == sorted([*(p.name for p in graph.populations), "readout"])
    assert all(layer.largest <= layer.bound for layer in result.layers)


def test_an_input_beyond_the_messages_is_refused() -> None:
    graph = chain(1, levels=2000)
    with pytest.raises(LoweringError, match="largest value of a 16-bit spike"):
        convert(graph, images(graph, 0, 4))
