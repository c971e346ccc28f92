"""The settling theorem on random graphs, and the reference simulator against a neuron-by-neuron oracle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsnn_deploy.graph import (
    Concat,
    Conv2d,
    Flatten,
    Identity,
    Input,
    MaxPool2d,
    Population,
    Readout,
    SpikingGraph,
    SumPool2d,
    Synapse,
    Upsample,
)
from fastsnn_deploy.graph.integer_network import integer_values, logits
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.simulators.reference import simulate
from tests.random_graphs import random_graph, random_images

SEEDS = st.integers(0, 2**20)
NEURONS = st.sampled_from(["unary", "graded"])


@settings(max_examples=150)
@given(SEEDS, NEURONS, st.booleans(), st.sampled_from([0, 0, 1, 7]))
def test_spiking_network_settles_to_the_integer_network(seed: int, neurons: str, balance: bool, start_delay: int):
    graph = random_graph(seed, neurons=neurons, balance=balance)
    graph = replace(graph, schedule=replace(graph.schedule, start_delay=start_delay))
    emitted = graph.input.encode(random_images(graph, seed))
    values, run = integer_values(graph, emitted), simulate(graph, emitted)
    for node in graph.nodes:
        if isinstance(node, (Population, MaxPool2d, Readout)):
            assert np.array_equal(run.final(node.name), values[node.name]), node.name


@given(SEEDS)
def test_settled_networks_stay_settled(seed: int):
    graph = random_graph(seed)
    emitted = graph.input.encode(random_images(graph, seed))
    run = simulate(graph, emitted)
    longer = simulate(graph, emitted, run.steps + 20)
    assert all(not longer.spikes[name][run.steps :].any() for name in longer.spikes)
    assert np.array_equal(longer.settle_steps, run.settle_steps)
    shorter = simulate(graph, emitted, int(run.settle_steps.max()))
    for name in graph.outputs:
        assert np.array_equal(shorter.final(name), run.final(name))


@given(SEEDS, NEURONS)
def test_counts_add_up_and_unary_spikes_are_ternary(seed: int, neurons: str):
    graph = random_graph(seed, neurons=neurons)
    run = simulate(graph, graph.input.encode(random_images(graph, seed)))
    for name, counts in run.counts.items():
        assert np.array_equal(counts, np.cumsum(run.spikes[name], axis=0))
        node = graph[name]
        if isinstance(node, Population):
            assert counts.min() >= node.floor
            assert counts.max() <= node.ceiling
            if neurons == "unary":
                assert np.abs(run.spikes[name]).max() <= 1


@given(SEEDS)
def test_images_of_a_batch_do_not_influence_each_other(seed: int):
    graph = random_graph(seed)
    emitted = graph.input.encode(random_images(graph, seed, 3))
    together = simulate(graph, emitted, 30)
    for i in range(3):
        alone = simulate(graph, emitted[i : i + 1], 30)
        assert all(np.array_equal(alone.spikes[n][:, 0], together.spikes[n][:, i]) for n in alone.spikes)


@settings(max_examples=25)
@given(SEEDS, NEURONS, st.booleans(), st.integers(0, 2))
def test_simulator_equals_a_neuron_by_neuron_oracle(seed: int, neurons: str, balance: bool, start_delay: int):
    """Written from semantics alone: explicit synapse matrices, Python integers, one neuron at a time."""
    graph = random_graph(seed, blocks=2, neurons=neurons, balance=balance, max_size=4, max_channels=2)
    graph = replace(graph, schedule=replace(graph.schedule, start_delay=start_delay))
    emitted = graph.input.encode(random_images(graph, seed, 1))
    steps = 12
    run = simulate(graph, emitted, steps)
    spikes, potentials = _oracle(graph, emitted[0].ravel().tolist(), steps)
    for name, series in run.spikes.items():
        assert series.reshape(steps, -1).tolist() == spikes[name], name
    for name, series in run.potentials.items():
        assert series.reshape(steps, -1).tolist() == potentials[name], name


def _oracle(graph: SpikingGraph, image: list[int], steps: int) -> tuple[dict, dict]:
    matrix = {s.name: _matrix(s, graph[s.inputs[0]].shape) for s in graph.synapses}
    spikes: dict[str, list[list[int]]] = {node.name: [] for node in graph.nodes}
    potentials: dict[str, list[list[int]]] = {node.name: [] for node in graph.nodes}
    state = {p.name: [int(p.initial[i // (p.size // p.channels)]) for i in range(p.size)] for p in graph.populations}
    counts = {node.name: [0] * node.size for node in graph.nodes}
    seen = {m.name: [0] * graph[m.inputs[0]].size for m in graph.nodes if isinstance(m, MaxPool2d)}
    schedule = graph.schedule
    first: dict[str, int] = {}  # step in which the last of the inputs can begin to arrive
    sends: dict[str, int] = {}
    for node in graph.nodes:
        first[node.name] = max((sends[n] + d for n, d in zip(node.inputs, node.edge_delays, strict=True)), default=0)
        sends[node.name] = first[node.name] + (schedule.start_delay if isinstance(node, Population) else 0)

    def share(total: int, step: int, how: str) -> int:
        if how == "constant":
            return total if 0 <= step < schedule.window else 0
        if how != "spread":
            return total if step == 0 else 0
        if not 0 <= step < schedule.window:
            return 0
        return total * (step + 1) // schedule.window - total * step // schedule.window

    def past(name: str, t: int) -> list[int]:
        return spikes[name][t] if t >= 0 else [0] * graph[name].size

    for t in range(steps):
        for node in graph.nodes:
            if isinstance(node, Input):
                spikes[node.name].append([share(x, t, schedule.input) for x in image])
            elif isinstance(node, Flatten):
                spikes[node.name].append(past(node.inputs[0], t))
            elif isinstance(node, Concat):
                arms = zip(node.inputs, node.delays, strict=True)
                spikes[node.name].append([v for name, delay in arms for v in past(name, t - delay)])
            elif isinstance(node, MaxPool2d):
                arriving = past(node.inputs[0], t - node.delay)
                seen[node.name] = [a + b for a, b in zip(seen[node.name], arriving, strict=True)]
                now = node.apply(np.array(seen[node.name]).reshape(1, *graph[node.inputs[0]].shape)).ravel().tolist()
                spikes[node.name].append([a - b for a, b in zip(now, counts[node.name], strict=True)])
                counts[node.name] = now
            elif isinstance(node, (Population, Readout)):
                emitted, after = [], []
                start = 0 if schedule.bias == "initial" else first[node.name]
                waits = schedule.start_delay > 0 and t < sends[node.name]
                for i in range(node.size):
                    c = i // (node.size // node.channels)
                    synaptic_input = share(int(node.bias[c]), t - start, schedule.bias)
                    for name in node.inputs:
                        source = past(graph[name].inputs[0], t - graph[name].delay)
                        synaptic_input += sum(w * s for w, s in zip(matrix[name][i], source, strict=True) if s)
                    if isinstance(node, Readout):
                        before = potentials[node.name][-1][i] if t else 0
                        after.append(before + synaptic_input)
                        continue
                    v, n, theta = state[node.name][i] + synaptic_input, counts[node.name][i], int(node.threshold[c])
                    if waits:
                        s = 0
                    elif node.neurons == "graded":
                        s = min(max((v + theta * n) // theta, node.floor), node.ceiling) - n
                    elif v >= theta and n < node.ceiling:
                        s = 1
                    elif v < 0 and n > node.floor:
                        s = -1
                    else:
                        s = 0
                    state[node.name][i] = v - theta * s
                    counts[node.name][i] = n + s
                    emitted.append(s)
                    after.append(state[node.name][i])
                potentials[node.name].append(after)
                if isinstance(node, Population):
                    spikes[node.name].append(emitted)
    return spikes, potentials


def _matrix(synapse: Synapse, source: tuple[int, ...]) -> list[list[int]]:
    size = int(np.prod(source))
    columns = synapse.apply(np.eye(size, dtype=np.int64).reshape(size, *source)).reshape(size, -1)
    return columns.T.tolist()


@given(SEEDS)
def test_synapses_equal_torch(seed: int):
    """Convolutions, pools and upsampling against PyTorch in float64, where these integers are exact."""
    graph = random_graph(seed)
    values = integer_values(graph, graph.input.encode(random_images(graph, seed)))
    functional = torch.nn.functional
    for node in graph.nodes:
        if not isinstance(node, (Conv2d, SumPool2d, Upsample, MaxPool2d, Identity)):
            continue
        x = torch.from_numpy(values[node.inputs[0]]).double()
        if isinstance(node, MaxPool2d):
            options = (node.kernel, node.stride, node.padding, node.dilation, node.ceil_mode)
            y = _torch_max_pool(x, *options)
        elif isinstance(node, Conv2d):
            weight = torch.from_numpy(node.effective_weight).double()
            y = functional.conv2d(x, weight, None, node.stride, node.padding, node.dilation, node.groups)
        else:
            scale = torch.from_numpy(node.effective_weight).double().view(-1, *[1] * (x.dim() - 2))
            if isinstance(node, SumPool2d):
                padded = functional.pad(x, (node.padding[1], node.padding[1], node.padding[0], node.padding[0]))
                x = functional.avg_pool2d(padded, node.kernel, node.stride, divisor_override=1)
            elif isinstance(node, Upsample):
                x = functional.interpolate(x, scale_factor=tuple(float(f) for f in node.factor))
            y = x * scale
        assert np.array_equal(y.numpy(), values[node.name]), node.name


def _torch_max_pool(x, kernel, stride, padding, dilation, ceil_mode):
    return torch.nn.functional.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode)


@given(SEEDS)
def test_primitive_forms_are_the_same_map(seed: int):
    graph = random_graph(seed)
    values = integer_values(graph, graph.input.encode(random_images(graph, seed)))
    for synapse in graph.synapses:
        primitive = synapse.as_primitive()
        source = values[synapse.inputs[0]]
        if isinstance(synapse, Identity) and source.ndim == 2:
            source = source[:, :, None, None]
        assert np.array_equal(primitive.apply(source).reshape(values[synapse.name].shape), values[synapse.name])


@given(SEEDS)
def test_fan_out_counts_every_connection(seed: int):
    """Against the synapse's own response when every weight is one."""
    graph = random_graph(seed, blocks=2, max_size=5)
    for synapse in graph.synapses:
        source = graph[synapse.inputs[0]].shape
        ones = replace(synapse, weight=np.ones_like(synapse.weight), exponent=np.zeros_like(synapse.exponent))
        reached = np.array(_matrix(ones, source)).sum(0).reshape(source)
        assert np.array_equal(synapse.fan_out(source), reached)


def test_negative_spikes_repair_an_overshoot():
    """Two arms of opposite sign, the negative one late: the neuron must take its spikes back."""
    source = Input(name="image", shape=(1, 1, 1), step=1.0, low=0, high=9, offset=np.zeros(1, int), scale=1.0)
    arms = [
        Identity(
            name=name, inputs=("image",), shape=(1, 1, 1), weight=np.array([w]), exponent=np.zeros(1, int), delay=d
        )
        for name, w, d in (("early", 3, 1), ("late", -3, 9))
    ]
    population = Population(
        name="pop", inputs=("early", "late"), shape=(1, 1, 1), threshold=np.array([2]), bias=np.array([0]),
        initial=np.array([1]), input_scale=np.ones(1), ceiling=3, scale=1.0,
    )  # fmt: skip
    graph = SpikingGraph((source, *arms, population), ("pop",))
    run = simulate(graph, np.full((1, 1, 1, 1), 4))
    assert run.spikes["pop"].ravel().tolist()[1:4] == [1, 1, 1]
    assert run.final("pop").item() == 0
    assert (run.spikes["pop"] == -1).sum() == 3
    once = simulate(with_neurons(graph, "graded"), np.full((1, 1, 1, 1), 4))
    assert once.spikes["pop"].ravel()[once.spikes["pop"].ravel() != 0].tolist() == [3, -3]


def test_empty_batches_and_zero_steps():
    graph = random_graph(3)
    nothing = graph.input.encode(random_images(graph, 0, 0))
    run = simulate(graph, nothing)
    assert run.settle_steps.shape == (0,)
    assert all(series.shape[1] == 0 for series in run.spikes.values())
    one = graph.input.encode(random_images(graph, 0, 1))
    assert simulate(graph, one, 0).steps == 0
    assert logits(graph, integer_values(graph, nothing)).shape == (0, 5)


@pytest.mark.parametrize("neurons", ["unary", "graded"])
def test_worst_case_latency_of_balanced_chains(neurons: str):
    """Graded networks with balanced arms and wave bias settle in exactly depth steps after the input."""
    for seed in range(40):
        graph = random_graph(seed, neurons=neurons)
        graph = replace(graph, schedule=replace(graph.schedule, input="once", bias="wave"))
        if any(p.floor < 0 for p in graph.populations):
            continue
        run = simulate(graph, graph.input.encode(random_images(graph, seed)))
        ceilings = sum(p.ceiling - p.floor for p in graph.populations)
        limit = graph.depth + 1 if neurons == "graded" else graph.depth + 1 + ceilings
        assert run.settle_steps.max() <= limit
