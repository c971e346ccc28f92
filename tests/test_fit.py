"""Integers for real scales: batch norm, dead and huge channels, shortcuts of any ratio, readouts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fastsnn_deploy.conversion.fit import MAX_THRESHOLD
from fastsnn_deploy.graph.integer_network import integer_values, logits
from fastsnn_deploy.graph.ranges import STATE_MAX, ranges
from fastsnn_deploy.quantisation.layers import QuantInput
from tests.random_networks import reference
from tests.test_lower import activation, compared_alone, conv, exact, image, lowered, norm, pixels


def test_gains_of_both_signs_and_zero():
    gain = [0.5, -0.25, 0.0, 1.0]
    layers = image(), conv(2, 4), norm(gain, [0.5, 1.0, 2.75, -1.0], 4.0), activation(1.0), conv(4, 3, 5)
    graph = exact(nn.Sequential(*layers))
    values = integer_values(graph, graph.input.encode(pixels()))
    assert (values["_3"][:, 2] == 3).all()
    assert len(np.unique(values["_3"][:, 1])) > 3


def test_batch_norm_goes_into_threshold_and_bias_not_into_weights():
    first = conv(2, 4, seed=3)
    network = nn.Sequential(image(), first, norm([0.5, -0.25, 3.0, 0.01], [0.3, 0.2, 0.1, 0.0]), activation(0.7))
    synapse = lowered(network)["_1"]
    whole = first.integer_weight()[0].numpy()
    assert np.array_equal(synapse.weight[[0, 2, 3]], whole[[0, 2, 3]])
    assert np.array_equal(synapse.weight[1], -whole[1])


@pytest.mark.parametrize("gain", [1e-3, 1e-6, 1e-12, 1e-30])
def test_dead_channels_are_floored(gain: float):
    network = nn.Sequential(image(), conv(2, 3), norm([gain, -gain, 1.0], [3.3, -2.0, 0.0]), activation(1.0))
    graph = lowered(network)
    population = graph["_3"]
    assert population.threshold.max() <= MAX_THRESHOLD
    values = integer_values(graph, graph.input.encode(pixels()))
    _, run = reference(network.eval(), pixels())
    assert np.array_equal(values["_3"], run.counts("_3"))


def test_a_large_threshold_of_a_channel_that_is_alive_costs_no_weight_bits():
    """8-bit images times 8-bit weights over 147 taps: the threshold alone does not make a channel dead."""
    picture = QuantInput(3, 1 / 255, std=1 / 255)
    first = conv(3, 8, 7, weight_bits=8)
    network = nn.Sequential(picture, first, activation(150_000.0, bits=2, signed=True)).eval()
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16)) / 255
    graph = lowered(network, (3, 16, 16))
    assert np.array_equal(graph["_1"].weight, first.integer_weight()[0].numpy())
    _, run = reference(network, images)
    assert len(np.unique(run.counts("_2"))) == 4
    assert np.array_equal(integer_values(graph, graph.input.encode(images))["_2"], run.counts("_2"))


@pytest.mark.parametrize("gain", [64.0, 2.0**14, -(2.0**20), 2.0**60])
@pytest.mark.parametrize("bits", [1, 8])
def test_huge_gains_saturate(gain: float, bits: int):
    """One unit of synaptic input is many counts; where the synaptic input is 0 the bias alone decides, at full
    resolution."""
    layers = image(), conv(2, 2, 1, weight_bits=2), norm([gain, 1.0], [3.4375, 0.5]), activation(1.0, bits)
    exact(nn.Sequential(*layers))


def test_zero_variance():
    layer = norm([0.5, 2.0])
    with torch.no_grad():
        layer.running_var.zero_()
    exact(nn.Sequential(image(), conv(2, 2), layer, activation(8.0)))  # eps is a power of four


@pytest.mark.parametrize("bias", [1e5, -1e5, 1e18, -1e30])
def test_huge_biases_saturate_within_the_state(bias: float):
    network = nn.Sequential(image(), conv(2, 2), norm([1.0, 1.0], [bias, 0.5]), activation(1.0)).eval()
    graph = lowered(network)
    counts = integer_values(graph, graph.input.encode(pixels()))["_3"]
    assert (counts[:, 0] == (15 if bias > 0 else 0)).all()
    _, run = reference(network, pixels())
    assert np.array_equal(counts[:, 1], run.counts("_3")[:, 1])


@pytest.mark.parametrize("signed", [False, True])
def test_zero_weights(signed: bool):
    layer = conv(2, 2, bias=True)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([-1.75, 2.5]))
    graph = exact(nn.Sequential(image(), layer, activation(1.0, signed=signed)))
    assert not graph["_1"].weight.any()


@pytest.mark.parametrize("bits", [1, 8])
@pytest.mark.parametrize("weight_bits", [2, 8])
def test_extreme_bit_widths(bits: int, weight_bits: int):
    layers = [image(2, 0.5), conv(2, 4, weight_bits=weight_bits), norm([0.25] * 4), activation(2.0, bits)]
    exact(nn.Sequential(*layers, conv(4, 3, seed=1, weight_bits=weight_bits), activation(8.0, bits), nn.Flatten()))


def test_zero_padding_of_the_image_is_padding_with_its_mean():
    """A picture of nothing but the mean looks the same at its border and inside."""
    network = nn.Sequential(image(2, mean=0.5), conv(2, 3, 3, weight_bits=8), activation(4.0, 8, signed=True))
    graph = exact(network)
    flat = np.full((1, 2, 5, 7), 0.5)
    assert not graph.input.encode(flat).any()
    assert not integer_values(graph, graph.input.encode(flat))["_2"].any()
    brighter = integer_values(graph, graph.input.encode(flat + 1 / 16))["_2"]
    assert not (brighter == brighter[:, :, 2:3, 3:4]).all()


class Residual(nn.Module):
    def __init__(self, ratio: float, bits: int = 4) -> None:
        super().__init__()
        self.image, self.skip, self.conv = image(), activation(ratio, bits), conv(2, 2)
        self.stem, self.norm, self.act = (
            conv(2, 2, seed=5),
            norm([0.0103, -0.0197], [0.2517, 0.513]),
            activation(1.0, bits),
        )
        self.scale = norm([ratio / 8, ratio / 8])

    def forward(self, x):
        x = self.image(x)
        skip = self.skip(self.scale(self.stem(x)))
        return self.act(self.norm(self.conv(x)) + skip)


@pytest.mark.parametrize("ratio", [1e-4, 1e-2, 0.3, 1.0, 7.0, 100.0, 1e4])
@pytest.mark.parametrize("bits", [2, 8])
def test_shortcuts_of_any_ratio(ratio: float, bits: int):
    network = Residual(ratio, bits).eval()
    graph = lowered(network)
    images = pixels(count=16)
    _, run = reference(network, images)
    expected, found = compared_alone(graph, run, images)["act"]
    off = np.abs(expected - found)
    assert len(np.unique(expected)) > 1
    assert off.max() <= 1
    assert off.mean() <= 0.01
    assert graph["add.from.skip"].exponent.min() >= 0


def test_a_shortcut_that_8_bits_cannot_hold_has_a_second_synapse():
    graph = lowered(Residual(1.0))
    coarse, fine = graph["add.from.skip"], graph["add.from.skip.fine"]
    assert coarse.inputs == fine.inputs == ("skip",)
    assert {coarse.name, fine.name} < set(graph["act"].inputs)
    assert coarse.delay == fine.delay
    weight = (coarse.effective_weight + fine.effective_weight).astype(np.float64)
    wanted = graph["skip"].scale / graph["act"].input_scale
    assert np.abs(weight / wanted - 1).max() < 2**-16
    assert np.abs(coarse.effective_weight / wanted - 1).max() > 2**-12


def test_a_readout_resolves_its_weaker_arm():
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.strong, self.weak = image(), conv(2, 2), conv(2, 2, step=1 / 64, weight_bits=8)

        def forward(self, x):
            x = self.image(x)
            return self.strong(x) + self.weak(x)

    exact(Sum())


def test_one_dead_readout_channel_costs_the_others_nothing():
    network = nn.Sequential(image(), conv(2, 3), norm([1.0, 1e-9, 0.0], [0.5, 1.0, -3.0])).eval()
    graph = lowered(network, allow_loss=True)
    answer, _ = reference(network, pixels())
    found = logits(graph, integer_values(graph, graph.input.encode(pixels())))
    assert np.array_equal(found[:, 0], answer[:, 0])
    assert np.abs(found - answer).max() < 1e-5
    assert ranges(graph.nodes)["output"].magnitude <= STATE_MAX


def test_a_wide_readout_channel_costs_the_others_nothing():
    wide = conv(2, 2, weight_bits=8)
    with torch.no_grad():
        wide.weight[0], wide.weight[1] = 1.0, 127.0
    network = nn.Sequential(QuantInput(2, 1 / 255, std=1 / 255), wide, norm([1.0, 0.5], [3 / 16, 0.0])).eval()
    graph = lowered(network)
    images = np.random.default_rng(0).integers(0, 256, (2, 2, 5, 7)) / 255
    answer, _ = reference(network, images)
    assert np.array_equal(logits(graph, integer_values(graph, graph.input.encode(images)))[:, 0], answer[:, 0])
    assert graph["output"].scale[1] > 1 / 32


def test_a_huge_bias_of_a_readout_fits_the_state():
    network = nn.Sequential(image(), conv(2, 2), norm([1.0, 1.0], [1e25, 0.0])).eval()
    graph = lowered(network, allow_loss=True)
    answer, _ = reference(network, pixels())
    found = logits(graph, integer_values(graph, graph.input.encode(pixels())))
    assert np.abs(found - answer)[:, 0].max() <= 1e25 * 2.0**-20
    assert ranges(graph.nodes)["output"].magnitude <= STATE_MAX
