"""Transposed convolutions: the map that PyTorch defines, exact in every engine, format and target that holds it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from fastsnn_deploy.backends import lava
from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.errors import GraphError
from fastsnn_deploy.formats import netx
from fastsnn_deploy.formats.nir.losses import losses_of
from fastsnn_deploy.graph import ConvTranspose2d, SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values, logits
from fastsnn_deploy.graph.synapses.conv_transpose2d import channels_swapped
from fastsnn_deploy.quantisation import Checkpoint, QuantConvTranspose2d, load, prepare, save
from fastsnn_deploy.quantisation.layers import quantisers_off
from fastsnn_deploy.simulators.batched import ReferenceEngine
from fastsnn_deploy.simulators.cpu import CpuEngine
from fastsnn_deploy.simulators.gpu import GpuEngine
from fastsnn_deploy.simulators.integer import integer_outputs
from fastsnn_deploy.simulators.reference import simulate
from fastsnn_deploy.targets.sigma_delta.merge import stages_of
from tests.random_graphs import random_graph, random_images
from tests.test_engine import assert_equal_runs, recorded_nodes
from tests.test_lower import activation, conv, exact, image, norm
from tests.test_thermometer import assert_documented, check_graph

SEEDS = st.integers(0, 10_000)


def random_synapse(seed: int, **fixed) -> tuple[ConvTranspose2d, tuple[int, int, int]]:
    """A transposed convolution and the shape of its source."""
    rng = np.random.default_rng(seed)
    groups, inputs, outputs = (int(n) for n in rng.integers(1, 4, 3))

    def pair(low: int, high: int) -> tuple[int, int]:
        return int(rng.integers(low, high + 1)), int(rng.integers(low, high + 1))

    while True:
        fields = {"stride": pair(1, 3), "dilation": pair(1, 2), "padding": pair(0, 3), "groups": groups} | fixed
        room = [max(fields["stride"][i], fields["dilation"][i]) for i in (0, 1)]
        fields |= {"output_padding": (int(rng.integers(room[0])), int(rng.integers(room[1])))}
        weight = rng.integers(-127, 128, (groups * outputs, inputs, *pair(1, 4))).astype(np.int8)
        source = (groups * inputs, *pair(1, 5))
        common = {"name": "up", "inputs": ("image",), "weight": weight, "exponent": rng.integers(0, 3, len(weight))}
        try:
            shape = ConvTranspose2d(shape=source, **common, **fields).output_shape(source)
        except ValueError:  # padding leaves nothing
            continue
        return ConvTranspose2d(shape=shape, **common, **fields), source


@given(SEEDS)
def test_it_is_pytorchs_map(seed: int):
    synapse, source = random_synapse(seed)
    spikes = np.random.default_rng(seed).integers(-9, 10, (2, *source))
    weight = torch.from_numpy(channels_swapped(synapse.effective_weight, synapse.groups)).double()
    expected = F.conv_transpose2d(
        torch.from_numpy(spikes).double(), weight, None, synapse.stride, synapse.padding, synapse.output_padding,
        synapse.groups, synapse.dilation,
    )  # fmt: skip
    assert synapse.shape == tuple(expected.shape[1:])
    assert np.array_equal(synapse.apply(spikes), expected.numpy())
    assert np.array_equal(channels_swapped(weight, synapse.groups).numpy(), synapse.effective_weight)


@given(SEEDS)
def test_bounds_are_reached_and_never_passed(seed: int):
    """Against the matrix of all connections: the worst spikes of every neuron, and no worse."""
    synapse, source = random_synapse(seed)
    rng = np.random.default_rng(seed)
    low, high = -rng.integers(0, 5, source[0]), rng.integers(0, 9, source[0])
    size = int(np.prod(source))
    matrix = synapse.apply(np.eye(size, dtype=np.int64).reshape(size, *source)).reshape(size, synapse.channels, -1)
    ends = [np.repeat(end, size // source[0])[:, None, None] for end in (low, high)]
    least = np.minimum(matrix * ends[0], matrix * ends[1]).sum(0).min(1)
    most = np.maximum(matrix * ends[0], matrix * ends[1]).sum(0).max(1)
    found = synapse.input_bounds(low, high)
    assert np.array_equal(found[0], least)
    assert np.array_equal(found[1], most)


@given(SEEDS)
def test_fan_out_counts_every_connection(seed: int):
    synapse, source = random_synapse(seed)
    ones = replace(synapse, weight=np.ones_like(synapse.weight), exponent=np.zeros_like(synapse.exponent))
    size = int(np.prod(source))
    reached = ones.apply(np.eye(size, dtype=np.int64).reshape(size, *source)).reshape(size, -1).sum(1)
    assert np.array_equal(synapse.fan_out(source), reached.reshape(source))
    assert reached.sum() <= synapse.padded_fan_in(source)


def test_what_does_not_fit_is_refused():
    synapse, source = random_synapse(0)
    for fields, words in (
        ({"output_padding": (9, 0)}, "less than stride or dilation"),
        ({"padding": (99, 0), "output_padding": (0, 0)}, "leaves nothing"),
        ({"weight": np.zeros((2, 2), dtype=np.int8)}, "weight must be"),
        ({"groups": 7}, "channels"),
    ):
        with pytest.raises(ValueError, match=words):
            replace(synapse, **fields).output_shape(source)


def network(seed: int, **options) -> SpikingGraph:
    """A random graph that holds a transposed convolution."""
    while True:
        graph = random_graph(seed, blocks=3, max_size=4, transposed=True, **options)
        if any(isinstance(node, ConvTranspose2d) for node in graph.nodes):
            return graph
        seed += 10_001


@pytest.mark.parametrize("seed", range(6))
def test_engines_equal_the_reference(seed: int):
    graph = network(seed, neurons=("unary", "graded")[seed % 2])
    emitted = graph.input.encode(random_images(graph, seed, 3))
    names = recorded_nodes(graph)
    expected = ReferenceEngine(graph).run(emitted, None, names)
    for density in (-1.0, 0.3, 2.0):
        assert_equal_runs(CpuEngine(graph, 1, density=density).run(emitted, None, names), expected)
    assert_equal_runs(GpuEngine(graph, device="cpu").run(emitted, None, names), expected)
    assert np.array_equal(integer_outputs(graph, random_images(graph, seed, 3)),
                          integer_values(graph, emitted)[graph.outputs[0]])  # fmt: skip


def test_netx_files_hold_it_and_stock_lava_dl_does_not_know_their_type(tmp_path: Path):
    for seed in range(3):
        graph = network(seed)
        netx.write(graph, tmp_path / "up.net")
        assert netx.read(tmp_path / "up.net") == graph
    with h5py.File(tmp_path / "up.net") as file:
        assert b"convT" in {layer["type"][0] for layer in file["layer"].values()}


def test_stock_neurons_compute_it_exactly():
    made = 0
    for seed in range(8):
        try:
            check_graph(network(seed))
            made += 1
        except GraphError as error:
            assert_documented(error)
    assert made >= 4


def test_it_merges_into_sigma_delta_stages():
    graph = network(4)
    for stage in stages_of(graph):
        assert stage.weight.any()


@pytest.mark.lava
def test_lava_gives_the_reference_integers():
    graph = network(1, neurons="graded")
    emitted = graph.input.encode(random_images(graph, 1, 2))
    expected = simulate(graph, emitted)
    run = lava.run(graph, emitted, expected.steps, timeout=120)
    for found, wanted in ((run.spikes, expected.spikes), (run.potentials, expected.potentials)):
        assert found.keys() == wanted.keys()
        assert all(np.array_equal(found[name], values) for name, values in wanted.items())


def test_nir_lists_it_as_lost():
    losses = losses_of(network(0))
    assert any(loss.lost == "ConvTranspose2d" and loss.can_change_results for loss in losses)


class Decoder(nn.Module):
    """A small U-Net: halved, doubled again by a transposed convolution, beside what was not halved."""

    def __init__(self) -> None:
        super().__init__()
        self.side, self.down = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(2, 4, 2, 2)
        self.up = nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2, bias=False)
        self.norm, self.head = nn.BatchNorm2d(6), nn.ConvTranspose2d(9, 2, (1, 3), dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        up = self.norm(self.up(torch.relu(self.down(x)))).relu()
        return self.head(torch.cat([torch.relu(self.side(x)), up], 1))


def trained() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    quantised, images = prepare(Decoder(), bits=3), torch.rand(8, 2, 6, 8)
    with torch.no_grad():
        quantised(images)
    optimiser = torch.optim.SGD(quantised.parameters(), 0.01)
    for _ in range(3):
        optimiser.zero_grad()
        quantised(images).square().mean().backward()
        assert quantised.get_submodule("up").weight.grad.abs().sum() > 0
        optimiser.step()
    return quantised.eval(), images


def test_prepared_trained_and_converted():
    """The trained integers are the graph's, and a count that differs from the model's lies at a rounding edge."""
    quantised, images = trained()
    graph = convert(Checkpoint(quantised, input_shape=(2, 6, 8)))
    up = graph["up.weight"]
    layer = quantised.get_submodule("up")
    assert isinstance(up, ConvTranspose2d)
    assert np.array_equal(np.abs(up.weight), layer.integer_weight()[0].abs().numpy())
    emitted = graph.encode(images.numpy())
    values = integer_values(graph, emitted)
    off = np.abs(logits(graph, values) - quantised(images).detach().numpy())
    assert (off < 1e-4).mean() > 0.98
    assert np.array_equal(simulate(graph, emitted).final(graph.outputs[0]), values[graph.outputs[0]])


@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 1), ((4, 3), (2, 3), 1)])
@pytest.mark.parametrize("per_channel", [True, False])
def test_lowering_is_exact_where_scales_are_powers_of_two(window, per_channel: bool):
    layer = QuantConvTranspose2d(4, 6, *window, groups=2, weight_bits=4, per_channel=per_channel)
    with torch.no_grad():
        layer.weight.copy_(torch.randint(-7, 8, layer.weight.shape) * 0.5)
        layer.weight_step.fill_(0.5)
    gains = norm([0.5, -1.0, 2.0, 1.0, 4.0, -0.5], [1.0, 0.5, 0.0, -1.0, 2.0, 0.0])
    exact(nn.Sequential(image(), conv(2, 4), activation(4.0), layer, gains, activation(4.0), conv(6, 2)))


def test_checkpoints_hold_it(tmp_path: Path):
    quantised, images = trained()
    save(Checkpoint(quantised, input_shape=(2, 6, 8)), tmp_path / "up.pt")
    assert torch.equal(load(tmp_path / "up.pt").model.eval()(images), quantised(images))


def test_a_size_given_in_the_call_is_kept():
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(2, 3, 3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.up(x, output_size=(8, 8))

    model, images = Sized(), torch.rand(2, 2, 3, 3)
    quantised = prepare(model, input_shape=(2, 3, 3))
    with quantisers_off(quantised), torch.no_grad():
        assert torch.allclose(quantised.eval()(images), model(images), atol=1e-5)
