"""Convolutions in our own loops, tap by tap and after Winograd, equal the reference whatever their shape."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsnn_deploy.graph import Conv2d, Encoded, Identity, Input, Population, Readout, Schedule, SpikingGraph
from fastsnn_deploy.simulators.batched import ReferenceEngine
from fastsnn_deploy.simulators.cpu import CpuEngine, convolution, fused, launch, winograd
from fastsnn_deploy.simulators.cpu import products as ways
from fastsnn_deploy.simulators.cpu.assembly import available
from fastsnn_deploy.simulators.cpu.plan import as_map
from fastsnn_deploy.simulators.cpu.products import Shape, products
from tests.random_graphs import bounds
from tests.test_engine import assert_equal_runs, recorded_nodes

SIDES = st.integers(1, 7)
PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@pytest.mark.slow
@pytest.mark.avx512
@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**20), st.sampled_from([1, 2, 3, 4, 6, 8, 20]), st.integers(1, 70), st.tuples(SIDES, SIDES),
    st.tuples(st.integers(1, 4), st.integers(1, 4)), PAIRS, st.tuples(st.integers(0, 3), st.integers(0, 3)), PAIRS,
    st.integers(1, 41), st.integers(0, 127),
)  # fmt: skip
def test_all_ways_to_multiply_give_the_same_synaptic_input(
    seed: int, inputs: int, outputs: int, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int],
    padding: tuple[int, int], dilation: tuple[int, int], count: int, zero: int,
):  # fmt: skip
    rng = np.random.default_rng(seed)
    size = tuple(
        max(side, d * (k - 1) + 1 - 2 * p) for side, k, p, d in zip(size, kernel, padding, dilation, strict=True)
    )
    conv = Conv2d(name="conv", shape=(outputs, 1, 1), weight=rng.integers(-128, 128, (outputs, inputs, *kernel)),
                  exponent=rng.integers(0, 3, outputs), stride=stride, padding=padding, dilation=dilation)  # fmt: skip
    conv = replace(conv, shape=conv.output_shape((inputs, *size)))
    shape = Shape((inputs, *size), as_map(conv.shape))
    rows = rng.integers(0, 2 * zero + 1, (count, inputs * size[0] * size[1])).astype(np.uint8)
    found = []
    for way in products(conv, shape, max(zero, 1), None, True):
        if way.convolution is None and found and not ways._windows_meet_the_map(conv, shape):
            continue  # PyTorch leaves the synaptic input of such windows undefined, and the trial of a plan refuses it
        synaptic_input, shift = way.call(rows, zero), way.shift(rows.dtype, zero)
        found.append(synaptic_input - shift if len(shift) else synaptic_input)
    maps = (rows.astype(np.int64) - zero).reshape(count, *size, inputs).transpose(0, 3, 1, 2)
    expected = conv.apply(maps).transpose(0, 2, 3, 1).reshape(count, -1)
    assert np.array_equal(found[0], expected)


def wide_graph(
    seed: int, channels: tuple[int, int, int], size: tuple[int, int], schedule: Schedule, *, neurons: str = "unary",
    padding: int = 1, shortcut: bool = False, ceiling: int = 3, weight: int = 7,
) -> SpikingGraph:  # fmt: skip
    """Two 3x3 convolutions on maps, the second as wide as Winograd's needs it to be, if wanted with a shortcut."""
    rng = np.random.default_rng(seed)
    inputs, hidden, outputs = channels
    image = Input(name="image", shape=(inputs, *size), step=1.0, low=0, high=60, offset=rng.integers(0, 30, inputs),
                  scale=1.0)  # fmt: skip
    first = Conv2d(name="first", inputs=("image",), shape=(hidden, *size),
                   weight=rng.integers(-7, 8, (hidden, inputs, 3, 3)), exponent=rng.integers(0, 2, hidden),
                   padding=(1, 1))  # fmt: skip
    second = Conv2d(name="second", inputs=("a",), shape=(outputs, *size),
                    weight=rng.integers(-weight, weight + 1, (outputs, hidden, 3, 3)),
                    exponent=rng.integers(0, 2, outputs), padding=(padding, padding))  # fmt: skip
    second = replace(second, shape=second.output_shape((hidden, *size)))
    last = Conv2d(name="last", inputs=("b",), shape=(3, *second.shape[1:]),
                  weight=rng.integers(-7, 8, (3, outputs, 1, 1)), exponent=np.zeros(3))  # fmt: skip
    beside = [Identity(name="beside", inputs=("a",), shape=second.shape, weight=rng.integers(-90, 90, outputs),
                       exponent=np.zeros(outputs), delay=1)] if shortcut else []  # fmt: skip
    thresholds = [rng.integers(200, 900, hidden), rng.integers(60, 700, outputs)]
    populations = [
        Population(
            name=name, inputs=arms, shape=shape, threshold=theta, bias=rng.integers(-90, 90, len(theta)),
            initial=theta // 2, input_scale=np.ones(len(theta)), ceiling=ceiling, scale=1.0,
            **bounds(neurons, 0, ceiling),
        )
        for name, arms, shape, theta in (
            ("a", ("first",), first.shape, thresholds[0]),
            ("b", ("second", *(each.name for each in beside)), second.shape, thresholds[1]),
        )
    ]  # fmt: skip
    readout = Readout(name="readout", inputs=("last",), shape=last.shape, bias=np.zeros(3), scale=np.ones(3))
    nodes = (image, first, populations[0], second, *beside, populations[1], last, readout)
    return SpikingGraph(nodes=nodes, outputs=("readout",), schedule=schedule)


SCHEDULES = [
    Schedule(window=window, input=how, bias=bias, stop=stop, start_delay=start_delay)
    for window, (how, bias), stop, start_delay in product(
        (1, 3, 7, 15, 23), (("spread", "spread"), ("once", "initial"), ("once", "wave")), ("settled", "window"), (0, 2)
    )
]


def equal(graph: SpikingGraph, images: int, seed: int = 0, **options: object) -> None:
    """Both ways to run the engine, in which neurons take different loops, equal the reference."""
    emitted = graph.input.encode(np.random.default_rng(seed).integers(0, 61, (images, *graph.input.shape)))
    for names in ([], recorded_nodes(graph)):
        run = CpuEngine(graph, 1, **options).run(emitted, None, names)  # type: ignore[arg-type]
        assert_equal_runs(run, ReferenceEngine(graph).run(emitted, None, names))


@pytest.mark.slow
@pytest.mark.avx512
@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**20), st.sampled_from(SCHEDULES), st.tuples(st.integers(3, 7), st.integers(3, 7)),
    st.sampled_from([1, 16, 31, 48, 64, 65]), st.integers(0, 2), st.sampled_from(["unary", "unsigned", "graded"]),
    st.booleans(), st.integers(1, 5), st.sampled_from([-1.0, 0.01, 0.3]), st.sampled_from([1, 3, 7, 15, 16]),
)  # fmt: skip
def test_wide_maps_equal_the_reference(
    seed: int, schedule: Schedule, size: tuple[int, int], outputs: int, padding: int, neurons: str, shortcut: bool,
    images: int, density: float, ceiling: int,
):  # fmt: skip
    if shortcut:
        outputs, padding = 64, 1
    channels = (1 + seed % 5, 64, outputs)
    graph = wide_graph(seed, channels, size, schedule, neurons=neurons, padding=padding, shortcut=shortcut,
                       ceiling=ceiling)  # fmt: skip
    equal(graph, images, seed, density=density)


@pytest.mark.avx512
@pytest.mark.parametrize("window", [3, 7])
@pytest.mark.parametrize("stop", ["settled", "window"])
def test_bands_and_slices_do_not_matter(monkeypatch: pytest.MonkeyPatch, window: int, stop: str):
    schedule = Schedule(window=window, input="spread", bias="spread", stop=stop)
    graph = wide_graph(3, (3, 64, 40), (9, 7), schedule)
    monkeypatch.setattr(winograd, "TERM_BYTES", 50_000)
    monkeypatch.setattr(winograd, "SLICE_BYTES", 1)
    monkeypatch.setattr(convolution, "SLICE_BYTES", 1)
    monkeypatch.setattr(launch, "CACHE_BYTES", 1)
    equal(graph, 9)


@pytest.mark.parametrize("stop", ["settled", "window"])
def test_without_the_instructions_the_integers_are_the_same(monkeypatch: pytest.MonkeyPatch, stop: str):
    schedule = Schedule(window=3, input="spread", bias="spread", stop=stop)
    graph = wide_graph(4, (3, 64, 40), (6, 5), schedule)
    monkeypatch.setattr(ways, "available", lambda: False)
    monkeypatch.setattr(fused, "available", lambda: False)
    equal(graph, 4)


@pytest.mark.parametrize(("weight", "fits"), [(14, True), (15, False)])
def test_transformed_weights_must_be_bytes(weight: int, fits: bool):
    """Nine weights of 14 make 126, of 15 more than a byte holds."""
    source = (64, 4, 4)
    conv = Conv2d(name="conv", shape=(2, 4, 4), weight=np.full((2, 64, 3, 3), weight), exponent=np.zeros(2),
                  padding=(1, 1))  # fmt: skip
    assert winograd.gains(conv, source, (2, 4, 4), 1) == fits
    assert winograd.gains(replace(conv, weight=-conv.weight), source, (2, 4, 4), 31) == fits
    assert not winograd.gains(conv, source, (2, 4, 4), 32)


@pytest.mark.avx512
@pytest.mark.parametrize("weight", [14, 127])
def test_large_weights_on_wide_maps_are_exact(weight: int):
    schedule = Schedule(window=7, input="spread", bias="spread", stop="settled")
    equal(wide_graph(5, (3, 64, 33), (5, 6), schedule, weight=weight), 5)


def test_the_plan_takes_the_fast_ways_where_they_exist():
    graph = wide_graph(6, (3, 64, 64), (6, 6), SCHEDULES[0])
    plan = CpuEngine(graph, 1).plan
    kinds = {name: type(plan.synapses[name].product.convolution).__name__ for name in ("first", "second", "last")}
    fast = {"first": "Convolution", "second": "Winograd", "last": "Convolution"}
    assert kinds == (fast if available() else dict.fromkeys(fast, "NoneType"))
    public = CpuEngine(graph, 1, private=False).plan
    assert all(public.synapses[name].product.convolution is None for name in fast)


@pytest.mark.avx512
@pytest.mark.parametrize("how", ["once", "spread"])
def test_inputs_outside_their_range_are_exact(how: str):
    """Encoding never makes them, but they are allowed up to the range's greatest magnitude; bytes do not hold them."""
    graph = wide_graph(7, (3, 64, 16), (5, 5), Schedule(window=3, input=how, bias="spread", stop="settled"))
    bound = np.maximum(graph.input.offset, 60 - graph.input.offset).reshape(1, -1, 1, 1)
    emitted = np.random.default_rng(0).integers(-60, 61, (4, 3, 5, 5)).clip(-bound, bound).view(Encoded)
    assert_equal_runs(CpuEngine(graph, 1).run(emitted), ReferenceEngine(graph).run(emitted))
