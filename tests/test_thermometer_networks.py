"""Networks of usual size as thermometer code: a LeNet and a ResNet-20, traced from PyTorch with random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fastsnn_deploy.conversion.lower import lower
from fastsnn_deploy.conversion.trace import trace
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.lava_dl import StockConv, StockDense
from fastsnn_deploy.passes.stock_range import changed_counts, to_stock_range
from fastsnn_deploy.quantisation import calibrate, prepare
from fastsnn_deploy.targets.thermometer.network import ThermometerNetwork, to_thermometer
from tests.test_thermometer import assert_equal, one_frame


class Block(nn.Module):
    """Basic block of a CIFAR ResNet. option: "A" appends zero channels, "B" convolves."""

    def __init__(self, inputs: int, outputs: int, stride: int, option: str) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        self.inner, self.outer = nn.ReLU(), nn.ReLU()
        self.padding = (outputs - inputs) // 2
        self.arm: nn.Module | None = None
        if option == "B" and stride > 1:
            self.arm = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.inner(self.first(x)))
        if self.arm is not None:
            x = self.arm(x)
        elif self.padding:
            x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))
        return self.outer(y + x)


class ResNet20(nn.Module):
    def __init__(self, option: str) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        blocks, inputs = [], 16
        for outputs, stride in ((16, 1), (32, 2), (64, 2)):
            for index in range(3):
                blocks.append(Block(inputs, outputs, 1 if index else stride, option))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def integer_graph(model: nn.Module, shape: tuple[int, ...], weight_bits: int) -> SpikingGraph:
    """Quantised to 2 bits and calibrated on noise, so that every layer is active."""
    torch.manual_seed(1)
    images = torch.rand(32, *shape)
    with torch.no_grad():
        for _ in range(5):
            model.train()(images)
    quantised = prepare(model.eval(), bits=2, weight_bits=weight_bits, mean=(0.5,) * shape[0], std=(0.25,) * shape[0])
    calibrate(quantised, images)
    return lower(trace(quantised.eval(), shape))


def converted(graph: SpikingGraph, images: int) -> ThermometerNetwork:
    """Population network, compared with the integer network on random images."""
    population = to_thermometer(graph)
    emitted = population.graph.input.encode(np.random.default_rng(2).random((images, *graph.input.shape)))
    got = one_frame(population, emitted)
    assert_equal(population, got, emitted)
    assert set(got) == {p.name for p in graph.populations} | set(graph.outputs) | {
        node.name for node in graph.nodes if type(node).__name__ == "MaxPool2d"
    }
    return population


def sizes(name: str, population: ThermometerNetwork) -> None:
    layers = [layer for layer in population.network.layers if isinstance(layer, (StockConv, StockDense))]
    stored, used = population.weights
    biases = min(int(layer.bias.min()) for layer in layers), max(int(layer.bias.max()) for layer in layers)
    thresholds = max(layer.neuron.threshold for layer in layers[:-1])
    print(
        f"{name}: {population.depth} steps, {population.neurons} neurons, {stored} weights, {used} not zero, "
        f"biases {biases}, greatest threshold {thresholds}"
    )


def test_lenet_equals_the_integer_network() -> None:
    torch.manual_seed(0)
    population = converted(integer_graph(lenet(), (1, 28, 28), 4), 20)
    sizes("LeNet, 2 bits", population)
    assert population.depth == 7
    assert population.neurons == 3 * (6 * 28 * 28 + 6 * 14 * 14 + 16 * 10 * 10 + 16 * 5 * 5 + 120 + 84) + 10


@pytest.mark.parametrize("option", ["A", "B"])
def test_resnet20_equals_the_integer_network(option: str) -> None:
    torch.manual_seed(0)
    graph = integer_graph(ResNet20(option), (3, 32, 32), 2)
    population = converted(graph, 1 if option == "B" else 2)
    sizes(f"ResNet-20, option {option}, 2 bits", population)
    assert population.depth == graph.depth == 20
    # relays in the first stage of every block: the block's input, and after a stride only every second pixel of it
    maps = 32 * 32 * 16, 16 * 16 * 32, 8 * 8 * 64
    relays = 3 * maps[0] + 16 * 16 * 16 + 2 * maps[1] + 8 * 8 * 32 + 2 * maps[2]
    assert population.neurons == 3 * (7 * maps[0] + 6 * maps[1] + 6 * maps[2] + relays) + 10


def test_more_copies_round_less() -> None:
    torch.manual_seed(0)
    # with 4-bit weights the shortcuts weigh more than 8 bits can hold beside them
    graph = integer_graph(ResNet20("A"), (3, 16, 16), 4)
    emitted = graph.input.encode(np.random.default_rng(3).random((2, 3, 16, 16)))
    shares = [changed_counts(graph, to_stock_range(graph, replicas=n), emitted) for n in (1, 8)]
    few, many = (np.mean(list(each.values())) for each in shares)
    print(f"mean share of changed counts with 1 copy {few:.2f}, with up to 8 {many:.2f}")
    assert few > 1.5 * many
