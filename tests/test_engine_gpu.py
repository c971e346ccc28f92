"""The GPU engine without a GPU: its PyTorch steps on the processor. Every integer must equal the reference's."""

from __future__ import annotations

import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import Identity, Input, Population, Schedule, SpikingGraph
from fastsnn_deploy.graph.neurons import emit
from fastsnn_deploy.simulators.batched import ReferenceEngine
from fastsnn_deploy.simulators.engine import Activity, BatchRun, Recording, recordable
from fastsnn_deploy.simulators.gpu import GpuEngine, engine, kernels, neurons, products
from fastsnn_deploy.simulators.gpu.tile import Tile
from tests.random_graphs import bounds, random_graph, random_images

SEEDS = st.integers(0, 2**20)
NEURONS = st.sampled_from(["unary", "graded", "unsigned", "burst2"])
SCHEDULES = st.builds(
    Schedule,
    window=st.integers(1, 4),
    input=st.sampled_from(["once", "spread", "constant"]),
    bias=st.sampled_from(["wave", "spread", "initial"]),
    stop=st.sampled_from(["settled", "settled", "window"]),
    start_delay=st.sampled_from([0, 0, 1, 6]),
)


def names_of(graph: SpikingGraph) -> list[str]:
    return [node.name for node in graph.nodes if recordable(node)]


def assert_same(run: BatchRun, expected: BatchRun) -> None:
    assert run.steps == expected.steps
    assert_equal_arrays(run.settle_steps, expected.settle_steps)
    for mine, theirs in ((run.outputs, expected.outputs), (run.activity, expected.activity)):
        assert mine.keys() == theirs.keys()
    for name in expected.outputs:
        assert_equal_arrays(run.outputs[name], expected.outputs[name])
    for name in expected.activity:
        assert_equal_fields(run.activity[name], expected.activity[name])
    assert run.recorded.keys() == expected.recorded.keys()
    for name in expected.recorded:
        assert_equal_fields(run.recorded[name], expected.recorded[name])


def assert_equal_fields(mine: Activity | Recording, theirs: Activity | Recording) -> None:
    for field in fields(theirs):
        value, expected = getattr(mine, field.name), getattr(theirs, field.name)
        if isinstance(expected, np.ndarray):
            assert_equal_arrays(value, expected)
        else:
            assert value == expected, field.name


def assert_equal_arrays(value: np.ndarray, expected: np.ndarray) -> None:
    assert value.dtype == expected.dtype
    assert value.shape == expected.shape
    assert np.array_equal(value, expected)


def compare(graph: SpikingGraph, emitted: np.ndarray, steps: int | None, record: list[str]) -> None:
    expected = ReferenceEngine(graph).run(emitted, steps, record)
    assert_same(GpuEngine(graph, device="cpu").run(emitted, steps, record), expected)


@settings(max_examples=40)
@given(SEEDS, NEURONS, SCHEDULES, st.booleans())
def test_every_integer_of_settled_runs(seed: int, neurons: str, schedule: Schedule, balance: bool):
    graph = replace(random_graph(seed, neurons=neurons, balance=balance), schedule=schedule)
    emitted = graph.input.encode(random_images(graph, seed, 3))
    compare(graph, emitted, None, names_of(graph))


@settings(max_examples=30)
@given(SEEDS, NEURONS, SCHEDULES, st.booleans(), st.integers(1, 15))
def test_every_integer_of_runs_cut_short_or_drawn_out(
    seed: int, neurons: str, schedule: Schedule, balance: bool, steps: int
):
    graph = replace(random_graph(seed, neurons=neurons, balance=balance), schedule=schedule)
    compare(graph, graph.input.encode(random_images(graph, seed, 2)), steps, names_of(graph))
    compare(graph, graph.input.encode(random_images(graph, seed, 2)), 60, [])


@settings(max_examples=15)
@given(SEEDS, NEURONS)
def test_tiles_do_not_change_results(seed: int, neurons: str):
    graph = random_graph(seed, neurons=neurons)
    emitted = graph.input.encode(random_images(graph, seed, 5))
    names = names_of(graph)
    whole = GpuEngine(graph, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(engine.MOST, "cpu", 2)
        tiled = GpuEngine(graph, device="cpu")
        assert tiled.batch_size == 2
        for steps in (None, 9):
            parts = tiled.run(emitted, steps, names)
            patch.setitem(engine.MOST, "cpu", 64)
            assert_same(parts, whole.run(emitted, steps, names))
            patch.setitem(engine.MOST, "cpu", 2)


def test_a_tile_too_large_for_the_device_is_halved(monkeypatch: pytest.MonkeyPatch):
    graph = random_graph(5)
    emitted = graph.input.encode(random_images(graph, 5, 5))
    expected = ReferenceEngine(graph).run(emitted)
    run, sizes = Tile.run, []

    def small_device(tile: Tile):
        sizes.append(tile.batch)
        if tile.batch > 2:
            raise torch.OutOfMemoryError("too large")
        return run(tile)

    monkeypatch.setattr(Tile, "run", small_device)
    assert_same(GpuEngine(graph, device="cpu").run(emitted), expected)
    assert sizes == [5, 2, 3, 1, 2]


def test_unrolled_windows_in_parts(monkeypatch: pytest.MonkeyPatch):
    from fastsnn_deploy.simulators.gpu import statistics, synaptic_inputs

    monkeypatch.setitem(synaptic_inputs.WORKSPACE, "cpu", 1000)
    monkeypatch.setattr(statistics, "PART", 100)
    for seed in range(4):
        graph = random_graph(seed)
        compare(graph, graph.input.encode(random_images(graph, seed, 3)), None, [])


def test_no_images_and_no_steps():
    graph = random_graph(3)
    gpu, names = GpuEngine(graph, device="cpu"), names_of(graph)
    nothing, one = (graph.input.encode(random_images(graph, 0, count)) for count in (0, 1))
    for emitted, steps, length in ((nothing, None, 0), (nothing, 4, 4), (one, 0, 0)):
        run = gpu.run(emitted, steps, names)
        assert run.steps == length
        assert run.settle_steps.tolist() == [0] * len(emitted)
        for name in graph.outputs:
            assert run.outputs[name].shape == (length, len(emitted), *graph[name].shape)
        for name, activity in run.activity.items():
            assert activity.spikes.shape == activity.payload.shape == graph[name].shape
            assert not activity.spikes.any()
            assert activity.per_step.tolist() == [0] * length
            assert run.recorded[name].spikes.shape == (length, len(emitted), *graph[name].shape)


def test_what_the_engine_refuses(monkeypatch: pytest.MonkeyPatch):
    graph = random_graph(3)
    gpu = GpuEngine(graph, device="cpu")
    emitted = graph.input.encode(random_images(graph, 0, 1))
    with pytest.raises(InputError, match="range of input"):
        gpu.run(emitted + 1000)
    with pytest.raises(InputError, match="cannot record"):
        gpu.run(emitted, record=["nowhere"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"no GPU .* engine 'cpu'"):
        GpuEngine(graph)


def one_neuron(neurons: str, **options: int) -> SpikingGraph:
    source = Input(name="image", shape=(1, 1, 1), step=1.0, low=0, high=9, offset=np.zeros(1, int), scale=1.0)
    arm = Identity(
        name="arm", inputs=("image",), shape=(1, 1, 1), weight=np.array([3]), exponent=np.zeros(1, int), delay=4
    )
    population = Population(
        name="pop", inputs=("arm",), shape=(1, 1, 1), threshold=np.array([2]),
        bias=np.array([options.get("bias", 0)]), initial=np.array([options.get("initial", 1)]),
        input_scale=np.ones(1), ceiling=options.get("ceiling", 30), floor=-4, scale=1.0,
        **bounds(neurons, -4, options.get("ceiling", 30)),
    )  # fmt: skip
    return SpikingGraph((source, arm, population), ("pop",))


@pytest.mark.parametrize("initial", [-7, 0, 1, 9])
@pytest.mark.parametrize("neurons", ["unary", "graded"])
def test_neurons_that_fire_before_anything_arrives(neurons: str, initial: int):
    graph = one_neuron(neurons, initial=initial, bias=5)
    for value in (0, 4):
        for steps in (None, 3, 9):
            compare(graph, np.full((1, 1, 1, 1), value), steps, ["pop"])


@pytest.mark.parametrize("limits", [(-1, 1), (0, 1), (-17, 17), (-2, 5)])
def test_neurons_follow_the_rule(limits: tuple[int, int]):
    v, c, theta = random_states()
    tensors = [torch.from_numpy(x) for x in (v, c, theta)]
    cell = neurons.Cell(tensors[2], tensors[2], -2, 15, *limits, (64,), 0, torch.int32, False)
    assert np.array_equal(cell.emit(tensors[0], tensors[1]).numpy(), emit(v, c, theta, -2, 15, *limits))


def random_states() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Potentials of both signs up to 23 bits, exact multiples of the threshold among them; counts; thresholds."""
    rng = np.random.default_rng(0)
    theta = rng.integers(1, 10 ** rng.integers(1, 6, 64)).astype(np.int32)
    v = (rng.integers(-(2**23), 2**23, (40, 64)) >> rng.integers(0, 20, (40, 64))).astype(np.int32)
    v[:8] = theta * np.arange(-4, 4)[:, None]
    return v, rng.integers(-2, 16, (40, 64)).astype(np.int32), theta


@pytest.mark.parametrize("payload", [1, 127, 128, 16319, 16320, 2**21])
def test_int8_digits_multiply_exactly(payload: int):
    rng = np.random.default_rng(payload)
    for height, width, outputs in ((1, 1, 1), (40, 13, 9), (7, 300, 16)):
        weight = rng.integers(-127, 128, (width, outputs)).astype(np.int8)
        rows = rng.integers(-payload, payload + 1, (height, width))
        rows.flat[0], rows.flat[-1] = -payload, payload
        if np.abs(rows @ weight.astype(np.int64)).max() >= 2**31:
            weight = np.sign(weight)
        product = products.int8_product(weight, payload, torch.device("cpu"))
        result = product(torch.from_numpy(rows).to(torch.int32))
        assert np.array_equal(result.numpy(), rows @ weight.astype(np.int64))


def test_floating_point_is_used_only_where_it_is_exact():
    weight = np.full((4, 2), 100, dtype=np.int8)

    def dtype(payload: int) -> torch.dtype:
        bound = np.full(4, payload, dtype=np.int64)
        return products.make_product(weight, bound, torch.device("cpu")).weight.dtype

    assert dtype(2**24 // 400) is torch.float32
    assert dtype(2**24 // 400 + 1) is torch.float64
    with pytest.raises(OverflowError, match="not exact"):
        dtype(2**53 // 400 + 1)


def test_reduced_precision_is_off_during_a_run_and_restored():
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32"
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16), products.exact_on(torch.device("cpu")):
            assert matmul.fp32_precision == "ieee"
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before


def test_without_triton_pytorch_alone_runs(monkeypatch: pytest.MonkeyPatch):
    cpu = torch.device("cpu")
    assert kernels.load_kernels(cpu) is None
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "fastsnn_deploy.simulators.gpu.triton_source", raising=False)
    assert kernels.load_kernels(cpu) is None


def test_the_engine_is_found_by_name():
    from fastsnn_deploy.simulators.engine import ENGINES

    assert ENGINES["gpu"] is GpuEngine
    assert GpuEngine.name == "gpu"
