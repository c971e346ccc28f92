"""The batched engines equal the reference simulator in every integer, whatever the graph, schedule and batch."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsnn_deploy.errors import GraphError, InputError
from fastsnn_deploy.graph import Conv2d, Identity, Input, Linear, Population, Readout, SpikingGraph, SumPool2d
from fastsnn_deploy.simulators import BatchRun, Engine, open_engine
from fastsnn_deploy.simulators.batched import ReferenceEngine
from fastsnn_deploy.simulators.cpu import CpuEngine
from fastsnn_deploy.simulators.cpu.plan import Plan, as_map
from fastsnn_deploy.simulators.cpu.products import Shape, products
from fastsnn_deploy.simulators.cpu.tile import Tile
from fastsnn_deploy.simulators.engine import recordable
from fastsnn_deploy.simulators.gpu import GpuEngine
from tests.random_graphs import random_graph, random_images

SEEDS = st.integers(0, 2**20)
NEURONS = st.sampled_from(["unary", "graded", "unsigned", "burst2"])
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
@given(
    SEEDS, NEURONS, st.booleans(), DENSITIES, st.booleans(), st.sampled_from([None, 0, 1, 3, 7, 30]),
    st.sampled_from(["settled", "settled", "window"]), st.sampled_from([0, 0, 1, 6]),
)  # fmt: skip
def test_cpu_equals_the_reference_in_every_integer(
    seed: int, neurons: str, balance: bool, density: float, private: bool, steps: int | None, stop: str, wait: int
):
    graph, emitted = case(seed, neurons=neurons, balance=balance)
    graph = replace(graph, schedule=replace(graph.schedule, stop=stop, start_delay=wait))
    for names in (recorded_nodes(graph), []):  # neurons that nobody watches take other loops
        run = CpuEngine(graph, 1, private=private, density=density).run(emitted, steps, names)
        assert_equal_runs(run, ReferenceEngine(graph).run(emitted, steps, names))


@settings(max_examples=30, deadline=None)
@given(SEEDS, NEURONS, st.integers(1, 4), st.integers(1, 3))
def test_results_do_not_depend_on_tile_batch_and_threads(seed: int, neurons: str, tile: int, threads: int):
    graph, emitted = case(seed, images=7, neurons=neurons)
    names = recorded_nodes(graph)
    expected = CpuEngine(graph, 1, tile=7).run(emitted, None, names)
    assert_equal_runs(CpuEngine(graph, threads, tile=tile, cache_bytes=tile).run(emitted, None, names), expected)


@pytest.mark.parametrize("name", ["cpu", "reference"])
@pytest.mark.parametrize("steps", [None, 0, 5])
def test_empty_batches_and_no_steps(name: str, steps: int | None):
    graph, emitted = case(3)
    for images in (emitted[:0], emitted):
        names = recorded_nodes(graph)
        run = open_engine(graph, name).run(images, steps, names)
        assert run.settle_steps.shape == (len(images),)
        assert_equal_runs(run, ReferenceEngine(graph).run(images, steps, names))


def heavy_graph(weight: int, inputs: int, positive: bool) -> SpikingGraph:
    """One linear layer whose synaptic input comes as close to 24 bits as its weights let it."""
    signs = np.ones((4, inputs)) if positive else np.where(np.arange(inputs) % 2, 1, -1) * np.ones((4, 1))
    image = Input(name="image", shape=(inputs,), step=1.0, low=0, high=255, offset=np.zeros(inputs), scale=1.0)
    first = Identity(name="in", inputs=("image",), shape=(inputs,), weight=np.ones(inputs), exponent=np.zeros(inputs))
    hidden = Population(
        name="hidden", inputs=("in",), shape=(inputs,), threshold=np.full(inputs, 85), bias=np.zeros(inputs),
        initial=np.full(inputs, 42), input_scale=np.ones(inputs), ceiling=3, scale=1.0,
    )  # fmt: skip
    last = Linear(
        name="out", inputs=("hidden",), shape=(4,), weight=weight * signs, exponent=np.full(4, 4)
    )  # 3 * weight * 16 * inputs below 2**23
    readout = Readout(name="readout", inputs=("out",), shape=(4,), bias=np.zeros(4), scale=np.ones(4))
    return SpikingGraph(nodes=(image, first, hidden, last, readout), outputs=("readout",))


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("positive", [True, False])
def test_sums_at_the_edge_of_24_bits_are_exact(private: bool, positive: bool):
    graph = heavy_graph(127, 1376, positive)
    emitted = np.stack([np.full(1376, 255), np.arange(1376) % 256, np.where(np.arange(1376) % 2, 255, 0)])
    expected = ReferenceEngine(graph).run(emitted)
    assert np.abs(expected.outputs["readout"]).max() > 0.99 * 2**23 or not positive
    assert_equal_runs(CpuEngine(graph, 1, private=private, density=-1).run(emitted), expected)
    assert_equal_runs(CpuEngine(graph, 1, private=private, density=2).run(emitted), expected)


def test_one_more_bit_is_refused_when_the_graph_is_made():
    with pytest.raises(GraphError, match="24 signed bits"):
        heavy_graph(127, 1377, True)


def test_convolutions_whose_windows_miss_the_map_take_the_public_path():
    """oneDNN leaves such synaptic inputs undefined; the engine must not ask it."""
    weight = np.array([[[[3], [-2]]]])
    for padding in ((2, 0), (3, 1)):
        conv = Conv2d(name="conv", inputs=("image",), shape=(1, 1, 1), weight=weight, exponent=[0], padding=padding)
        shape = conv.output_shape((1, 1, 3))
        conv = replace(conv, shape=shape)
        rows = np.random.default_rng(0).integers(0, 3, (5, 3)).astype(np.uint8)
        way = next(products(conv, Shape((1, 1, 3), shape), 1, None, True))
        synaptic_input = way.call(rows, 1)
        expected = conv.apply(rows.reshape(5, 1, 1, 3).astype(np.int64) - 1).transpose(0, 2, 3, 1).reshape(5, -1)
        shift = way.shift(rows.dtype, 1)
        assert np.array_equal(synaptic_input - shift if len(shift) else synaptic_input, expected)


@pytest.mark.parametrize("density", [-1.0, 0.02, 2.0])
def test_parallel_identities_add_up(density: float):
    """The two parts of a shortcut, one that comes later, and a convolution beside them."""
    rng = np.random.default_rng(0)
    image = Input(name="image", shape=(3, 4, 5), step=1.0, low=0, high=255, offset=np.zeros(3), scale=1.0)
    parts = [
        Identity(name=f"part{i}", inputs=("image",), shape=(3, 4, 5), weight=rng.integers(-127, 128, 3),
                 exponent=np.full(3, exponent), delay=delay)
        for i, (exponent, delay) in enumerate([(5, 1), (0, 1), (2, 3), (1, 3)])
    ]  # fmt: skip
    conv = Conv2d(name="conv", inputs=("image",), shape=(3, 4, 5), weight=rng.integers(-8, 8, (3, 3, 3, 3)),
                  exponent=np.zeros(3), padding=(1, 1))  # fmt: skip
    hidden = Population(
        name="hidden", inputs=("part0", "conv", "part1", "part2", "part3"), shape=(3, 4, 5),
        threshold=np.full(3, 30_000), bias=np.zeros(3), initial=np.full(3, 15_000), input_scale=np.ones(3), ceiling=9,
        scale=1.0,
    )  # fmt: skip
    last = [replace(part, name=f"last{i}", inputs=("hidden",)) for i, part in enumerate(parts)]
    readout = Readout(name="readout", inputs=tuple(each.name for each in last), shape=(3, 4, 5), bias=np.zeros(3),
                      scale=np.ones(3))  # fmt: skip
    graph = SpikingGraph(nodes=(image, *parts, conv, hidden, *last, readout), outputs=("readout",))
    emitted = graph.input.encode(rng.integers(0, 256, (9, 3, 4, 5)))
    for engine in (CpuEngine(graph, 1, density=density), GpuEngine(graph, device="cpu")):
        run = engine.run(emitted, None, ["hidden", "readout"])
        assert_equal_runs(run, ReferenceEngine(graph).run(emitted, None, ["hidden", "readout"]))


@pytest.mark.parametrize("private", [True, False])
def test_narrow_maps_of_one_channel_are_exact(private: bool):
    """PyTorch 2.13 leaves the last position of this convolution in float32 undefined."""
    pool = {"kernel": (3, 3), "stride": (1, 2), "padding": (1, 0)}
    image = Input(name="image", shape=(1, 5, 3), step=1.0, low=0, high=255, offset=np.zeros(1), scale=1.0)
    summed = SumPool2d(name="sum", inputs=("image",), shape=(1, 5, 1), weight=[-2], exponent=[0], **pool)
    readout = Readout(name="readout", inputs=("sum",), shape=(1, 5, 1), bias=np.zeros(1), scale=np.ones(1))
    graph = SpikingGraph(nodes=(image, summed, readout), outputs=("readout",))
    emitted = graph.input.encode(np.random.default_rng(0).integers(0, 256, (9, 1, 5, 3)))
    run = CpuEngine(graph, 1, private=private, density=-1.0).run(emitted)
    assert_equal_runs(run, ReferenceEngine(graph).run(emitted))


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("count", [1, 3, 7, 14, 28, 35])
def test_products_of_narrow_maps_whatever_the_number_of_rows(private: bool, count: int):
    """From 7 or 14 rows on oneDNN leaves some of these undefined, and the trial of a product has fewer."""
    rng = np.random.default_rng(count)
    sizes, kernels = [(7, 2), (3, 3), (2, 7), (4, 1)], [(1, 2), (2, 2), (3, 3)]
    strides, paddings = [(1, 2), (1, 3), (3, 1)], [(0, 0), (1, 1)]
    cases = product(sizes, kernels, strides, paddings, [1, 2, 4], [1, 2])
    for (height, width), kernel, stride, padding, outputs, groups in cases:
        if any(size + 2 * pad < k or pad >= k for size, pad, k in zip((height, width), padding, kernel, strict=True)):
            continue
        channels = outputs * groups
        conv = Conv2d(name="conv", shape=(channels, 1, 1), weight=rng.integers(-7, 8, (channels, 1, *kernel)),
                      exponent=np.zeros(channels), stride=stride, padding=padding, groups=groups)  # fmt: skip
        conv = replace(conv, shape=conv.output_shape((groups, height, width)))
        rows = rng.integers(0, 3, (count, height * width * groups))
        way = next(products(conv, Shape((groups, height, width), as_map(conv.shape)), 1, None, private))
        maps = (rows - 1).reshape(count, height, width, groups).transpose(0, 3, 1, 2)
        expected = conv.apply(maps).transpose(0, 2, 3, 1).reshape(count, -1)
        for sent in (rows.astype(np.uint8), (rows - 1).astype(np.float32)):
            zero = 1 if sent.dtype == np.uint8 else 0
            synaptic_input, shift = way.call(sent, zero), way.shift(sent.dtype, zero)
            assert np.array_equal(synaptic_input - shift if len(shift) else synaptic_input, expected), (
                height,
                width,
                kernel,
                stride,
            )


def test_wrong_arguments_are_refused():
    graph, emitted = case(3)
    engine: Engine = open_engine(graph, "cpu")
    for bad in (emitted[:, :0], emitted.astype(float), emitted * 1000 + 1000):
        with pytest.raises(InputError, match="image"):
            engine.run(bad)
    with pytest.raises(InputError, match="at least 0"):
        engine.run(emitted, -1)
    with pytest.raises(InputError, match="nowhere"):
        engine.run(emitted, record=["nowhere"])
    with pytest.raises(InputError, match="not known"):
        open_engine(graph, "abacus")


def test_memory_of_a_run_grows_with_the_tile_only():
    """Spikes of a source are dropped as soon as its last reader has seen them."""
    graph, emitted = case(11, blocks=8)
    tile = Tile(Plan(graph), emitted, None, (), 0.02, 2**20)
    tile.run()
    assert not [name for name in tile.series if tile.plan.readers[name]]
