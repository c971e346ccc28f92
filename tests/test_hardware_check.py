"""Limits of stock neurons: what is refused, what is brought into range, and what that changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fastsnn_deploy.errors import GraphError
from fastsnn_deploy.graph import Identity, Linear, Population, Readout, SpikingGraph
from fastsnn_deploy.lava_dl import Lif, Sdnn, StockConv, StockDense, StockFlatten, StockInput, StockNetwork
from fastsnn_deploy.lava_dl import hardware_check as check
from fastsnn_deploy.lava_dl.hardware_check import problems_of, require_stock
from fastsnn_deploy.passes.stock_range import changed_counts, to_stock_range
from fastsnn_deploy.targets.thermometer.network import to_thermometer
from tests.random_graphs import random_graph, random_images
from tests.test_thermometer import Net, check_graph

LOW, HIGH = np.array([0, -100]), np.array([255, 155])


def network(conv: dict | None = None, dense: dict | None = None, image: dict | None = None) -> StockNetwork:
    """A network that fits, with fields changed. Its conv is 1x1 from (2, 1, 200) to 3 channels, its dense makes 4."""
    first = {
        "shape": (3, 1, 200),
        "weight": np.ones((3, 2, 1, 1), dtype=np.int64),
        "bias": np.zeros(3, dtype=np.int64),
        "neuron": Lif(0),
    } | (conv or {})
    second = {
        "shape": (4,),
        "weight": np.tile([[1], [-1], [2], [0]], (1, int(np.prod(first["shape"])))),
        "bias": np.zeros(4, dtype=np.int64),
        "neuron": Lif(0),
    } | (dense or {})
    layers = (
        StockInput(**({"shape": (2, 1, 200)} | (image or {}))),
        StockConv(**first),
        StockFlatten(shape=(int(np.prod(first["shape"])),)),
        StockDense(**second),
    )
    return StockNetwork(layers, input_message_bits=9)


def weight_of(value: int, other: int = -1) -> dict:
    """A dense layer with one extreme weight."""
    weight = np.zeros((4, 600), dtype=np.int64)
    weight[1, 5], weight[2, 7] = value, other
    return {"weight": weight}


def wide(groups: int) -> StockNetwork:
    """A depthwise convolution with so many groups."""
    ones = np.ones((groups, 1, 1, 1), dtype=np.int64)
    zeros = np.zeros(groups, dtype=np.int64)
    fields = {"shape": (groups, 1, 1), "weight": ones, "bias": zeros, "groups": groups}
    return network(fields, image={"shape": (groups, 1, 1)})


def strided(stride: int) -> StockNetwork:
    return network({"stride": (1, stride), "shape": (3, 1, 199 // stride + 1)})


def padded(padding: int) -> StockNetwork:
    return network({"padding": (0, padding), "shape": (3, 1, 200 + 2 * padding)})


def kernel(size: int) -> StockNetwork:
    weight = np.zeros((3, 2, 1, size), dtype=np.int64)
    weight[0, 0, 0, 0] = 1
    return network({"weight": weight, "shape": (3, 1, 201 - size)})


def dilated(dilation: int) -> StockNetwork:
    weight = np.ones((3, 2, 1, 2), dtype=np.int64)
    return network({"weight": weight, "dilation": (1, dilation), "shape": (3, 1, 200 - dilation)})


def counted(total: int) -> StockNetwork:
    """A neuron whose greatest synaptic input is exactly `total`: 255 a weight from the first channel."""
    weight = np.zeros((3, 2, 1, 100), dtype=np.int64)
    weight[0, 0, 0, : total // (255 * 120)] = 120
    weight[0, 0, 0, 50] = total % (255 * 120) // 255
    bias = np.array([total % 255, 0, 0])
    return network({"weight": weight, "bias": bias, "shape": (3, 1, 101)})


def summed(weight: int) -> StockNetwork:
    return network(dense={"weight": np.full((4, 600), weight, dtype=np.int64)})


def biased(value: int) -> StockNetwork:
    return network({"bias": np.array([0, value, 0])})


CASES: list[tuple[Callable, StockNetwork, StockNetwork]] = [
    (check.input_has_no_neuron, network(), network(image={"neuron": Lif(0)})),
    (check.layers_hold_neurons, network(), network({"shape": (3, 1, 0)})),
    (check.shapes_fit, network(), network({"bias": np.zeros(4, dtype=np.int64)})),
    (check.shapes_fit, network(), network(dense={"weight": np.ones((3, 600), dtype=np.int64)})),
    (check.weights_fit, network(dense=weight_of(127)), network(dense=weight_of(128))),
    (check.weights_fit, network(dense=weight_of(-128, 1)), network(dense=weight_of(-129, 1))),
    (check.weights_fit, network(dense=weight_of(255, 1)), network(dense=weight_of(256, 1))),
    (check.a_weight_is_positive, network(dense=weight_of(0, 1)), network(dense=weight_of(0, 0))),
    (check.a_weight_is_positive, network(dense=weight_of(-64, 1)), network(dense=weight_of(-64))),
    (check.groups_fit, wide(127), wide(128)),
    (check.windows_fit, strided(127), strided(128)),
    (check.windows_fit, padded(127), padded(128)),
    (check.windows_fit, kernel(127), kernel(128)),
    (check.windows_fit, dilated(127), dilated(128)),
    (check.neurons_forget, network(), network({"neuron": Lif(0, v_decay=0)})),
    (check.neurons_forget, network(), network(dense={"neuron": Lif(0, i_decay=0)})),
    (check.neurons_forget, network(), network(dense={"neuron": None})),
    (check.neurons_forget, network(), network({"neuron": Sdnn()})),
    (check.thresholds_fit, network({"neuron": Lif(131_071)}), network({"neuron": Lif(131_072)})),
    (check.thresholds_fit, network({"neuron": Lif(0)}), network({"neuron": Lif(-1)})),
    (check.biases_fit, biased(4095), biased(4096)),
    (check.biases_fit, biased(-4096), biased(-4097)),
    (check.inputs_fit, counted(131_071), counted(131_072)),
    (check.delays_fit, network(dense={"delay": np.full(4, 62)}), network(dense={"delay": np.full(4, 63)})),
]


@pytest.mark.parametrize(("rule", "good", "bad"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_every_rule_accepts_the_limit_and_refuses_beyond(rule: Callable, good: StockNetwork, bad: StockNetwork) -> None:
    low, high = (LOW, HIGH) if good.layers[0].shape[0] == 2 else (np.zeros(1, dtype=np.int64), np.ones(1, np.int64))
    assert problems_of(good, low, high) == []
    problems = [str(problem) for problem in problems_of(bad, low, high)]
    assert any((rule.__doc__ or "?").strip() in problem for problem in problems), problems


def test_sums_beyond_24_bits_are_refused() -> None:
    """More inputs than fit a fast test would be needed for the rule alone, so the synaptic input rule speaks as
    well."""
    high = np.array([2**23 // 8, 0])
    good, bad = (network({"weight": np.full((3, 2, 1, 1), n, dtype=np.int64)}) for n in (7, 8))
    rule = (check.sums_fit.__doc__ or "?").strip()
    assert not any(rule in str(problem) for problem in problems_of(good, np.zeros(2, dtype=np.int64), high))
    assert any(rule in str(problem) for problem in problems_of(bad, np.zeros(2, dtype=np.int64), high))


def test_all_problems_are_listed_at_once() -> None:
    bad = network({"bias": np.array([0, 5000, 0]), "neuron": Lif(2**18)}, {"bias": np.full(4, -9999)})
    with pytest.raises(GraphError) as caught:
        require_stock(bad, LOW, HIGH)
    assert len(caught.value.problems) == 3


def heavy(weight: int, exponent: int, threshold: int, bias: int = 0) -> SpikingGraph:
    """One unit with a shortcut that is `weight * 2**exponent` as heavy as its other arm."""
    net = Net(1, 4, 4)
    source = net.fire(net.conv("image", 2))
    arm = net.channelwise(Identity, source, weight=weight)
    net.nodes[arm] = type(net.nodes[arm])(**{**vars(net.nodes[arm]), "exponent": np.full(2, exponent)})
    summed = net.fire(net.conv(source, 2), arm, name="summed", threshold=1)
    unit = net.nodes[summed]
    assert isinstance(unit, Population)
    fields = vars(unit) | {"threshold": np.full(2, threshold), "initial": np.full(2, threshold // 2)}
    net.nodes[summed] = Population(**fields | {"bias": np.full(2, bias)})
    return net.graph()


def test_graphs_that_fit_are_returned_as_they_are() -> None:
    graph = heavy(100, 0, 90)
    assert to_stock_range(graph) is graph
    assert set(changed_counts(graph, graph, graph.input.encode(random_images(graph, 0))).values()) == {0.0}


def test_common_factors_cost_nothing() -> None:
    graph = random_graph(2)
    scaled = SpikingGraph(tuple(_times(node, 2**7) for node in graph.nodes), graph.outputs)
    assert to_stock_range(scaled) is scaled or all(isinstance(scaled[n], Readout) for n in scaled.outputs)
    check_graph(scaled)


def _times(node, factor: int):
    """A synapse with all weights, or a population or readout with all synaptic inputs, times a power of two."""
    fields = dict(vars(node))
    if "exponent" in fields:
        fields["exponent"] = node.exponent + factor.bit_length() - 1
    for name in ("threshold", "bias", "initial"):
        if name in fields:
            fields[name] = fields[name] * factor
    return type(node)(**fields)


def test_heavy_weights_are_shared_by_copies_and_only_then_rounded() -> None:
    graph = heavy(125, 3, 20)
    assert to_stock_range(graph, replicas=8) is graph
    population = check_graph(graph)
    assert population.network.layers[1].shape[0] == 2 * 3 * 8
    rounded = to_stock_range(graph, replicas=1)
    assert rounded != graph
    assert to_stock_range(rounded, replicas=1) is rounded
    conv = graph["summed"].inputs[0]
    assert not np.array_equal(rounded[conv].effective_weight, graph[conv].effective_weight)
    assert not (rounded[conv].effective_weight % 8).any()
    emitted = graph.input.encode(random_images(graph, 0, 20))
    assert changed_counts(graph, rounded, emitted)["p2"] == 0.0  # what comes before is as it was
    narrow = to_thermometer(graph, replicas=1)
    assert narrow.graph == rounded
    assert narrow.network.layers[1].shape[0] == 2 * 3


def test_biases_are_centred_before_they_are_rounded() -> None:
    def graph(threshold: int) -> SpikingGraph:
        net = Net(1, 4, 4, high=255)
        first = net.fire(net.conv("image", 2, top=90), name="first")
        fields = vars(net.nodes[first]) | {"threshold": np.full(2, threshold), "initial": np.zeros(2, dtype=np.int64)}
        net.nodes[first] = Population(**fields | {"bias": np.zeros(2, dtype=np.int64)})
        return net.graph()

    near, far = graph(2700), graph(5000)
    population = check_graph(near, 8)
    assert population.graph is near
    first = population.network.layers[1]
    assert (first.neuron.threshold, first.bias.max(), first.bias.min()) == (8100 - 4097, 1304, -4096)
    assert to_stock_range(far) != far
    check_graph(far, 8)


def test_readouts_are_divided_with_their_scale() -> None:
    net = Net(1, 4, 4)
    source = net.fire(net.linear(net.fire(net.conv("image", 2)), 6))
    synapse = net.linear(source, 3, top=120)
    arm = net.nodes[synapse]
    assert isinstance(arm, Linear)
    net.nodes[synapse] = Linear(**vars(arm) | {"exponent": np.full(3, 4)})
    name = net.add(
        Readout(name="out", inputs=(synapse,), shape=(3,), bias=np.array([77, -9000, 5]), scale=np.full(3, 0.5))
    )
    graph = net.graph(name)
    after = to_stock_range(graph, replicas=1)
    out = after[name]
    assert isinstance(out, Readout)
    factor = out.scale[0] / 0.5
    assert factor in (8.0, 16.0)
    assert np.array_equal(out.bias, np.floor(np.array([77, -9000, 5]) / factor + 0.5))
    assert to_stock_range(after, replicas=1) is after
    check_graph(graph)


def test_what_no_scale_fits_is_refused_with_numbers() -> None:
    net = Net(1, 2, 2)
    source = net.fire(net.conv("image", 1))
    synapse = net.linear(source, 2)
    bias = np.array([2**30, 0])
    with pytest.raises(GraphError):  # beyond the graph's own 24 bits already
        net.graph(net.add(Readout(name="out", inputs=(synapse,), shape=(2,), bias=bias, scale=np.ones(2))))
    many = Net(1, 25, 25)
    flat = many.fire(many.conv("image", 1), ceiling=255)
    weight = np.full((2, 25 * 25), 1)
    many.readout(many.synapse(Linear, many.flatten(flat), weight, 2))
    with pytest.raises(GraphError, match="channel 0 with weights up to"):
        to_thermometer(many.graph("logits"))


def test_layers_that_are_too_large_are_refused_before_they_are_built() -> None:
    net = Net(1, 32, 32)
    wide_map = net.fire(net.conv("image", 8), ceiling=7)
    net.fire(net.linear(wide_map, 600, top=1), ceiling=7)
    with pytest.raises(GraphError, match="needs a layer with"):
        to_thermometer(net.graph())
