"""The spiking graph: validation lists every broken rule, files round-trip, hostile files are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from fastsnn_deploy.errors import GraphError, InputError
from fastsnn_deploy.graph import (
    Concat,
    Conv2d,
    Flatten,
    Input,
    Linear,
    MaxPool2d,
    Node,
    Population,
    Readout,
    SpikingGraph,
    load,
    save,
)
from fastsnn_deploy.graph.arithmetic import exact_matmul, quantise, round_half_up
from fastsnn_deploy.graph.encoded import Encoded
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.graph.ranges import STATE_MAX
from fastsnn_deploy.graph.schedule import Injection
from fastsnn_deploy.passes.balance import balanced
from fastsnn_deploy.simulators.reference import simulate
from tests.random_graphs import random_graph, random_images

SEEDS = st.integers(0, 2**20)


def small_graph(**changes: dict) -> SpikingGraph:
    """input (1, 4, 5) -> conv -> population -> flatten -> linear -> readout, with fields changed by node name."""
    nodes: list[Node] = [
        Input(name="image", shape=(1, 4, 5), step=1.0, low=0, high=15, offset=np.zeros(1, int), scale=1.0),
        Conv2d(
            name="conv", inputs=("image",), shape=(2, 2, 3), weight=np.ones((2, 1, 3, 3), int),
            exponent=np.zeros(2, int),
        ),
        Population(
            name="pop", inputs=("conv",), shape=(2, 2, 3), threshold=np.full(2, 8), bias=np.zeros(2, int),
            initial=np.full(2, 4), input_scale=np.ones(2), ceiling=3, scale=1.0,
        ),
        Flatten(name="flat", inputs=("pop",), shape=(12,)),
        Linear(name="fc", inputs=("flat",), shape=(3,), weight=np.ones((3, 12), int), exponent=np.zeros(3, int)),
        Readout(name="out", inputs=("fc",), shape=(3,), bias=np.zeros(3, int), scale=np.ones(3)),
    ]  # fmt: skip
    nodes = [replace(node, **changes.get(node.name, {})) for node in nodes]
    return SpikingGraph(tuple(nodes), ("out",))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("pop", {"threshold": np.array([8, -1])}, "threshold -1 of channel 1 is not positive"),
        ("pop", {"threshold": np.array([8, 0])}, "threshold 0 of channel 1"),
        ("pop", {"threshold": np.array([8])}, "threshold has shape (1,), needs (2,)"),
        ("pop", {"threshold": np.array([8, 2**40])}, "threshold must hold integers of 32 signed bits"),
        ("pop", {"ceiling": 0}, "count bounds [0, 0]"),
        ("pop", {"floor": 1}, "count bounds [1, 3]"),
        ("pop", {"max_spike": 0}, "spike bounds [-1, 0]"),
        ("pop", {"scale": float("nan")}, "scales must be positive"),
        ("pop", {"shape": (2, 3, 2)}, "has shape (2, 3, 2), but its inputs make (2, 2, 3)"),
        ("pop", {"inputs": ()}, "reads nothing"),
        ("pop", {"inputs": ("image",)}, "reads synaptic input, but 'image' emits spikes"),
        ("conv", {"exponent": np.array([0, 14])}, "exponents span [0, 14]"),
        ("conv", {"exponent": np.array([-1, 0])}, "exponents span [-1, 0]"),
        ("conv", {"delay": 0}, "delay (0,)"),
        ("conv", {"stride": (0, 1)}, "stride is (0, 1)"),
        ("conv", {"groups": 3}, "expects a source of 3 channels"),
        ("conv", {"dilation": (3, 1)}, "does not fit into (4, 5)"),
        ("fc", {"weight": np.ones((3, 11), int)}, "expects a source of shape (11,), got (12,)"),
        ("flat", {"shape": (11,)}, "has shape (11,), but its inputs make (12,)"),
        ("image", {"step": 0.0}, "step 0.0"),
        ("image", {"high": 0}, "levels [0, 0] are empty"),
        ("image", {"shape": (1, 4)}, "shape (1, 4) is not (N,) or (C, H, W)"),
        ("out", {"bias": np.full(3, 2**30)}, "beyond 24 signed bits"),
        ("out", {"scale": np.array([1, 0, 1])}, "scales must be positive"),
    ],
)
def test_each_broken_rule_is_named(name: str, change: dict, message: str):
    with pytest.raises(GraphError) as caught:
        small_graph(**{name: change})
    assert message in str(caught.value)
    assert name in str(caught.value)


def test_all_problems_of_a_group_are_listed():
    with pytest.raises(GraphError) as caught:
        small_graph(pop={"threshold": np.array([-3, 5]), "max_spike": 0}, conv={"exponent": np.array([99, 0])})
    assert len(caught.value.problems) == 3


def test_weights_beyond_8_bits_are_refused():
    with pytest.raises(ValueError, match="weight holds values that do not fit int8"):
        small_graph(conv={"weight": np.full((2, 1, 3, 3), 200)})


def test_cycles_unknown_inputs_and_duplicate_names_are_refused():
    nodes = small_graph().nodes
    with pytest.raises(GraphError, match="cycle"):
        SpikingGraph((*nodes[:1], replace(nodes[1], inputs=("pop",)), *nodes[2:]), ("out",))
    with pytest.raises(GraphError, match="reads 'ghost'"):
        SpikingGraph((*nodes[:1], replace(nodes[1], inputs=("ghost",)), *nodes[2:]), ("out",))
    with pytest.raises(GraphError, match="used twice"):
        SpikingGraph((*nodes, nodes[0]), ("out",))


def test_outputs_and_inputs_are_checked():
    nodes = small_graph().nodes
    with pytest.raises(GraphError, match="has no output"):
        SpikingGraph(nodes, ())
    with pytest.raises(GraphError, match="'conv' is not a readout"):
        SpikingGraph(nodes, ("conv",))
    with pytest.raises(GraphError, match="2 inputs"):
        SpikingGraph((*nodes, replace(nodes[0], name="second")), ("out",))


def test_a_synapse_feeds_one_population():
    nodes = small_graph().nodes
    with pytest.raises(GraphError, match="feeds 2 populations"):
        SpikingGraph((*nodes, replace(nodes[2], name="quantised")), ("out",))


def test_a_max_pool_window_beside_the_map_is_refused():
    pool = MaxPool2d(
        name="pool", inputs=("image",), shape=(1, 1, 1), kernel=(1, 2), stride=(2, 2), padding=(0, 1), dilation=(2, 2)
    )
    image = Input(name="image", shape=(1, 1, 1), step=1.0, low=0, high=1, offset=np.zeros(1, int), scale=1.0)
    with pytest.raises(GraphError, match="holds no position"):
        SpikingGraph(
            (
                image,
                pool,
                Flatten(name="flat", inputs=("pool",), shape=(1,)),
                Linear(name="fc", inputs=("flat",), shape=(1,), weight=np.ones((1, 1), int), exponent=np.zeros(1, int)),
                Readout(name="out", inputs=("fc",), shape=(1,), bias=np.zeros(1, int), scale=np.ones(1)),
            ),
            ("out",),
        )


def test_any_order_is_accepted():
    graph = small_graph()
    assert SpikingGraph(graph.nodes[::-1], graph.outputs).depths == graph.depths


def test_arrays_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        small_graph()["conv"].weight[0] = 1


@given(SEEDS)
def test_balanced_arms_arrive_together_and_nothing_else_changes(seed: int):
    graph = random_graph(seed, balance=False)
    level = balanced(graph)
    for node in level.nodes:
        if isinstance(node, (Population, Readout, Concat)):
            arrivals = {level.depths[name] + delay for name, delay in zip(node.inputs, node.edge_delays, strict=True)}
            assert arrivals == {level.depths[node.name]}
    assert level.depths == graph.depths | {s.name: level.depths[s.name] for s in level.synapses}
    emitted = graph.input.encode(random_images(graph, seed))
    before, after = integer_values(graph, emitted), integer_values(level, emitted)
    assert all(np.array_equal(before[name], after[name]) for name in before)


@given(SEEDS)
def test_file_round_trip_is_equal(tmp_path_factory: pytest.TempPathFactory, seed: int):
    graph = random_graph(seed, neurons="graded" if seed % 2 else "unary")
    path = tmp_path_factory.mktemp("graph") / "graph.safetensors"
    save(graph, path)
    assert load(path) == graph
    assert sorted(p.name for p in path.parent.iterdir()) == ["graph.safetensors"]


def test_unequal_graphs_are_unequal():
    graph = small_graph()
    assert graph == small_graph()
    assert graph != small_graph(pop={"threshold": np.array([8, 9])})
    assert graph != small_graph(pop={"min_spike": -3, "max_spike": 3})
    assert graph != replace(graph, metadata={"a": "b"})


def _rewrite(source: Path, target: Path, change) -> None:
    """Copy a graph file with its header's graph changed."""
    from safetensors import safe_open

    with safe_open(source, framework="numpy") as file:
        header = dict(file.metadata())
    content = json.loads(header["graph"])
    change(header, content)
    if "graph" in header:
        header["graph"] = json.dumps(content)
    save_file(load_file(source), target, metadata=header)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, g: h.update(format="other"), "not a spiking graph"),
        (lambda h, g: h.update(version="99"), "version 99"),
        (lambda h, g: h.pop("graph"), "is not JSON"),
        (lambda h, g: g.pop("nodes"), "damaged"),
        (lambda h, g: g["nodes"][1].update(type="os.system"), "node type 'os.system' is not known"),
        (lambda h, g: g["nodes"][1].update(surprise=1), "has no field surprise"),
        (lambda h, g: g["nodes"][1].pop("stride"), ""),
        (lambda h, g: g["nodes"][1].update(shape=[10**9, 10**9, 10**9]), "has shape"),
        (lambda h, g: g["nodes"][2].update(ceiling=2**70), "ceiling"),
        (lambda h, g: g["schedule"].update(window=-1), "window -1"),
        (lambda h, g: g.update(nodes="abc"), "damaged"),
    ],
)
def test_damaged_files_give_one_clear_message(tmp_path: Path, change, message: str):
    save(small_graph(), tmp_path / "good")
    _rewrite(tmp_path / "good", tmp_path / "bad", change)
    if message == "":  # a missing field with a default is that default
        assert load(tmp_path / "bad") == small_graph()
        return
    with pytest.raises(InputError, match="bad: ") as caught:
        load(tmp_path / "bad")
    assert message in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x08\0\0\0\0\0\0\0{}      "])
def test_files_of_other_kinds_are_refused(tmp_path: Path, content: bytes):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError, match="file: "):
        load(tmp_path / "file")


def test_truncated_and_missing_files_are_refused(tmp_path: Path):
    save(small_graph(), tmp_path / "good")
    whole = (tmp_path / "good").read_bytes()
    for size in (4, 100, len(whole) - 1):
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(InputError, match="cut: "):
            load(tmp_path / "cut")
    with pytest.raises(InputError, match="no such spiking graph file"):
        load(tmp_path / "missing")
    with pytest.raises(InputError, match="is a folder"):
        load(tmp_path)


def test_a_failing_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "graph"
    save(small_graph(), path)
    before = path.read_bytes()

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(InputError, match="No space left"):
        save(small_graph(pop={"ceiling": 1}), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_rounding_is_half_up():
    assert round_half_up([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]).tolist() == [-2, -1, 0, 1, 2, 3]
    synaptic_inputs = np.arange(-9, 20)
    expected = [min(max((int(a) + 2) // 5, 0), 3) for a in synaptic_inputs]
    assert quantise(synaptic_inputs, np.int64(5), np.int64(2), 0, 3).tolist() == expected


@given(st.integers(-(10**6), 10**6), st.integers(1, 40))
def test_spread_adds_up_evenly(total: int, window: int):
    parts = [int(Injection(window, window).share(np.int64(total), step)) for step in range(-1, window + 1)]
    assert sum(parts) == total
    assert parts[0] == parts[-1] == 0
    assert max(parts[1:-1]) - min(parts[1:-1]) <= 1


def test_exact_matmul_refuses_what_it_cannot_promise():
    with pytest.raises(OverflowError, match="not exact"):
        exact_matmul(np.full((1, 2), 2**30), np.full((2, 1), 2**30))


@given(SEEDS)
def test_ranges_hold_for_every_value_of_a_run(seed: int):
    graph = random_graph(seed)
    bounds = graph.ranges
    run = simulate(graph, graph.input.encode(random_images(graph, seed, 4)))
    for series, suffix in ((run.potentials, ".potential"), (run.counts, "")):
        for name, values in series.items():
            channels = np.moveaxis(values, 2, 0).reshape(values.shape[2], -1)
            bound = bounds[name + suffix] if name + suffix in bounds else bounds[name]
            assert (channels.min(1) >= bound.low).all()
            assert (channels.max(1) <= bound.high).all()


def test_a_potential_at_the_edge_of_the_state_is_allowed_and_exact():
    limit = STATE_MAX - 12 * 3
    graph = small_graph(out={"bias": np.full(3, limit)})
    emitted = np.full((1, 1, 4, 5), 15)
    assert simulate(graph, emitted).final("out").tolist() == [[STATE_MAX] * 3]
    with pytest.raises(GraphError, match="beyond 24"):
        small_graph(out={"bias": np.full(3, limit + 1)})


def test_encode_checks_images():
    source = small_graph().input
    with pytest.raises(InputError, match=r"takes \(N, 1, 4, 5\)"):
        source.encode(np.zeros((2, 4, 5)))
    with pytest.raises(InputError, match="NaN"):
        source.encode(np.full((1, 1, 4, 5), np.nan))
    with pytest.raises(InputError, match="outside its levels"):
        source.encode(np.full((1, 1, 4, 5), 16))
    assert source.encode(np.full((1, 1, 4, 5), 2.5)).max() == 3
    with pytest.raises(InputError, match="outside"):
        source.encode(np.full((1, 1, 4, 5), 99.0))
    encoded = source.encode(np.full((1, 4, 5), 15.4))
    assert type(encoded) is Encoded
    assert source.encode(encoded) is encoded
    assert source.encode(encoded[:0]).shape == (0, 1, 4, 5)
    with pytest.raises(InputError, match="encoded images"):
        source.encode(Encoded(np.zeros((1, 4, 5, 1))))
