"""Least time of an image: operations, spikes and messages of each core against brute force, and one case by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fastsnn_deploy as fd
from fastsnn_deploy.analysis.evaluate import evaluate
from fastsnn_deploy.analysis.evaluation import Evaluation, nothing
from fastsnn_deploy.analysis.hardware import load_hardware
from fastsnn_deploy.analysis.mapping.place import routers
from fastsnn_deploy.analysis.mapping.sites import sites_of
from fastsnn_deploy.analysis.mapping.time import by_core, link_messages, operations_at
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import MaxPool2d, SpikingGraph, SumPool2d
from fastsnn_deploy.simulators.reference import simulate
from fastsnn_deploy.targets import to_target
from tests.commands import runner
from tests.mapped_networks import connections, core_numbers, links, pilotnet, reach, small
from tests.random_graphs import random_graph, random_images

NET = "netx_exports/digits-2bit-unary.net"


def sent_in(graph: SpikingGraph, seed: int) -> dict[str, np.ndarray]:
    """Spikes of each neuron in a run of two random images."""
    run = simulate(graph, random_images(graph, seed), None)
    return {name: (series != 0).sum((0, 1)).reshape(-1).astype(np.int64) for name, series in run.spikes.items()}


def multiplicity(graph: SpikingGraph, connection) -> np.ndarray:
    """How often each element that is read reaches each output: a max pool as often as windows hold it."""
    if isinstance(connection, MaxPool2d):
        return links(graph, connection).astype(np.int64)
    shape = graph[connection.inputs[0]].shape
    kernel = connection.as_primitive() if isinstance(connection, SumPool2d) else connection
    return np.stack([column.astype(np.int64) for column in links(graph, kernel)]).reshape(int(np.prod(shape)), -1)


@pytest.mark.parametrize("seed", range(12))
def test_operations_of_each_core_are_counted_synapse_by_synapse(seed: int):
    graph = random_graph(seed, transposed=seed % 2 == 0)
    found, sent = fd.map_cores(graph, small(seed), suggest=False), sent_in(graph, seed)
    for site in (site for site in sites_of(graph) if site.placed):
        expected = np.zeros(site.neurons, dtype=np.int64)
        for connection in connections(graph, site):
            table = multiplicity(graph, connection)
            for name, places in reach(graph, connection.inputs[0]):
                for element, number in zip(places, sent[name], strict=True):
                    expected += table[element] * number
        layer = found[site.name]
        numbers = core_numbers(layer.grid).reshape(-1)
        cores = by_core(layer, operations_at(graph, site, sent))
        assert cores.tolist() == [int(expected[numbers == core].sum()) for core in range(layer.cores)]


@pytest.mark.parametrize("seed", range(4))
def test_messages_over_each_link_between_chips(seed: int):
    graph, hardware = random_graph(seed), small(3 * seed)
    usable = hardware.limits.usable_cores.model_copy(update={"value": 3})
    hardware = hardware.model_copy(update={"chip": hardware.limits.model_copy(update={"usable_cores": usable})})
    found, sent = fd.map_cores(graph, hardware, suggest=False), sent_in(graph, seed)
    expected = [0] * (found.chips - 1)
    for layer in found.layers:
        mine = core_numbers(layer.grid).reshape(-1)
        for site in (site for site in sites_of(graph) if site.placed):
            other = core_numbers(found[site.name].grid).reshape(-1)
            for connection in connections(graph, site):
                for name, places in reach(graph, connection.inputs[0]):
                    if name != layer.name:
                        continue
                    reached = links(graph, connection)[places]
                    for core in range(layer.cores):
                        number = int(sent[name][mine == core].sum())
                        for target in set(other[reached[mine == core].any(0)].tolist()):
                            ends = sorted(((core + layer.first) // 3, (target + found[site.name].first) // 3))
                            for link in range(*ends):
                                expected[link] += number
    assert link_messages(found, sent).tolist() == expected
    assert (routers(np.arange(6), hardware.limits)[2] == [0, 0, 0, 1, 1, 1]).all()


@pytest.fixture(scope="module")
def digits() -> tuple[SpikingGraph, Evaluation]:
    network = fd.read(NET)
    images = np.random.default_rng(0).random((3, *network.input.shape))
    return network, evaluate(network, images, None, engine="reference")


def test_the_longest_part_binds(digits: tuple[SpikingGraph, Evaluation]):
    network, run = digits
    found = fd.map_cores(network, "loihi2")
    timing = found.timing(run)
    operations, updates, barriers = timing.parts
    times = load_hardware("loihi2").times
    total = sum(
        int(by_core(found[site.name], operations_at(network, site, _sent(run))).sum())
        for site in sites_of(network)
        if site.placed
    )
    assert total == run.synaptic_operations
    assert operations.time.value == pytest.approx(operations.number * times.synaptic_operation.value)
    assert operations.number <= run.synaptic_operations / 3
    steps = run.counted_steps / 3
    assert barriers.time.value == pytest.approx(steps * 200)
    assert barriers.time.high == pytest.approx(steps * 10_000)
    most = max(int(layer.used["neurons"].max()) for layer in found.layers)
    assert updates.number == pytest.approx(most * steps)
    assert most * steps * 2.65 <= updates.time.value <= most * steps * 4.2
    assert timing.image.value == max(part.time.value for part in timing.parts)
    assert timing.binding == max(timing.parts, key=lambda part: part.time.value).name
    assert timing.latencies["max"].value == pytest.approx(timing.step.value * run.max_settle_steps)
    assert timing.images_per_second == pytest.approx(1e9 / timing.image.value)
    assert "input and output stand apart" in timing.summary()
    assert timing.io is not None
    assert timing.io.number == pytest.approx(int(_sent(run)[network.input.name].sum()) / 3 + 10)
    assert timing.io.time.value == pytest.approx(timing.io.number * times.input_value.value)
    assert timing.io.name not in {part.name for part in timing.parts}
    assert json.loads(json.dumps(timing.to_dict()))["binding"] == timing.binding


def _sent(run: Evaluation) -> dict[str, np.ndarray]:
    return {name: activity.spikes.reshape(-1) for name, activity in run.activity.items()}


def test_the_first_right_answer(digits: tuple[SpikingGraph, Evaluation]):
    """Step by step: the first in which the logits differ and the label is the first of the greatest."""
    network, run = digits
    images = network.encode(np.random.default_rng(0).random((3, *network.input.shape)))
    recorded = fd.simulate(network, images, engine="reference")
    series = recorded.potentials[network.outputs[0]] * recorded.scales[network.outputs[0]]
    labels = [int(series[-1, 0].argmax()), int(series[-1, 1].argmax()), int(series[-1, 2].argmin())]
    evaluation = evaluate(network, images, np.array(labels), engine="reference")
    expected = []
    for image, label in enumerate(labels):
        right = [t + 1 for t, x in enumerate(series[:, image]) if np.ptp(x) > 0 and x.argmax() == label]
        expected += right[:1]
    assert len(expected) >= 2
    assert evaluation.first_right["mean"] == pytest.approx(np.mean(expected))
    assert evaluation.first_right["max"] == max(expected)
    assert evaluation.never_right == 3 - len(expected)
    timing = fd.map_cores(network, "loihi2").timing(evaluation)
    assert timing.first_right_latencies["max"].value == pytest.approx(timing.step.value * max(expected))
    assert timing.first_right_latencies["max"].value <= timing.latencies["max"].value
    assert fd.map_cores(network, "loihi2").timing(run).first_right == {}


def test_more_cores_take_no_longer(digits: tuple[SpikingGraph, Evaluation]):
    network, run = digits
    few = fd.map_cores(network, "loihi2").timing(run)
    many = fd.map_cores(network, "loihi2", objective="balance", cores=100).timing(run)
    assert many.image.value < few.image.value


def test_a_network_without_memory_streams():
    graph = fd.read(NET)
    stock = to_target(graph, "stock-lif").network
    images = stock.encode(np.random.default_rng(0).random((2, *graph.input.shape)))
    run = evaluate(stock, images, None)
    found = fd.map_cores(stock, "loihi1-davies2018")
    timing = found.timing(run)
    assert timing.streams
    assert timing.images_per_second == pytest.approx(1e9 / timing.step.value)
    assert timing.latencies["each image"].value == pytest.approx(timing.step.value * stock.depth)
    total = sum(
        int(by_core(found[site.name], operations_at(stock, site, _sent(run))).sum())
        for site in sites_of(stock)
        if site.placed
    )
    assert total == run.synaptic_operations


def test_the_bound_is_below_what_was_measured_of_pilotnet():
    """408.9 frames a second of 16 steps, so 152.8 us a step; neurons that never fire give the least bound."""
    network = pilotnet(0)
    silent = nothing(network, steps=16)
    silent = Evaluation(network, 1, 16, silent.settled, (), silent.activity)
    timing = fd.map_cores(network, "loihi2-2023").timing(silent)
    assert timing.binding == "neuron updates"
    assert timing.step.value / 1000 == pytest.approx(3168 * 2.65 / 1000)
    assert 3168 * 4.2 / 1000 < 1e6 / 408.9 / 16


def test_mistakes(digits: tuple[SpikingGraph, Evaluation]):
    network, run = digits
    found = fd.map_cores(network, "loihi2")
    with pytest.raises(InputError, match=r"what fd\.evaluate gives"):
        found.timing(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no image was evaluated"):
        found.timing(nothing(network))
    with pytest.raises(InputError, match="another network"):
        fd.map_cores(random_graph(3), "loihi2").timing(run)
    with pytest.raises(InputError, match="has no times"):
        fd.map_cores(network, "speck2f", suggest=False).timing(run)


def test_the_command_says_how_long(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    run = runner(monkeypatch, capsys)
    result = run("map", NET, "--samples", "2", "--data", "random", "--engine", "reference")
    assert result.returncode == 0, result.stderr
    assert "Least time of an image (loihi2, mean of 2" in result.stdout
