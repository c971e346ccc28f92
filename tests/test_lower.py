"""Lowering: exact where scales are powers of two, within rounding elsewhere, and every problem named at once."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.conversion.fit import MIN_THRESHOLD
from fastsnn_deploy.conversion.lower import lower
from fastsnn_deploy.conversion.trace import trace
from fastsnn_deploy.errors import InputError, LoweringError
from fastsnn_deploy.graph import (
    Concat,
    Conv2d,
    Flatten,
    Identity,
    Input,
    MaxPool2d,
    Node,
    Population,
    Readout,
    SpikingGraph,
    Synapse,
)
from fastsnn_deploy.graph.arithmetic import per_channel, quantise
from fastsnn_deploy.graph.integer_network import integer_values, logits
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.quantisation import load, prepare
from fastsnn_deploy.quantisation.layers import PadChannels, QuantActivation, QuantConv2d, QuantInput, QuantLinear
from fastsnn_deploy.simulators.reference import simulate
from tests.random_networks import Reference, random_network, reference


def activation(step: float = 1.0, bits: int = 4, signed: bool = False) -> QuantActivation:
    layer = QuantActivation(bits, signed)
    layer.initialised.fill_(True)
    with torch.no_grad():
        layer.step.fill_(step)
    return layer


def image(channels: int = 2, mean: float = 0.0) -> QuantInput:
    return QuantInput(channels, 1 / 16, 0, 15, mean=(mean,), std=1 / 16)


def conv(inputs: int, outputs: int, kernel: int = 3, *, seed: int = 0, step: float = 1.0, **options) -> QuantConv2d:
    """Random integer weights times `step`."""
    options.setdefault("padding", kernel // 2)
    layer = QuantConv2d(inputs, outputs, kernel, **{"bias": False, "weight_bits": 4, **options})
    limit = 2 ** (layer.weight_bits - 1) - 1
    weight = np.random.default_rng(seed).integers(-limit, limit + 1, tuple(layer.weight.shape))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight * step))
        layer.weight_step.fill_(step)
    return layer


def norm(gain: list[float], shift: list[float] | None = None, variance: float = 1.0) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(len(gain), eps=2.0**-10)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(gain))
        layer.bias.copy_(torch.tensor(shift or [0.0] * len(gain)))
        layer.running_var.fill_(variance - 2.0**-10)
    return layer


def pixels(shape: tuple[int, ...] = (2, 5, 7), count: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 16, (count, *shape)) / 16


def lowered(network: nn.Module, shape: tuple[int, ...] = (2, 5, 7), **options) -> SpikingGraph:
    return lower(trace(network.eval(), shape), **options)


def assert_equal(network: nn.Module, graph: SpikingGraph, images: np.ndarray) -> None:
    """Every activation's integers and the answer are those of the quantised model."""
    answer, run = reference(network, images)
    values = integer_values(graph, graph.input.encode(images))
    for name in run.activations:
        counts = run.counts(name)
        assert np.array_equal(values[name].reshape(counts.shape), counts), name
    assert np.array_equal(logits(graph, values).reshape(answer.shape), answer)


def exact(network: nn.Module, shape: tuple[int, ...] = (2, 5, 7)) -> SpikingGraph:
    graph = lowered(network, shape)
    assert_equal(network, graph, pixels(shape))
    return graph


# exactness


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_quantiseds_lower_exactly(seed: int):
    network, shape, images = random_network(seed)
    graph = lowered(network, shape)
    # below, the 24-bit state or the 8-bit mantissas of very unequal arms have taken resolution away
    assume(all(node.threshold.min() >= MIN_THRESHOLD for node in graph.populations if ".relay" not in node.name))
    assert_equal(network, graph, images)


@settings(max_examples=10)
@given(
    seed=st.integers(0, 2**32 - 1),
    neurons=st.sampled_from(["unary", "graded"]),
    arrival=st.sampled_from(["once", "spread"]),
    bias=st.sampled_from(["wave", "spread", "initial"]),
    balance=st.booleans(),
)
def test_lowered_graphs_settle_to_their_integers(seed: int, neurons: str, arrival: str, bias: str, balance: bool):
    network, shape, images = random_network(seed, blocks=2)
    graph = lowered(network, shape, neurons=neurons, input_schedule=arrival, bias_schedule=bias, balance=balance)
    assume(sum(node.ceiling - node.floor for node in graph.populations) < 500)
    emitted = graph.input.encode(images[:2])
    values, run = integer_values(graph, emitted), simulate(graph, emitted)
    for node in graph.nodes:
        if isinstance(node, (Population, MaxPool2d)) or node.name in graph.outputs:
            assert np.array_equal(run.final(node.name), values[node.name]), node.name


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_arms_of_balanced_graphs_arrive_together(seed: int):
    network, shape, _ = random_network(seed)
    graph = lowered(network, shape)
    for node in graph.nodes:
        arrivals = {graph.depths[name] + d for name, d in zip(node.inputs, node.edge_delays, strict=True)}
        assert len(arrivals) <= 1


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_scales_differ_only_at_rounding_boundaries(seed: int):
    """Each population alone, on its own sources' integers, so that nothing adds up over layers."""
    network, shape, images = random_network(seed)
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, (QuantConv2d, QuantLinear)):
                whole, _ = layer.integer_weight()
                layer.weight_step.mul_(torch.from_numpy(rng.uniform(0.7, 1.4, len(layer.weight_step))).float())
                layer.weight.copy_(whole * layer._step())
            elif isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm1d)):
                layer.weight.mul_(torch.from_numpy(rng.uniform(0.7, 1.4, len(layer.weight))).float())
                layer.bias.add_(torch.from_numpy(rng.normal(0, 0.1, len(layer.bias))).float())
    graph = lowered(network, shape)
    _, run = reference(network, images)
    values = compared_alone(graph, run, images)
    for name, (expected, found) in values.items():
        off = np.abs(expected - found)
        assert off.max(initial=0) <= 1, name
        assert off.sum() <= 3 + 0.01 * off.size, name


def compared_alone(graph: SpikingGraph, run: Reference, images: np.ndarray) -> dict[str, tuple]:
    """(quantised model's, integer network's) counts of each activation when everything before it is the quantised
    model's."""
    values: dict[str, np.ndarray] = {}
    compared: dict[str, tuple] = {}
    for node in graph.nodes:
        values[node.name] = _value(node, [values[name] for name in node.inputs], graph.input.encode(images))
        if node.name in run.activations:  # a population, or the concat of its parts
            counts = run.counts(node.name).reshape(values[node.name].shape)
            compared[node.name] = (counts, values[node.name])
            values[node.name] = counts
    return compared


def _value(node: Node, inputs: list[np.ndarray], emitted: np.ndarray) -> np.ndarray:
    if isinstance(node, Input):
        return emitted
    if isinstance(node, (Synapse, MaxPool2d)):
        return node.apply(inputs[0])
    if isinstance(node, (Flatten, Concat)):
        return node.value(*inputs)
    synaptic_input = sum(inputs) + per_channel(node.bias, len(node.shape))
    if isinstance(node, Readout):
        return synaptic_input
    threshold, initial = per_channel(node.threshold, len(node.shape)), per_channel(node.initial, len(node.shape))
    return quantise(synaptic_input, threshold, initial, node.floor, node.ceiling)


# single layer types


def test_depthwise_strided_dilated_convolutions():
    exact(
        nn.Sequential(
            image(), conv(2, 4, groups=2, stride=(2, 1), padding=(0, 2)), activation(4.0),
            conv(4, 4, dilation=(1, 2), padding=(2, 1), groups=2, seed=1), activation(8.0, signed=True),
            conv(4, 2, padding="same", seed=2), activation(8.0), conv(2, 2, padding="valid"),
        )
    )  # fmt: skip


def test_option_a_shortcut_is_one_rectangular_convolution():
    class OptionA(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.conv, self.act = image(), conv(2, 5, stride=2), activation(4.0)

        def forward(self, x):
            x = self.image(x)
            return self.act(self.conv(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 2)))

    graph = exact(OptionA())
    arm = next(node for node in graph.synapses if node.name != "conv")
    assert isinstance(arm, Conv2d)
    assert arm.stride == (2, 2)
    assert np.array_equal(arm.weight[:, :, 0, 0] != 0, np.eye(5, 2, -1, dtype=bool))


def test_channels_of_any_sum_can_be_padded():
    binary = conv(2, 3, 1, weight_bits=2)  # weights 0 and 1 look like a pool's
    with torch.no_grad():
        binary.weight.abs_()
    for layers in ([binary], [conv(2, 3), norm([1.0, -2.0, 0.5], [1.0, 0.0, 0.5])], [nn.AvgPool2d(2)], []):
        padded = [*layers, PadChannels(1, 0), PadChannels(0, 2)]
        channels = (3 if len(layers) and not isinstance(layers[0], nn.AvgPool2d) else 2) + 3
        exact(nn.Sequential(image(2, 0.25), *padded, activation(2.0), conv(channels, 2)))


@pytest.mark.parametrize("pool", [nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, ceil_mode=True), nn.MaxPool2d(2, 1, 0, 2)])
def test_max_pools(pool: nn.Module):
    exact(nn.Sequential(image(2, 0.5), pool, conv(2, 3), activation(4.0, signed=True), nn.MaxPool2d(2)))


def test_average_pool_before_a_linear_layer_folds_into_its_weights():
    layers = image(), conv(2, 3), activation(4.0), nn.AdaptiveAvgPool2d((2, 2)), nn.Flatten()
    dense = QuantLinear(12, 4, weight_bits=4)
    with torch.no_grad():
        dense.weight.copy_(torch.arange(48).view(4, 12) * 5 % 15 - 7)
        dense.weight_step.fill_(1)
        dense.bias.copy_(torch.tensor([0.5, -1.0, 0.25, 2.0]))
    graph = exact(nn.Sequential(*layers, dense), (2, 4, 8))
    assert len(graph.populations) == 1
    assert graph["_5"].weight.shape == (4, 3 * 4 * 8)


def test_average_pools_that_cannot_fold_get_a_relay():
    for pool in (nn.AvgPool2d(2, 1), nn.AvgPool2d((2, 2), padding=1), nn.AvgPool2d((3, 2), divisor_override=8)):
        graph = exact(nn.Sequential(image(), pool, conv(2, 3), activation(4.0)))
        assert [node.name for node in graph.populations] == ["_2.relay", "_3"]
        assert graph.schedule.window == 15


def test_uniform_gains_on_a_pool():
    """A positive one passes through a relay; a negative or no gain cannot."""
    layers = image(), nn.AvgPool2d(2), norm([2.0, 2.0]), conv(2, 3), activation(4.0)
    exact(nn.Sequential(*layers))
    for gain in (-2.0, 0.0):
        network = nn.Sequential(image(), nn.AvgPool2d(2), norm([gain, gain]), conv(2, 3), activation(4.0))
        assert "no activation has rounded" in problems_of(network)


@pytest.mark.parametrize(
    "ending",
    [
        [nn.MaxPool2d(2)], [nn.Flatten()], [nn.AvgPool2d(2), nn.Flatten()], [conv(3, 2), nn.Flatten()],
        [conv(3, 2), norm([0.5, -1.0], [1.0, 2.0]), activation(4.0)], [nn.Upsample(scale_factor=2)], [nn.Identity()],
    ],
)  # fmt: skip
def test_every_ending_has_the_quantiseds_answer(ending: list[nn.Module]):
    exact(nn.Sequential(image(), conv(2, 3), activation(4.0), *ending))


def test_a_network_that_ends_in_a_concatenation():
    class Ends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.a, self.b = image(), conv(2, 2), conv(2, 1, seed=3)
            self.act, self.last = activation(4.0), activation(4.0)

        def forward(self, x):
            x = self.image(x)
            return torch.cat([self.act(self.a(x)), self.last(self.b(x))], 1)

    exact(Ends())


# names and structure


class Shared(nn.Module):
    """A convolution read by two activations; one of their outputs read by three layers; `block` nests."""

    def __init__(self) -> None:
        super().__init__()
        self.image = image()
        self.block = nn.Sequential(conv(2, 2), nn.Dropout(), nn.Identity())
        self.low, self.high = activation(2.0), activation(8.0, signed=True)
        self.a, self.b, self.sum = conv(2, 2, seed=1), conv(2, 2, seed=2), activation(16.0)
        self.output = conv(2, 2, seed=4)

    def forward(self, x):
        raw = self.block(self.image(x))
        low, high = self.low(raw), self.high(raw)
        return self.output(self.sum(self.a(low) + self.b(low) + low + high + high))


def test_values_with_several_readers():
    graph = exact(Shared())
    names = [node.name for node in graph.nodes]
    assert len(names) == len(set(names)) == 13
    copies = [node for node in graph.synapses if node.module == "block.0"]
    assert len(copies) == 2
    assert np.array_equal(copies[0].weight, copies[1].weight)
    assert sum(isinstance(node, Identity) for node in graph.nodes) == 3


def test_modules_lead_back_to_the_users_network():
    network = Shared()
    paths = dict(network.named_modules())
    graph = lowered(network)
    assert {node.module for node in graph.nodes if not isinstance(node, (Identity, Readout))} <= set(paths)
    assert {type(paths[node.module]) for node in graph.populations} == {QuantActivation}
    assert {type(paths[n.module]) for n in graph.nodes if isinstance(n, Conv2d)} == {QuantConv2d}


def test_the_quantised_is_left_as_it_was():
    network = Shared().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trace(network, (2, 5, 7))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_codes_and_schedules_are_passed_on():
    graph = lowered(Shared(), neurons="graded", input_schedule="spread", bias_schedule="initial")
    assert {node.neurons for node in graph.populations} == {"graded"}
    assert (graph.schedule.input, graph.schedule.bias, graph.schedule.window) == ("spread", "initial", 15)
    assert graph == with_neurons(lowered(Shared(), input_schedule="spread", bias_schedule="initial"), "graded")


def test_checkpoints_convert_with_their_metadata(checkpoint_file):
    checkpoint = load(checkpoint_file)
    graph = convert(checkpoint, neurons="graded")
    assert graph.metadata["data"] == "digits"
    assert graph.metadata["recipe"] == "test"
    assert graph.metadata["generator"].startswith("fastsnn-deploy ")
    assert float(graph.metadata["quantised_accuracy"]) == checkpoint.metadata["quantised_accuracy"]
    assert graph.input.shape == checkpoint.input_shape
    assert graph.populations[0].neurons == "graded"


def test_large_networks_lower_in_seconds():
    quantised = prepare(torchvision.models.resnet18(), std=(0.23,))
    for module in quantised.modules():
        if isinstance(module, QuantActivation):
            module.initialised.fill_(True)
    start = time.process_time()
    graph = lowered(quantised, (3, 224, 224))
    assert time.process_time() - start < 30
    assert graph[graph.outputs[0]].shape == (1000,)
    assert sum(node.parameters for node in graph.synapses) > 1e7


# reports


def problems_of(network: nn.Module, shape: tuple[int, ...] = (2, 5, 7)) -> str:
    with pytest.raises(LoweringError) as caught:
        lowered(network, shape)
    assert caught.value.problems
    return str(caught.value)


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image = image()
        self.unquantised = nn.Conv2d(2, 2, 3)
        self.untrained = QuantActivation(4)
        self.broken = conv(2, 2)
        with torch.no_grad():
            self.broken.weight[0, 0, 0, 0] = math.nan
        self.borders = nn.AvgPool2d(2, padding=1, count_include_pad=False)
        self.ceiling = nn.AvgPool2d(2, ceil_mode=True)
        self.adaptive = nn.AdaptiveAvgPool2d(2)
        self.upsample = nn.Upsample(scale_factor=2.6)
        self.still = nn.BatchNorm2d(2, track_running_stats=False)
        self.singular = nn.BatchNorm2d(2, eps=0.0)
        self.singular.running_var.zero_()

    def forward(self, x):
        y = self.broken(self.untrained(self.unquantised(self.image(x))))
        y = self.ceiling(self.borders(y))
        y = self.still(self.upsample(y))
        return self.adaptive(self.singular(y))


def test_everything_that_cannot_be_traced_is_listed_at_once():
    network = Untraceable().eval()
    text = problems_of(network)
    for path, what in (
        ("unquantised", "Conv2d is not quantised"), ("untrained", "has never seen data"), ("broken", "holds NaN"),
        ("borders", "count_include_pad"), ("ceiling", "ceil_mode"), ("adaptive", "adaptive pool from"),
        ("upsample", "by 2.6"), ("still", "without running statistics"), ("singular", "divides by zero"),
    ):  # fmt: skip
        line = next(line for line in text.splitlines() if line.startswith(f"  - {path} ("))
        assert what in line
        assert "test_lower.py:" in line
    assert len(text.splitlines()) == 10
    assert not network.untrained.initialised


class Unroundable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.stem, self.a, self.b = image(), conv(2, 2), activation(1.0), activation(2.0)
        self.first, self.second, self.after = conv(2, 2), conv(2, 2), conv(4, 2)
        self.norm, self.flat = nn.BatchNorm1d(70), nn.Flatten()

    def forward(self, x):
        x = self.stem(self.image(x))
        a, b = self.a(x), self.b(x)
        joined = self.after(torch.cat([a, b], 1))
        double = self.second(self.first(a))
        vector = self.norm(self.flat(self.first(b)))
        return vector + self.flat(joined + double)


def test_everything_that_cannot_be_lowered_is_listed_at_once():
    text = problems_of(Unroundable())
    for path, what in (
        ("second", "no activation has rounded"),
        ("norm", "batch norm after flatten"),
    ):
        line = next(line for line in text.splitlines() if line.startswith(f"  - {path} ("))
        assert what in line
        assert "test_lower.py:" in line


def test_sums_of_flattened_and_unflattened_values():
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.conv, self.flat = image(), conv(2, 2), nn.Flatten()

        def forward(self, x):
            x = self.image(x)
            return self.flat(self.conv(x)) + self.flat(x)

    assert "adds flattened and unflattened" in problems_of(Mixed())


def test_batch_norm_of_a_concatenation_of_flattened_maps():
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.a, self.b = image(), conv(2, 2), conv(2, 2)
            self.flat, self.norm = nn.Flatten(), nn.BatchNorm1d(140)

        def forward(self, x):
            x = self.image(x)
            return self.norm(torch.cat([self.flat(self.a(x)), self.flat(self.b(x))], 1))

    assert "batch norm after flatten" in problems_of(Mixed())


@pytest.mark.parametrize("raw", ["add", "cat", "conv", "output"])
def test_the_raw_image_must_not_be_read(raw: str):
    class Raw(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.image, self.conv, self.act = nn.Dropout(), image(), conv(2, 2), activation(4.0)

        def forward(self, x):
            x = self.drop(x)
            y = self.act(self.conv(self.image(x)))
            return {"add": lambda: x + y, "cat": lambda: torch.cat([y, x], 1), "conv": lambda: self.conv(x)}[raw]()

    network = Raw() if raw != "output" else nn.Sequential(nn.Identity())
    assert "the raw image" in problems_of(network)


def test_an_input_in_the_middle():
    assert "in the middle" in problems_of(nn.Sequential(image(), conv(2, 2), activation(), image(), conv(2, 2)))


@pytest.mark.parametrize("shape", [(3, 5, 7), (5, 7), (2, 1, 7), (70,), (2, 0, 7), (1, 2, 5, 7), ()])
def test_wrong_image_shapes(shape: tuple[int, ...], capfd):
    network = nn.Sequential(image(), conv(2, 2, padding=0), activation(), conv(2, 2)).eval()
    with pytest.raises(InputError, match="input_shape"):
        trace(network, shape)
    assert capfd.readouterr() == ("", "")


def test_signatures():
    class Two(nn.Module):
        def forward(self, x, y):
            return x + y

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image = image()

        def forward(self, x):
            return self.image(x), self.image(x)

    assert "takes 2 tensors" in problems_of(Two())
    assert "does not return one tensor" in problems_of(Pair())


@pytest.mark.parametrize("factor", [1.3, 2.2])
def test_upsampling_by_a_broken_factor_that_gives_a_whole_size(factor: float):
    network = nn.Sequential(image(), nn.Upsample(scale_factor=factor), conv(2, 2))
    assert f"by {factor}" in problems_of(network, (2, 2, 2))
