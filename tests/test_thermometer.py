"""Population export of random and of chosen graphs: every count and every logit equals the integer network."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastsnn_deploy.errors import GraphError
from fastsnn_deploy.graph import (
    Concat,
    Conv2d,
    Flatten,
    Identity,
    Input,
    Linear,
    MaxPool2d,
    Node,
    Population,
    Readout,
    SpikingGraph,
    SumPool2d,
    Synapse,
    Upsample,
)
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.graph.synapses.conv2d import windows
from fastsnn_deploy.lava_dl import StockConv, StockDense, StockLayer, run
from fastsnn_deploy.lava_dl.thermometer import placements_of
from fastsnn_deploy.passes.linearise import chain
from fastsnn_deploy.targets.thermometer.network import ThermometerNetwork, to_thermometer
from tests.random_graphs import random_graph, random_images


def synaptic_input_of(layer: StockConv | StockDense, spikes: np.ndarray) -> np.ndarray:
    """Synaptic input of one layer, int64 [N, *shape], written out independently of the package's simulators."""
    if isinstance(layer, StockDense):
        return spikes.reshape(len(spikes), -1) @ layer.weight.T
    view = windows(spikes, layer.weight.shape[2:], layer.stride, layer.padding, layer.dilation)
    taps = np.ascontiguousarray(view.transpose(0, 2, 3, 1, 4, 5)).reshape(*view.shape[:1], *view.shape[2:4], -1)
    # float64 is exact here: sums stay below 2**17
    product = taps.astype(np.float64) @ layer.weight.reshape(len(layer.weight), -1).T.astype(np.float64)
    return product.astype(np.int64).transpose(0, 3, 1, 2)


def one_frame(population: ThermometerNetwork, emitted: np.ndarray) -> dict[str, np.ndarray]:
    """Values of all units: neurons without memory, so one pass through the layers is what a pipeline gives."""
    layers, spikes, number = {}, emitted, 0
    readouts = {p.layer for p in population.placements if not p.levels}
    for layer in population.network.layers:
        if isinstance(layer, (StockConv, StockDense)):
            number += 1
            synaptic_input = synaptic_input_of(layer, spikes)
            assert np.abs(synaptic_input).max() < 2**17
            total = synaptic_input + layer.bias.reshape(-1, *(1,) * (synaptic_input.ndim - 2))
            assert np.abs(total).max() < 2**17
            spikes = (total > layer.neuron.threshold).astype(np.int64)
            layers[number] = total if number in readouts else spikes
    return population.counts(layers)


def assert_equal(population: ThermometerNetwork, got: dict[str, np.ndarray], emitted: np.ndarray) -> None:
    graph = population.graph
    wanted = integer_values(graph, emitted)
    assert set(graph.outputs) <= set(got)
    for name, values in got.items():
        assert np.array_equal(values, wanted[name]), name


def check_graph(graph: SpikingGraph, count: int = 3) -> ThermometerNetwork:
    """Convert, compare all values with the integer network, and give the result."""
    population = to_thermometer(graph)
    emitted = population.graph.input.encode(random_images(graph, 0, count))
    assert_equal(population, one_frame(population, emitted), emitted)
    return population


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**31))
def test_random_graphs_equal_the_integer_network(seed: int) -> None:
    graph = random_graph(seed, max_size=8)
    try:
        population = to_thermometer(graph)
    except GraphError as error:
        assert_documented(error)
        return
    emitted = population.graph.input.encode(random_images(graph, seed))
    assert_equal(population, one_frame(population, emitted), emitted)


DOCUMENTED = (
    "cannot be one convolution with what else is alive",
    "needs a layer with",
    "is read by a max pool or by more than the first layer",
    "does not fit 8-bit weights",
    "biases span",
    "a synaptic input may reach",
    "has a positive weight",
)
"""Reasons for a refusal, as docs/thermometer.md lists them."""


def assert_documented(error: GraphError) -> None:
    assert error.problems
    for problem in error.problems:
        assert any(reason in problem.what for reason in DOCUMENTED), str(error)


def test_few_random_graphs_are_refused_or_rounded() -> None:
    found: Counter[str] = Counter()
    for seed in range(120):
        graph = random_graph(seed, max_size=8)
        try:
            population = to_thermometer(graph)
        except GraphError as error:
            assert_documented(error)
            found["refused"] += 1
            continue
        found["rounded"] += population.graph != graph
        found["deeper"] += population.depth > len(chain(graph).stages)
        links = chain(population.graph, relay_input=False)
        computed = [(s, t.part.source) for s in links.stages if s.stride is None for t in s.targets if t.computed]
        found["matrix for a map"] += any(len(graph[name].shape) == 3 for _, name in computed)
    print(f"of 120 random graphs: {dict(found)}")
    assert found["refused"] <= 3
    assert found["rounded"] <= 12
    assert found["matrix for a map"] <= 12


@pytest.mark.parametrize("seed", range(8))
def test_a_new_frame_may_enter_in_every_step(seed: int) -> None:
    graph = random_graph(seed, max_size=6, blocks=4)
    population = to_thermometer(graph)
    frames = 4
    emitted = population.graph.input.encode(random_images(graph, seed, frames))
    simulated = run(population.network, emitted[:, None], frames + population.depth)
    for frame in range(frames):
        assert_equal(population, population.read(simulated, frame), emitted[frame : frame + 1])


class Net:
    """Builds graphs by hand, with random weights."""

    def __init__(self, *shape: int, seed: int = 0, offset: int = 0, high: int = 15) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: dict[str, Node] = {}
        levels = {"low": 0, "high": high, "offset": np.full(shape[0], offset), "step": 1.0, "scale": 1.0}
        self.add(Input(name="image", shape=shape, **levels))

    def add(self, node: Node) -> str:
        self.nodes[node.name] = node
        return node.name

    def shape(self, name: str) -> tuple[int, ...]:
        return self.nodes[name].shape

    def synapse(self, cls: type[Synapse], source: str, weight: np.ndarray, outputs: int, **fields) -> str:
        common = {
            "name": f"s{len(self.nodes)}",
            "inputs": (source,),
            "weight": weight,
            "exponent": np.zeros(outputs, dtype=np.int64),
        }
        shape = cls(shape=(1,), **common, **fields).output_shape(self.shape(source))
        return self.add(cls(shape=shape, **common, **fields))

    def conv(self, source: str, outputs: int, kernel: int = 3, top: int = 4, **fields) -> str:
        fields = {"padding": (kernel // 2, kernel // 2)} | fields
        weight = self.rng.integers(-top, top + 1, (outputs, self.shape(source)[0], kernel, kernel))
        return self.synapse(Conv2d, source, weight, outputs, **fields)

    def channelwise(self, cls: type[Synapse], source: str, weight: int = 3, **fields) -> str:
        channels = self.shape(source)[0]
        return self.synapse(cls, source, np.full(channels, weight), channels, **fields)

    def option_a(self, source: str, outputs: int, weight: int = 9) -> str:
        """Every second pixel, zero channels appended."""
        kernels = weight * np.eye(outputs, self.shape(source)[0], dtype=np.int64)[..., None, None]
        return self.synapse(Conv2d, source, kernels, outputs, stride=(2, 2))

    def fire(self, *synapses: str, name: str = "", threshold: int = 11, **fields) -> str:
        shape = self.shape(synapses[0])
        fields = {"ceiling": 3, "scale": 1.0} | fields
        thresholds = self.rng.integers(1, threshold + 1, shape[0])
        return self.add(
            Population(
                name=name or f"p{len(self.nodes)}",
                inputs=synapses,
                shape=shape,
                threshold=thresholds,
                initial=thresholds // 2,
                bias=self.rng.integers(-9, 10, shape[0]),
                input_scale=np.ones(shape[0]),
                **fields,
            )
        )

    def pool(self, source: str, kernel: int = 2, stride: int = 2, **fields) -> str:
        common = {"name": f"m{len(self.nodes)}", "inputs": (source,), "kernel": (kernel,) * 2, "stride": (stride,) * 2}
        shape = MaxPool2d(shape=(1,), **common, **fields).output_shape(self.shape(source))
        return self.add(MaxPool2d(shape=shape, **common, **fields))

    def concat(self, *sources: str) -> str:
        shape = (sum(self.shape(s)[0] for s in sources), *self.shape(sources[0])[1:])
        return self.add(Concat(name=f"c{len(self.nodes)}", inputs=sources, shape=shape, delays=(0,) * len(sources)))

    def flatten(self, source: str) -> str:
        return self.add(
            Flatten(name=f"f{len(self.nodes)}", inputs=(source,), shape=(int(np.prod(self.shape(source))),))
        )

    def linear(self, source: str, outputs: int, top: int = 9) -> str:
        if len(self.shape(source)) == 3:
            source = self.flatten(source)
        weight = self.rng.integers(-top, top + 1, (outputs, self.shape(source)[0]))
        return self.synapse(Linear, source, weight, outputs)

    def constant(self, source: str, outputs: int, weight: int) -> str:
        """A dense layer with one value for every weight."""
        source = self.flatten(source) if len(self.shape(source)) == 3 else source
        return self.synapse(Linear, source, np.full((outputs, self.shape(source)[0]), weight), outputs)

    def readout(self, *synapses: str, name: str = "logits") -> str:
        shape = self.shape(synapses[0])
        bias = self.rng.integers(-50, 51, shape[0])
        return self.add(Readout(name=name, inputs=synapses, shape=shape, bias=bias, scale=np.ones(shape[0])))

    def graph(self, *outputs: str) -> SpikingGraph:
        outputs = outputs or (self.readout(self.linear(list(self.nodes)[-1], 5)),)
        return SpikingGraph(tuple(self.nodes.values()), outputs)


def stages_of(population: ThermometerNetwork) -> list[type[StockLayer]]:
    return [type(layer) for layer in population.network.layers if isinstance(layer, (StockConv, StockDense))]


@pytest.mark.parametrize("shortcut", ["option_a", "conv1x1", "quantised"])
@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
def test_strided_shortcuts_keep_the_depth_and_the_needed_pixels(shortcut: str, size: tuple[int, int]) -> None:
    net = Net(2, *size)
    stem = net.fire(net.conv("image", 4))
    middle = net.fire(net.conv(stem, 6, stride=(2, 2)))
    if shortcut == "option_a":
        arm = net.option_a(stem, 6)
    else:
        arm = net.conv(stem, 6, kernel=1, stride=(2, 2))
        if shortcut == "quantised":
            arm = net.channelwise(Identity, net.fire(arm))
    block = net.fire(net.conv(middle, 6), arm)
    second = net.fire(net.conv(block, 6))
    net.fire(net.conv(second, 6), net.channelwise(Identity, block))
    population = check_graph(net.graph())
    assert stages_of(population) == [StockConv] * 5 + [StockDense]
    # the stem's even pixels alone are relayed, or nothing where the arm has its own population beside the middle
    relayed = 0 if shortcut == "quantised" else 4 * 3
    assert population.network.layers[2].shape[0] == 6 * 3 + relayed + (6 * 3 if shortcut == "quantised" else 0)


@pytest.mark.parametrize("floor", [0, -2])
def test_dense_blocks_with_overlapping_padded_pools(floor: int) -> None:
    net = Net(1, 9, 8, offset=5)
    alive = net.fire(net.conv("image", 3), floor=floor)
    for _ in range(3):
        alive = net.concat(alive, net.fire(net.conv(alive, 2), floor=floor, ceiling=2))
    pooled = net.pool(alive, kernel=3, stride=2, padding=(1, 1), ceil_mode=True)
    net.fire(net.channelwise(SumPool2d, pooled, kernel=(2, 2), stride=(1, 1)), net.conv(pooled, 9, 2, padding=(0, 0)))
    population = check_graph(net.graph())
    assert stages_of(population) == [StockConv] * 6 + [StockDense]


def test_encoder_and_decoder_with_skips_stay_convolutions() -> None:
    net = Net(2, 8, 12)
    fine = net.fire(net.conv("image", 3))
    coarse = net.fire(net.conv(net.pool(fine), 4))
    deep = net.fire(net.conv(coarse, 4, stride=(2, 2)))
    up = net.fire(net.channelwise(Upsample, deep, factor=(2, 2)))
    joined = net.fire(net.conv(net.concat(up, coarse), 4))
    top = net.fire(net.channelwise(Upsample, joined, factor=(2, 2)))
    mask = net.readout(net.conv(net.concat(top, fine), 2))
    population = check_graph(net.graph(mask))
    assert set(stages_of(population)) == {StockConv}
    assert population.depth == len(population.network.layers) - 1


def test_an_image_with_few_levels_may_be_read_again() -> None:
    net = Net(2, 6, 5, offset=3)
    first = net.fire(net.conv("image", 2))
    second = net.fire(net.conv(first, 2), net.conv("image", 2))
    net.fire(net.conv(net.concat(net.pool("image", 3, 1, padding=(1, 1)), second), 3))
    population = check_graph(net.graph())
    assert population.depth == 5  # one step more than the graph: the image becomes a thermometer code first


def test_an_image_with_many_levels_may_not() -> None:
    net = Net(1, 5, 5, high=255)
    first = net.fire(net.conv("image", 2))
    net.fire(net.conv(first, 1), net.channelwise(Identity, "image"))
    with pytest.raises(GraphError, match="each pixel would need 255 neurons, more than 64"):
        to_thermometer(net.graph())


def test_branches_that_flatten_wait_for_the_maps() -> None:
    net = Net(1, 6, 6)
    first = net.fire(net.conv("image", 2))
    early = net.linear(first, 4)
    last = net.fire(net.conv(net.fire(net.conv(first, 2, stride=(2, 2))), 2))
    vector = net.fire(early, net.linear(last, 4))
    again = net.fire(net.linear(vector, 4), net.channelwise(Identity, vector))
    net.readout(net.linear(net.concat(vector, again), 3))
    population = check_graph(net.graph("logits"))
    assert stages_of(population) == [StockConv] * 3 + [StockDense] * 3


def test_several_outputs_of_different_depth() -> None:
    net = Net(1, 6, 6)
    first = net.fire(net.conv("image", 2), name="first")
    one = net.readout(net.linear(first, 3), name="one")
    deep = net.fire(net.conv(first, 2), name="deep")
    two = net.readout(net.linear(net.pool(deep), 4), name="two")
    population = check_graph(net.graph(one, two, "first", "deep"))
    assert population.latency == {"first": 1, "deep": 2, "m8": 3, "one": 4, "two": 4}


def test_a_cropping_path_keeps_what_the_other_branch_reads() -> None:
    net = Net(1, 11, 10)
    wide = net.fire(net.conv("image", 2))
    narrow = net.fire(net.conv(wide, 2, padding=(0, 0)))
    narrower = net.fire(net.conv(narrow, 2, padding=(0, 0)))
    net.fire(net.conv(narrower, 2), net.conv(wide, 2, kernel=5, padding=(0, 0)))
    assert stages_of(check_graph(net.graph())) == [StockConv] * 4 + [StockDense]


def test_strides_that_do_not_meet_become_a_matrix_or_are_refused() -> None:
    def graph(size: int) -> SpikingGraph:
        net = Net(1, size, size)
        source = net.fire(net.conv("image", 2))
        halved = net.fire(net.conv(source, 2, kernel=2, stride=(2, 2), padding=(0, 0)))
        # both arms are size / 2 wide, but one crops and the other strides
        crop = net.conv(source, 2, kernel=size // 2 + 1, padding=(0, 0))
        net.fire(net.channelwise(Identity, halved), crop)
        return net.graph()

    population = check_graph(graph(6))
    assert stages_of(population) == [StockConv] * 2 + [StockDense] * 2
    with pytest.raises(GraphError, match="cannot be one convolution with what else is alive beside it"):
        to_thermometer(graph(48))


def test_dense_layers_without_positive_weights_load_in_stock_lava() -> None:
    for hidden, last in itertools.product((0, -2, -64), repeat=2):
        net = Net(1, 3, 3)
        first = net.fire(net.conv("image", 2))
        second = net.fire(net.constant(first, 4, hidden))
        net.readout(net.constant(second, 3, last))
        population = check_graph(net.graph("logits"))
        assert all(layer.weight.max() > 0 for layer in population.network.layers if isinstance(layer, StockDense))
    net = Net(1, 3, 3)
    net.readout(net.linear(net.fire(net.constant("image", 4, -2)), 3))
    check_graph(net.graph("logits"))
    net = Net(1, 3, 3)
    net.readout(net.constant("image", 4, 0))
    with pytest.raises(GraphError, match="has a positive weight"):
        to_thermometer(net.graph("logits"))


def test_placements_survive_json_and_are_in_the_metadata() -> None:
    population = check_graph(random_graph(3))
    text = json.dumps(population.plain())
    assert placements_of({"thermometer": text}) == population.placements
    assert placements_of(population.network.metadata) == population.placements
