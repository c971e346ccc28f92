"""Counting against brute force, energy against numbers worked out by hand, profiles against broken files."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from fastsnn_deploy.analysis.ann import ann_counts
from fastsnn_deploy.analysis.baseline import estimate_ann
from fastsnn_deploy.analysis.count import count
from fastsnn_deploy.analysis.counting import effective_operations
from fastsnn_deploy.analysis.counts import ConnectionCounts, Counts, LayerCounts
from fastsnn_deploy.analysis.documentation import record, with_tables
from fastsnn_deploy.analysis.energy import estimate
from fastsnn_deploy.analysis.fixtures import fixtures
from fastsnn_deploy.analysis.hardware import Hardware, available, load_hardware
from fastsnn_deploy.analysis.neurobench import neurobench_of
from fastsnn_deploy.analysis.profile import profile
from fastsnn_deploy.analysis.result import VERSION
from fastsnn_deploy.errors import GraphError, InputError
from fastsnn_deploy.graph import (
    Concat,
    Conv2d,
    Flatten,
    Identity,
    Input,
    Linear,
    MaxPool2d,
    Population,
    Readout,
    Schedule,
    SpikingGraph,
    Synapse,
)
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.graph.run import Run
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.passes.window import for_window
from fastsnn_deploy.simulators.reference import simulate
from tests.random_graphs import bounds, random_graph, random_images

DOCUMENT = Path(__file__).parents[1] / "docs" / "energy.md"

seeds = st.integers(0, 10_000)
presets = st.sampled_from(["unary", "graded", "unsigned", "burst2"])


def emitted(graph: SpikingGraph, seed: int, images: int = 2) -> np.ndarray:
    return graph.input.encode(random_images(graph, seed, images))


def drawn(seed: int, neurons: str = "unary", *, balance: bool = True) -> SpikingGraph:
    """A random graph in which every window of a max pool holds a position of its map: others have no maximum."""
    graph = random_graph(seed, neurons=neurons, balance=balance, max_size=6)
    for node in graph.nodes:
        if isinstance(node, MaxPool2d):
            assume(node.apply(np.zeros((1, *graph[node.inputs[0]].shape), dtype=np.int64)).min() == 0)
    return graph


# --- the oracle: explicit matrices, one message at a time


def matrix(graph: SpikingGraph, node: Synapse | MaxPool2d, *, skip_zero_weights: bool = False) -> np.ndarray:
    """[source neurons, target neurons]: 1 where a connection exists, from the response to unit vectors."""
    source = graph[node.inputs[0]].shape
    units = np.eye(int(np.prod(source)), dtype=np.int64).reshape(-1, *source)
    if isinstance(node, Synapse):
        weight = node.weight != 0 if skip_zero_weights else np.ones_like(node.weight)
        node = replace(node, weight=weight.astype(np.int8), exponent=np.zeros_like(node.exponent))
    return node.apply(units).reshape(len(units), -1)


def series(graph: SpikingGraph, run: Run, name: str) -> np.ndarray:
    """Spikes of any node, routing included: [T, N, neurons]."""
    node = graph[name]
    if isinstance(node, Flatten):
        return series(graph, run, node.inputs[0])
    if not isinstance(node, Concat):
        return run.spikes[name].reshape(run.steps, -1, node.size)
    arms = [late(series(graph, run, arm), lag) for arm, lag in zip(node.inputs, node.delays, strict=True)]
    return np.concatenate(arms, axis=2)


def late(spikes: np.ndarray, delay: int) -> np.ndarray:
    return np.concatenate([np.zeros_like(spikes[:delay]), spikes[: len(spikes) - delay]])[: len(spikes)]


def check_connection(graph: SpikingGraph, run: Run, steps: int, found: ConnectionCounts) -> None:
    node = graph[found.name]
    spikes = late(series(graph, run, node.inputs[0]), node.delay)
    fan = matrix(graph, node).sum(1)
    effective = matrix(graph, node, skip_zero_weights=True).sum(1)
    events = payload = nonzero = 0
    for _, _, neuron in zip(*np.nonzero(spikes), strict=True):
        events += fan[neuron]
        nonzero += effective[neuron]
    for step, image, neuron in zip(*np.nonzero(spikes), strict=True):
        payload += abs(int(spikes[step, image, neuron])) * fan[neuron]
    weighted = isinstance(node, (Conv2d, Linear))
    assert found.weighted == weighted
    assert found.synapses == fan.sum()
    assert found.parameters == found.weights == (node.weight.size if isinstance(node, Synapse) else 0)
    assert found.zero_weights == (np.count_nonzero(node.weight == 0) if isinstance(node, Synapse) else 0)
    assert found.synaptic_operations == events
    of_image = [int((np.count_nonzero(spikes[:, image], axis=0) * fan).sum()) for image in range(spikes.shape[1])]
    assert found.by_image is not None
    assert found.by_image.values.tolist() == of_image
    assert found.payload_operations == payload
    assert found.ternary == bool(np.isin(spikes, (-1, 0, 1)).all())
    assert found.effective_operations == (nonzero if weighted else 0)
    assert found.dense_operations == (fan.sum() * steps if weighted else 0)


def check_layer(graph: SpikingGraph, run: Run, steps: int, found: LayerCounts) -> None:
    node = graph[found.name]
    spikes = run.spikes.get(found.name, np.zeros((run.steps, len(run.settle_steps), *node.shape), dtype=np.int32))
    per_step = [np.count_nonzero(image) for step in spikes for image in step]
    assert found.neurons == node.size
    assert found.positive_spikes == (spikes > 0).sum()
    assert found.negative_spikes == (spikes < 0).sum()
    assert found.payload == np.abs(spikes).sum()
    assert found.neuron_updates_active == found.spikes == np.count_nonzero(spikes)
    assert found.neuron_updates == node.size * steps
    assert found.max_spikes_in_step == max(per_step, default=0)
    fired = {neuron for *_, neuron in zip(*np.nonzero(spikes.reshape(run.steps, -1, node.size)), strict=True)}
    assert found.silent_neurons == node.size - len(fired)
    if found.sends:
        assert found.by_image is not None
        assert found.by_image.values.tolist() == [np.count_nonzero(image) for image in spikes.swapaxes(0, 1)]


@settings(max_examples=150, deadline=None)
@given(seed=seeds, neurons=presets, balance=st.booleans(), fixed=st.sampled_from([None, 1, 3, 6]), window=st.booleans())
def test_counts_equal_brute_force(seed: int, neurons: str, balance: bool, fixed: int | None, window: bool) -> None:
    graph = drawn(seed, neurons, balance=balance)
    if window:
        try:
            graph = for_window(graph)
        except GraphError:  # potentials would leave 24 bits
            reject()
    run = simulate(graph, emitted(graph, seed), fixed)
    counts = count(graph, run, every_step=fixed is not None)
    steps = 2 * fixed if fixed else int(run.settle_steps.sum())
    assert counts.steps == steps
    for layer in counts.layers:
        check_layer(graph, run, steps, layer)
        for connection in layer.connections:
            check_connection(graph, run, steps, connection)
    assert sorted(c.name for c in counts.connections) == sorted(
        n.name for n in graph.nodes if isinstance(n, (Synapse, MaxPool2d))
    )


@settings(max_examples=40, deadline=None)
@given(seed=seeds, neurons=presets)
def test_every_message_of_a_settled_run_is_delivered(seed: int, neurons: str) -> None:
    graph = drawn(seed, neurons)
    counts = count(graph, simulate(graph, emitted(graph, seed)))
    assert counts.total("undelivered_operations") == 0


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_ann_counts_equal_brute_force(seed: int) -> None:
    graph = drawn(seed)
    images = emitted(graph, seed)
    values = integer_values(graph, images)
    for layer in ann_counts(graph, images).layers:
        dense = padded = nonzero = added = 0
        for name in graph[layer.name].inputs:
            node = graph[name]
            if not isinstance(node, Synapse) or isinstance(graph[layer.name], MaxPool2d):
                continue
            fan = matrix(graph, node).sum(1)
            if isinstance(node, (Conv2d, Linear)):
                dense += 2 * fan.sum()
                padded += 2 * reads(graph, node)
                nonzero += sum(fan[n] for _, n in zip(*np.nonzero(values[node.inputs[0]].reshape(2, -1)), strict=True))
            else:
                added += 2 * fan.sum()
        assert (layer.macs, layer.macs_with_padding, layer.macs_nonzero) == (dense, padded, nonzero)
        assert layer.additions == added
        assert layer.nonzero_activations == np.count_nonzero(values[layer.name])


def reads(graph: SpikingGraph, node: Synapse) -> int:
    """Values that one image makes the layer read, padding included: a map of ones, padded with ones."""
    if isinstance(node, Linear):
        return node.weight.size
    assert isinstance(node, Conv2d)
    channels, height, width = graph[node.inputs[0]].shape
    ones = np.ones((1, channels, height + 2 * node.padding[0], width + 2 * node.padding[1]), dtype=np.int64)
    full = replace(node, padding=(0, 0), weight=np.ones_like(node.weight), exponent=np.zeros_like(node.exponent))
    return int(full.apply(ones).sum())


# --- small networks by hand


def chain(weight: list[int], *, neurons: str, ceiling: int = 3, pixels: int = 1) -> SpikingGraph:
    """input (1, 1, pixels) -> conv 1x3, padding 1 -> population, threshold 1 -> flatten -> linear -> readout (2)."""
    zero, one = np.zeros(1), np.ones(1)
    shape = (1, 1, pixels)
    kernel = np.array(weight).reshape(1, 1, 1, 3)
    nodes = (
        Input(name="in", shape=shape, step=1.0, low=-9, high=9, offset=zero, scale=1.0),
        Conv2d(name="conv", inputs=("in",), shape=shape, weight=kernel, exponent=zero, padding=(0, 1)),
        Population(
            name="pop",
            inputs=("conv",),
            shape=shape,
            threshold=one,
            bias=zero,
            initial=zero,
            input_scale=one,
            ceiling=ceiling,
            floor=-ceiling,
            scale=1.0,
            **bounds(neurons, -ceiling, ceiling),
        ),
        Flatten(name="flat", inputs=("pop",), shape=(pixels,)),
        Linear(name="fc", inputs=("flat",), shape=(2,), weight=np.array([[1] * pixels, [0] * pixels]), exponent=[0, 0]),
        Readout(name="out", inputs=("fc",), shape=(2,), bias=np.zeros(2), scale=np.ones(2)),
    )
    return SpikingGraph(nodes=nodes, outputs=("out",), schedule=Schedule())


def operations_of(counts: Counts) -> dict[str, float]:
    return neurobench_of(counts).to_dict()["SynapticOperations"]


def run_chain(neurons: str, pixels: list[int]) -> tuple[SpikingGraph, Counts]:
    graph = chain([1, 1, 1], neurons=neurons, pixels=len(pixels))
    return graph, count(graph, simulate(graph, np.array(pixels).reshape(1, 1, 1, -1)))


def test_by_hand_graded() -> None:
    """Pixels 2, 0, 1. Synaptic input is 2, 3, 1; the population sends payloads 2, 3, 1 in step 1; the readout sees
    step 2."""
    _, counts = run_chain("graded", [2, 0, 1])
    image, pop, out = counts.layers
    assert (counts.images, counts.steps, counts.max_steps) == (1, 3, 3)
    assert (image.positive_spikes, image.negative_spikes, image.payload) == (2, 0, 3)
    # 3 input neurons x 3 steps, of which 2 sent a message
    assert (image.neuron_updates_active, image.neuron_updates_inactive) == (2, 7)
    assert (pop.positive_spikes, pop.negative_spikes, pop.payload, pop.max_spikes_in_step) == (3, 0, 6, 3)
    # a 1x3 kernel over 3 pixels: 2 + 3 + 2 connections inside the map, 9 with padding
    conv = pop.connections[0]
    assert (conv.synapses, conv.parameters) == (7, 3)
    # two spikes, each from a border pixel with 2 connections; 2*2 + 1*2 if the payload were unary
    assert (conv.synaptic_operations, conv.payload_operations) == (4, 6)
    assert (pop.neuron_updates_active, pop.neuron_updates_inactive) == (3, 6)
    assert (pop.bias_values, pop.threshold_values) == (1, 1)
    fc = out.connections[0]
    assert (fc.synapses, fc.parameters, fc.sources) == (6, 6, ("pop",))
    # three spikes to 2 neurons each; 6 units of payload to 2 each
    assert (fc.synaptic_operations, fc.payload_operations) == (6, 12)
    assert (out.spikes, out.neuron_updates_inactive, out.bias_values, out.threshold_values) == (0, 6, 2, 0)
    # NeuroBench: payload 2 makes both layers MACs; the linear layer has one zero row; 7 + 6 connections x 3 steps
    assert operations_of(counts) == {"Effective_ACs": 0.0, "Effective_MACs": 4 + 3, "Dense": 39.0}


def test_a_graded_message_is_one_event_and_unary_spikes_are_many() -> None:
    _, graded = run_chain("graded", [3])
    _, unary = run_chain("unary", [3])
    assert graded["pop"].spikes == 1
    assert graded["pop"].payload == 3
    assert graded["out"].synaptic_operations == 2
    assert graded["out"].payload_operations == 6
    assert unary["pop"].spikes == unary["pop"].payload == 3
    assert unary["out"].synaptic_operations == unary["out"].payload_operations == 6
    assert unary["out"].connections[0].ternary
    assert not graded["out"].connections[0].ternary


def test_signed_spikes_do_not_cancel() -> None:
    _, counts = run_chain("graded", [1, -1])
    assert (counts["in"].positive_spikes, counts["in"].negative_spikes) == (1, 1)
    assert counts["in"].payload == 2
    assert counts["pop"].synaptic_operations == 4
    # both pixels see 1 - 1 = 0: nothing is sent, yet the operations were done
    assert counts["pop"].spikes == 0
    assert operations_of(counts) == {"Effective_ACs": 4.0, "Effective_MACs": 0.0, "Dense": 4.0 * counts.steps * 2}


def test_a_message_read_twice_is_one_message_and_two_operations() -> None:
    graph = chain([0, 1, 0], neurons="graded")
    nodes = (
        *graph.nodes[:2],
        Identity(name="skip", inputs=("in",), shape=(1, 1, 1), weight=[1], exponent=[0]),
        replace(graph["pop"], inputs=("conv", "skip")),
        *graph.nodes[3:],
    )
    counts = count(
        graph := SpikingGraph(nodes=nodes, outputs=("out",)), simulate(graph, np.ones((1, 1, 1, 1), np.int64))
    )
    assert counts["in"].spikes == 1
    assert [c.synaptic_operations for c in counts["pop"].connections] == [1, 1]
    assert counts["pop"].connections[0].effective_operations == 1
    assert counts["pop"].connections[1].effective_operations == 0


def test_a_layer_may_have_more_outputs_than_a_weight_of_8_bits_counts() -> None:
    weight = np.ones((300, 3), dtype=np.int8)
    weight[250:, 1], number = 0, np.asarray([2, 1, 4])
    image = Input(name="in", shape=(3,), step=1.0, low=0, high=9, offset=np.zeros(3), scale=1.0)
    dense = Linear(name="dense", inputs=("in",), shape=(300,), weight=weight, exponent=np.zeros(300))
    readout = Readout(name="out", inputs=("dense",), shape=(300,), bias=np.zeros(300), scale=np.ones(300))
    graph = SpikingGraph(nodes=(image, dense, readout), outputs=("out",))
    assert effective_operations(graph, dense, number) == int((weight != 0).sum(0) @ number) == 2 * 300 + 250 + 4 * 300


def test_a_run_cut_off_leaves_operations_undelivered() -> None:
    graph = chain([1, 1, 1], neurons="graded", pixels=3)
    images = np.array([2, 0, 1]).reshape(1, 1, 1, 3)
    counts = count(graph, simulate(graph, images, 2), every_step=True)
    assert counts["out"].synaptic_operations == 0
    assert counts["out"].undelivered_operations == 6
    result = profile(graph, images, "loihi2", steps=2)
    assert result.counts == counts
    assert any("6 synaptic operations in flight" in warning for warning in result.energy.warnings)


def test_ann_by_hand() -> None:
    graph = chain([1, 1, 1], neurons="graded", pixels=3)
    counts = ann_counts(graph, np.array([2, 0, 1]).reshape(1, 1, 1, 3))
    assert (counts["pop"].macs, counts["pop"].macs_with_padding, counts["pop"].macs_nonzero) == (7, 9, 4)
    assert (counts["out"].macs, counts["out"].macs_with_padding, counts["out"].macs_nonzero) == (6, 6, 6)
    energy = estimate_ann(counts, load_hardware("horowitz45-int8"))
    assert energy.dense.value == pytest.approx(13 * 0.23)
    assert energy.with_padding.value == pytest.approx(15 * 0.23)
    assert energy.zero_skipping.value == pytest.approx(10 * 0.23)
    assert estimate_ann(counts, load_hardware("horowitz45-fp32")).dense.value == pytest.approx(13 * 4.6)


def test_a_run_of_another_graph_is_refused() -> None:
    graph, _ = run_chain("graded", [1])
    run = simulate(graph, np.ones((1, 1, 1, 1), np.int64))
    with pytest.raises(InputError, match="'in'"):
        count(chain([1, 1, 1], neurons="graded", pixels=2), run)


# --- energy


def one_layer(*, operations: int, active: int, inactive: int, type_name: str = "Linear", images: int = 1) -> Counts:
    connection = ConnectionCounts("fc", type_name, ("in",), True, 10, 10, synaptic_operations=operations)
    layer = LayerCounts("pop", "Population", "", 10, 1, 1, (connection,), positive_spikes=active)
    layer = replace(layer, neuron_updates_active=active, neuron_updates_inactive=inactive)
    return Counts((layer,), images=images, steps=20 * images, max_steps=20)


def test_energy_by_hand() -> None:
    counts = one_layer(operations=200, active=6, inactive=34, images=2)
    energy = estimate(counts, load_hardware("loihi1-davies2018"))
    terms = energy.layers[0].terms
    assert terms["synaptic_operations"].value == pytest.approx(100 * 23.6)
    assert terms["synaptic_operations"].high == pytest.approx(100 * 35.5)
    assert terms["neuron_updates_inactive"].value == pytest.approx(17 * 52)
    assert terms["neuron_updates_active"].value == pytest.approx(3 * 81)
    assert terms["messages"].value == pytest.approx(3 * 1.7)
    assert "hops" not in terms
    assert energy.dynamic.value == pytest.approx(2360 + 884 + 243 + 5.1)
    dynamic, *others = energy.boundaries
    assert dynamic.energy is not None
    assert dynamic.energy.high == pytest.approx(energy.dynamic.high)
    assert {each.reason for each in others} == {"no mapping to cores is known"}
    assert not any(each.energy for each in others)
    swing = next(each for each in energy.tornado if each.key == "energies.synaptic_operation")
    assert swing.low == pytest.approx(energy.dynamic.value)
    assert swing.high == pytest.approx(energy.dynamic.value + 100 * (35.5 - 23.6))
    assert energy.tornado[0] == swing


def test_an_aggregate_constant_stands_apart() -> None:
    energy = estimate(one_layer(operations=100, active=0, inactive=0), load_hardware("truenorth"))
    assert energy.dynamic.value == pytest.approx(230)
    assert energy.aggregate is not None
    assert energy.aggregate.value == pytest.approx(2600)


@pytest.mark.parametrize(("type_name", "price"), [("Linear", 35.5), ("Conv2d", 24.0), ("Identity", 33.6)])
def test_price_depends_on_the_type_of_synapse(type_name: str, price: float) -> None:
    counts = one_layer(operations=100, active=0, inactive=0, type_name=type_name)
    energy = estimate(counts, load_hardware("loihi1-sanafe"))
    assert energy.dynamic.value == pytest.approx(100 * price)


def test_arithmetic_prices_a_payload_as_a_multiplication() -> None:
    counts = one_layer(operations=100, active=0, inactive=0)
    hardware = load_hardware("horowitz45-int8")
    assert estimate(counts, hardware).dynamic.value == pytest.approx(3)
    layer = counts.layers[0]
    graded = replace(layer, connections=(replace(layer.connections[0], ternary=False),))
    assert estimate(replace(counts, layers=(graded,)), hardware).dynamic.value == pytest.approx(23)


@pytest.mark.parametrize(("spikes", "davies_mj", "sanafe_mj"), [(667, 1.45, 2.06), (750, 1.60, 2.28)])
def test_nearest_neighbour_search_on_pohoiki_springs(spikes: int, davies_mj: float, sanafe_mj: float) -> None:
    """Frady et al. 2020 measured 1.33 mJ a query: 667 to 750 spikes to 76,800 neurons in 60 steps.

    The constants of Davies 2018 give 9 to 20 % more, SANA-FE's dense synapse 55 to 71 % more.
    """
    layer = one_layer(operations=spikes * 76_800, active=0, inactive=76_800 * 60)
    davies = estimate(layer, load_hardware("loihi1-davies2018")).dynamic.value * 1e-9
    sanafe = estimate(layer, load_hardware("loihi1-sanafe")).dynamic.value * 1e-9
    assert davies == pytest.approx(davies_mj, abs=0.005)
    assert sanafe == pytest.approx(sanafe_mj, abs=0.01)
    assert 1.08 < davies / 1.33 < 1.21
    assert 1.54 < sanafe / 1.33 < 1.73


def test_energy_refuses_what_it_cannot_price() -> None:
    graph = chain([1, 1, 1], neurons="graded")
    counts = one_layer(operations=1, active=1, inactive=1)
    none = replace(counts, images=0)
    loihi = load_hardware("loihi2")
    with pytest.raises(InputError, match="at least one sample"):
        estimate(none, loihi)
    with pytest.raises(InputError, match="positive"):
        estimate(counts, loihi, step_time_us=-1)
    with pytest.raises(InputError, match="multiply_accumulate"):
        estimate_ann(ann_counts(graph, np.ones((1, 1, 1, 1), np.int64)), loihi)


def test_loihi2_says_that_its_energy_is_inherited() -> None:
    hardware = load_hardware("loihi2")
    assert {c.status for key, c in hardware.constants() if key.startswith("energies.")} == {"inherited"}
    energy = estimate(one_layer(operations=1, active=1, inactive=1), hardware)
    assert any("inherited: synaptic_operation" in warning for warning in energy.warnings)
    assert any(warning.startswith("No energy per operation is published") for warning in energy.warnings)
    assert "static power of used chips is excluded: no mapping to cores is known" in energy.warnings


# --- profiles


def test_every_shipped_profile_is_sourced() -> None:
    assert set(available()) == {
        "horowitz45-int8",
        "horowitz45-fp32",
        "loihi1-davies2018",
        "loihi1-sanafe",
        "loihi2",
        "loihi2-2023",
        "speck2f",
        "dynap-cnn",
        "truenorth",
        "spinnaker2",
    }
    for name in available():
        hardware = load_hardware(name)
        assert hardware.name == name
        for _, constant in hardware.constants():
            assert constant.source
            assert constant.operating_point
            assert constant.band
            assert constant.low <= constant.value <= constant.high


def valid() -> dict:
    return {
        "name": "chip",
        "title": "A chip",
        "kind": "neuromorphic",
        "process": "28 nm",
        "operating_point": "1 V",
        "scope": "core",
        "energies": {"synaptic_operation": constant()},
    }


def constant(**changes: object) -> dict:
    values = {"value": 2.0, "low": 1.0, "high": 3, "unit": "pJ", "basis": "marginal", "status": "assumed"}
    return values | {"band": "guess", "source": "none", "operating_point": "1 V"} | changes


def write(folder: Path, data: object) -> Path:
    path = folder / "chip.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
    return path


def test_a_profile_of_the_user_loads_by_path(tmp_path: Path) -> None:
    hardware = load_hardware(write(tmp_path, valid()))
    assert isinstance(hardware, Hardware)
    assert hardware.energies.synaptic_operation.high == 3


def broken(key: str, value: object) -> dict:
    data = valid()
    data["energies"]["synaptic_operation"][key] = value
    return data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (broken("value", -1), ["energies.synaptic_operation.value", "greater than or equal to 0", "-1"]),
        (broken("value", "2"), ["energies.synaptic_operation.value", "number", "'2'"]),
        (broken("value", 9), ["energies.synaptic_operation", "band [1, 3] does not hold the value 9"]),
        (broken("value", float("nan")), ["energies.synaptic_operation.value", "nan"]),
        (broken("source", " "), ["energies.synaptic_operation.source", "at least 1 character"]),
        (broken("status", "guessed"), ["energies.synaptic_operation.status", "'published'", "'guessed'"]),
        (broken("unit", "nJ"), ["energies.synaptic_operation.unit", "'pJ'", "'nJ'"]),
        (broken("basis", "aggregate"), ["energies", "synaptic_operation has basis aggregate, must be marginal"]),
        (broken("colour", "red"), ["energies.synaptic_operation.colour", "'red'"]),
        (valid() | {"energies": {"message": constant()}}, ["energies.synaptic_operation", "required"]),
        (
            valid() | {"energies": {"synaptic_operation": constant(), "neuron_update_active": constant()}},
            ["energies", "given together"],
        ),
        (
            valid() | {"energies": {"synaptic_operation": constant(), "synaptic_operation_by_type": {"X": constant()}}},
            ["synaptic_operation_by_type", "'X' is not a type of connection", "Conv2d"],
        ),
        ([1, 2], ["holds list"]),
        ("name: [", ["cannot be read as plain YAML"]),
        ("!!python/object/apply:os.system ['true']", ["cannot be read as plain YAML", "python/object"]),
        ("", ["empty"]),
    ],
)
def test_a_broken_profile_is_one_clear_error(tmp_path: Path, data: object, words: list[str]) -> None:
    path = write(tmp_path, data)
    with pytest.raises(InputError) as error:
        load_hardware(path)
    for word in [str(path), *words]:
        assert word in str(error.value)


def test_all_problems_of_a_profile_are_listed(tmp_path: Path) -> None:
    data = broken("value", -1)
    del data["title"]
    data["speed"] = 3
    with pytest.raises(InputError) as error:
        load_hardware(write(tmp_path, data))
    assert [p.where for p in error.value.problems] == ["title", "energies.synaptic_operation.value", "speed"]


def test_unknown_names_and_paths() -> None:
    with pytest.raises(InputError, match=r"Did you mean 'loihi2'.*truenorth"):
        load_hardware("loihi3")
    with pytest.raises(InputError, match=r"nothing\.yaml: no such hardware profile"):
        load_hardware("nothing.yaml")


# --- the whole profile


def test_profile_does_not_depend_on_the_batch_and_reports_progress() -> None:
    graph = with_neurons(random_graph(7), "graded")
    images = emitted(graph, 7, 5)
    seen: list[tuple[int, int]] = []
    result = profile(graph, images, "loihi2", batch=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert result == profile(graph, images, load_hardware("loihi2"))
    assert [entry.name for entry in result.ann_energy] == ["equal bits", "int8", "fp32"]
    for layer, other in zip(result.counts.layers, profile(graph, images, "loihi2", batch=1).counts.layers, strict=True):
        pairs = [(layer, other), *zip(layer.connections, other.connections, strict=True)]
        for a, b in pairs:
            assert (a.by_image is None) == (b.by_image is None)
            assert a.by_image is None or a.by_image.values.tolist() == b.by_image.values.tolist()
    for changes in ({"batch": 0}, {"steps": 0}):
        with pytest.raises(InputError, match="at least 1"):
            profile(graph, images, "loihi2", **changes)
    with pytest.raises(InputError, match="needs"):
        profile(graph, images[:0], "loihi2")


def test_json_and_csv_hold_the_same_numbers() -> None:
    graph = random_graph(2)
    result = profile(graph, emitted(graph, 2, 3), "loihi1-sanafe")
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    rows = list(csv.DictReader(io.StringIO(result.layers().csv())))
    assert data["version"] == VERSION
    assert [row["name"] for row in rows] == [*(layer["name"] for layer in data["layers"]), "total"]
    for row, layer in zip(rows, data["layers"], strict=False):
        assert int(row["synaptic_operations"]) == layer["synaptic_operations"]
        assert float(row["energy_pj_per_image"]) == layer["energy_pj_per_image"]["total"]["value"]
    assert int(rows[-1]["neurons"]) == data["total"]["neurons"]
    assert data["unplaced"]
    assert float(rows[-1]["energy_pj_per_image"]) == pytest.approx(data["energy_pj_per_image"]["dynamic"]["value"])
    assert all(entry["source"] for entry in data["hardware"]["constants"])


def test_every_json_key_is_documented() -> None:
    graph = random_graph(2)
    data = profile(graph, emitted(graph, 2), "truenorth").to_dict()
    text = DOCUMENT.read_text(encoding="utf-8")
    keys = {*data, *data["layers"][0], *data["layers"][1]["connections"][0], *data["layers"][0]["ann"]}
    keys |= {*data["energy_pj_per_image"], *data["ann_energy_pj_per_image"][0], *data["energy_pj_per_image"]["terms"]}
    assert {key for key in keys if f"`{key}`" not in text} == set()


def test_rendering_is_complete_when_piped() -> None:
    graph = random_graph(2)
    result = profile(graph, emitted(graph, 2, 3), "loihi2")
    output = result.summary()
    assert "…" not in output
    line = next(line for line in output.splitlines() if line.split()[:1] == ["total"])
    for quantity in ("neurons", "synapses", "parameters"):
        assert f" {result.counts.total(quantity):,} " in line
    for words in ("inherited", "One constant at a time", "ANN, int8, arithmetic alone", "Effective_ACs", "SENECA 2023"):
        assert words in output


def test_layer_names_are_not_markup() -> None:
    graph = chain([1, 1, 1], neurons="graded")
    nodes = [replace(n, name="[red]in") if n.name == "in" else n for n in graph.nodes]
    nodes = [replace(n, inputs=("[red]in",)) if n.name == "conv" else n for n in nodes]
    named = SpikingGraph(nodes=tuple(nodes), outputs=("out",))
    assert "[red]in" in profile(named, np.ones((1, 1, 1, 1), np.int64), "loihi2").summary()


def test_the_tables_in_the_documentation_are_current() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert with_tables(text) == text
    assert (DOCUMENT.parent / "records" / "fixtures.json").read_text(encoding="utf-8") == record()
    with pytest.raises(InputError, match="markers"):
        with_tables("no markers")


def test_no_estimate_of_time_is_more_than_what_was_measured() -> None:
    times = [each for each in fixtures() if each.kind == "time"]
    assert len(times) >= 5
    for each in times:
        assert 0 < each.estimate.low <= each.estimate.high <= each.measured, each.name


def test_errors_of_energy_against_measurements_are_as_documented() -> None:
    ratios = {(each.name, each.hardware): each.ratio for each in fixtures() if each.kind == "energy"}
    assert ratios["autoencoder, 16 chips", "loihi2"] == pytest.approx(1 / 5.1, rel=0.02)
    assert ratios["autoencoder, 16 chips", "loihi1-sanafe"] == pytest.approx(1 / 2.8, rel=0.02)
    assert ratios["nearest neighbours, 667 spikes", "loihi1-davies2018"] == pytest.approx(1.09, abs=0.01)
    assert ratios["PilotNet LIF, 16 steps", "loihi2"] == pytest.approx(1 / 8.3, rel=0.02)
