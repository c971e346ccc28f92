"""Streams of frames without a reset: exact on every frame, on the reference simulator and on Lava."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsnn_deploy import lava_dl
from fastsnn_deploy.backends import lava
from fastsnn_deploy.errors import BackendError, InputError
from fastsnn_deploy.graph import MaxPool2d, Population, Readout, SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.graph.run import Run
from fastsnn_deploy.lava_dl import Lif, StockConv, StockDense, StockFlatten, StockInput, StockNetwork
from fastsnn_deploy.simulators.reference import simulate
from fastsnn_deploy.simulators.streaming import Stream, stream
from tests.random_graphs import random_graph, random_images

SEEDS = st.integers(0, 2**20)
NEURONS = st.sampled_from(["unary", "graded"])


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let all subprocesses of the session share byte neurons, also where the environment forbids writing it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.getbasetemp() / "bytecode"))
        yield


def frames_of(graph: SpikingGraph, seed: int) -> np.ndarray:
    """Five frames, of which the third repeats the second and the last differs from the fourth in one pixel."""
    levels = random_images(graph, seed, 4)
    last = levels[3:].copy()
    last.flat[0] = graph.input.low if last.flat[0] == graph.input.high else graph.input.high
    return graph.input.encode(np.concatenate([levels[:2], levels[1:2], levels[3:], last]))


def assert_same(run: Run, reference: Run) -> None:
    """Every integer of every node at every step."""
    assert run.steps == reference.steps
    for key in ("spikes", "counts", "potentials"):
        found, expected = getattr(run, key), getattr(reference, key)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert found[name].dtype == values.dtype
            assert np.array_equal(found[name], values), (key, name)


@settings(max_examples=80)
@given(SEEDS, NEURONS, st.booleans())
def test_every_frame_settles_to_the_integer_network(seed: int, neurons: str, balance: bool):
    graph = random_graph(seed, neurons=neurons, balance=balance)
    frames = frames_of(graph, seed)
    result, expected = stream(graph, frames), integer_values(graph, frames)
    for node in graph.nodes:
        if isinstance(node, (Population, MaxPool2d, Readout)):
            assert np.array_equal(result.values(node.name), expected[node.name]), node.name
    assert result.exact(expected).all()
    assert (result.settle_steps() <= result.lengths).all()
    assert int(result.spikes().sum()) == sum(int(np.count_nonzero(s)) for s in result.run.spikes.values())


@given(SEEDS, NEURONS)
def test_a_repeated_frame_costs_no_message(seed: int, neurons: str):
    graph = random_graph(seed, neurons=neurons)
    result = stream(graph, frames_of(graph, seed))
    assert result.spikes()[2] == 0
    assert result.settle_steps()[2] == 0
    assert result.lengths[2] == (1 if graph.schedule.input == "once" else graph.schedule.window)


@settings(max_examples=25)
@given(SEEDS, NEURONS)
def test_a_stream_of_one_frame_is_a_run_of_one_image(seed: int, neurons: str):
    graph = random_graph(seed, neurons=neurons)
    emitted = graph.input.encode(random_images(graph, seed, 1))
    assert_same(stream(graph, emitted).run, simulate(graph, emitted))


@settings(max_examples=25)
@given(SEEDS, NEURONS)
def test_intervals(seed: int, neurons: str):
    """The steps found without an interval give the same run; longer ones the same values, whatever their lengths."""
    graph = random_graph(seed, neurons=neurons)
    frames = frames_of(graph, seed)
    free = stream(graph, frames)
    assert_same(stream(graph, frames, free.lengths).run, free.run)
    longer = stream(graph, frames, int(free.lengths.max()) + 3)
    assert (longer.starts == np.arange(5) * (int(free.lengths.max()) + 3)).all()
    assert longer.exact(integer_values(graph, frames)).all()
    assert np.array_equal(longer.spikes(), free.spikes())


def test_a_frame_that_is_cut_off_is_not_called_exact_but_the_next_long_one_is():
    graph = random_graph(3, neurons="unary", balance=False)
    frames = frames_of(graph, 3)
    expected = integer_values(graph, frames)
    short = stream(graph, frames, graph.schedule.window)
    assert not short.exact(expected).any()
    assert stream(graph, frames, [graph.schedule.window] * 4 + [100]).exact(expected)[4]


def test_bad_frames_and_intervals_are_refused():
    graph = random_graph(0)
    frames = frames_of(graph, 0)
    for wrong in (frames[:, :, :1], frames[:0], frames.astype(float), np.int64(3)):
        with pytest.raises(InputError, match=r"image|frame"):
            stream(graph, wrong)
    for interval in (0, -1, [5, 5], 2.5, [9, 9, 9, 9, 0]):
        with pytest.raises(InputError, match="one for each of the 5 frames"):
            stream(graph, frames, interval)
        with pytest.raises(InputError, match="one for each of the 5 frames"):
            lava.stream(graph, frames, interval)
    with pytest.raises(InputError, match="record"):
        lava.stream(graph, frames, record="outputs")


def on_lava(seed: int, neurons: str, balance: bool, interval: int | None) -> tuple[Stream, Stream]:
    graph = random_graph(seed, neurons=neurons, balance=balance)
    frames = frames_of(graph, seed)
    return lava.stream(graph, frames, interval, timeout=120), stream(graph, frames, interval)


@pytest.mark.lava
@pytest.mark.parametrize(
    ("seed", "neurons", "balance", "interval"), [(16, "graded", True, None), (3, "unary", False, 9)]
)  # the second spreads its input over 4 steps and is cut off
def test_lava_gives_every_integer_of_the_reference_stream(seed: int, neurons: str, balance: bool, interval: int | None):
    found, expected = on_lava(seed, neurons, balance, interval)
    assert_same(found.run, expected.run)
    assert np.array_equal(found.starts, expected.starts)
    assert np.array_equal(found.spikes(), expected.spikes())


# stock networks


def stock_network() -> StockNetwork:
    """Convolutions with and without memory, a hidden dense layer, an accumulating readout."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return rng.integers(-60, 61, shape)

    layers = (
        StockInput(shape=(2, 5, 4)),
        StockConv(shape=(3, 5, 4), weight=weights(3, 2, 3, 3), bias=weights(3), neuron=Lif(20), padding=(1, 1)),
        StockConv(
            shape=(4, 3, 2),
            weight=weights(4, 3, 3, 3),
            bias=weights(4),
            neuron=Lif(20, 1024, 128),
            stride=(2, 2),
            padding=(1, 1),
        ),
        StockFlatten(shape=(24,)),
        StockDense(shape=(6,), weight=weights(6, 24), bias=weights(6), neuron=Lif(0)),
        StockDense(shape=(3,), weight=weights(3, 6), bias=weights(3), neuron=None),
    )
    return StockNetwork(layers, input_message_bits=8)


@pytest.mark.lava
def test_a_stock_file_on_unmodified_lava_gives_the_simulators_integers():
    network = stock_network()
    frames = np.random.default_rng(1).integers(0, 9, (6, 2, 2, 5, 4))
    expected = lava_dl.run(network, frames, 9, record="outputs")
    found = lava.run_stock(network, frames, 9, timeout=120)
    for kind in ("spikes", "potentials"):
        assert getattr(found, kind)[:-1] == (None,) * 5
        assert np.array_equal(getattr(found, kind)[-1], getattr(expected, kind)[-1])


def test_bad_frames_for_a_stock_file_are_refused(monkeypatch):
    network = stock_network()
    with pytest.raises(InputError, match=r"must be integers \[T, N, 2, 5, 4\]"):
        lava.run_stock(network, np.zeros((3, 1, 2, 5, 3), dtype=np.int64), 3)
    with pytest.raises(InputError, match="must not be negative"):
        lava.run_stock(network, np.zeros((3, 1, 2, 5, 4), dtype=np.int64), -1)
    empty = lava.run_stock(network, np.zeros((3, 0, 2, 5, 4), dtype=np.int64), 4)
    assert empty.spikes[-1].shape == (4, 0, 3)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "lava.lib.dl" else object())
    with pytest.raises(BackendError, match=r"lava-dl==0\.6\.0"):
        lava.run_stock(network, np.zeros((3, 1, 2, 5, 4), dtype=np.int64), 4)
