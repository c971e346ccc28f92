"""Networks of memoryless LIF, exported to NIR, in readers that we did not write: snnTorch and NIRTorch.

Every hidden spike and every answer must be the integer that our simulation of stock Lava gives.
"""

from __future__ import annotations

from contextlib import suppress

import nir
import nirtorch
import numpy as np
import pytest
import torch
from snntorch.import_nir import import_from_nir
from torch import nn

from fastsnn_deploy.errors import GraphError
from fastsnn_deploy.formats.nir import export_thermometer, import_nir, import_thermometer
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.lava_dl.compare import difference
from fastsnn_deploy.lava_dl.dense_weights import computed_weight
from fastsnn_deploy.lava_dl.network import (
    Lif,
    StockConv,
    StockDense,
    StockFlatten,
    StockInput,
    StockLayer,
    StockNetwork,
)
from fastsnn_deploy.lava_dl.simulate import Reset, run
from fastsnn_deploy.targets.thermometer.network import ThermometerNetwork, to_thermometer
from tests.random_graphs import random_graph, random_images

FRAMES = 4


class Networks:
    """Random chains of memoryless LIF with odd shapes, groups, strides, dilations and biases."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.vector = seed % 6 == 5
        self.shape = (
            (self.integer(1, 6),) if self.vector else (self.integer(1, 4), *self.rng.integers(3, 9, 2).tolist())
        )
        self.layers: list[StockLayer] = []

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def add(self, layer: StockLayer) -> None:
        self.layers.append(layer)
        self.shape = layer.shape

    def bias(self, channels: int) -> np.ndarray | None:
        return self.rng.integers(-60, 61, channels) if self.rng.random() < 0.8 else None

    def lif(self) -> Lif:
        return Lif(self.integer(-40, 40))

    def conv(self) -> None:
        channels = self.shape[0]
        groups = channels if self.rng.random() < 0.3 else 1
        outputs = groups * self.integer(1, 3)
        size = self.integer(1, 3)
        kernel = (size, size) if self.rng.random() < 0.6 else (self.integer(1, 3), self.integer(1, 3))
        options = {
            "stride": (self.integer(1, 2), self.integer(1, 2)),
            "padding": (self.integer(0, 2), self.integer(0, 1)),
        }
        dilation = (self.integer(1, 2), self.integer(1, 2))
        spans = [self.shape[1 + i] + 2 * options["padding"][i] - dilation[i] * (kernel[i] - 1) - 1 for i in (0, 1)]
        if min(spans) < 0:
            kernel, spans = (1, 1), [self.shape[1 + i] + 2 * options["padding"][i] - 1 for i in (0, 1)]
        shape = (outputs, *(spans[i] // options["stride"][i] + 1 for i in (0, 1)))
        weight = self.rng.integers(-127, 128, (outputs, channels // groups, *kernel))
        self.add(
            StockConv(
                shape=shape,
                weight=weight,
                bias=self.bias(outputs),
                neuron=self.lif(),
                dilation=dilation,
                groups=groups,
                **options,
            )
        )

    def dense(self, neuron: Lif | None) -> None:
        if len(self.shape) == 3:
            self.add(StockFlatten(shape=(int(np.prod(self.shape)),)))
        outputs = self.integer(2, 6)
        weight = np.zeros((outputs, *self.shape), dtype=np.int64)
        while (lava := computed_weight(weight)) is None or not np.array_equal(lava, weight):
            weight = self.rng.integers(-127, 128, weight.shape)
        self.add(StockDense(shape=(outputs,), weight=weight, bias=self.bias(outputs), neuron=neuron))

    def network(self, readout: str) -> StockNetwork:
        as_bias = self.rng.random() < 0.25
        bits = 0 if as_bias else self.integer(0, 1) * 6
        self.add(StockInput(shape=self.shape, neuron=self.lif() if as_bias else None))
        for _ in range(self.integer(0, 3)):
            self.dense(self.lif()) if len(self.shape) == 1 else self.conv()
        self.dense({"never": Lif(2**17), "fires": self.lif(), "accumulates": None}[readout])
        return StockNetwork(tuple(self.layers), bits, {"name": "random"})

    def frames(self, network: StockNetwork) -> np.ndarray:
        """Messages or biases of FRAMES frames: int64 [FRAMES, 1, *shape]."""
        signed = network.input_message_bits or network.layers[0].neuron is not None
        low, high = (-50, 64) if signed else (0, 2)
        return self.rng.integers(low, high, (FRAMES, 1, *network.layers[0].shape))


class Heaviside(nn.Module):
    """NIR's Threshold: 1 where the input is greater than the threshold."""

    def __init__(self, node: nir.Threshold) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.from_numpy(node.threshold))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > self.threshold).to(x)


def affine(node: nir.Affine) -> nn.Linear:
    """NIRTorch 2.6 leaves the bias of its own Affine at random values."""
    module = nn.Linear(node.weight.shape[1], node.weight.shape[0])
    module.weight.data, module.bias.data = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
    return module


def in_nirtorch(graph: nir.NIRGraph) -> nn.Module:
    return nirtorch.nir_to_torch(graph, {nir.Threshold: Heaviside, nir.Affine: affine})


READERS = {"threshold": in_nirtorch, "lif": import_from_nir}


def answers(model: nn.Module, frames: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(output [T, *shape], spikes of each neuron node by name), frame after frame without a reset."""
    spikes: dict[str, list[np.ndarray]] = {}
    for name, module in model.named_children():
        if name.startswith("neuron_"):
            module.register_forward_hook(
                lambda module, given, made, name=name: spikes.setdefault(name, []).append(made.detach().numpy())
            )
    with torch.no_grad():
        outputs = [model(torch.from_numpy(frame[0]).float())[0].numpy() for frame in frames]
    return np.stack(outputs), {name: np.stack(series) for name, series in spikes.items()}


def depths(network: StockNetwork) -> list[int]:
    """Steps after a frame in which each layer answers."""
    weighted = [isinstance(layer, (StockConv, StockDense)) for layer in network.layers]
    return np.cumsum(weighted).tolist()


def assert_same(network: StockNetwork, frames: np.ndarray, model: nn.Module, reset: Reset | None = None) -> None:
    delay = depths(network)
    stock = run(network, frames, FRAMES + delay[-1], reset=reset)
    output, spikes = answers(model, frames)
    for index in range(len(network.layers)):
        if f"neuron_{index}" in spikes:
            expected = stock.spikes[index][delay[index] : delay[index] + FRAMES, 0]
            assert np.array_equal(spikes[f"neuron_{index}"], expected)
    last = len(network.layers) - 1
    series = stock.spikes if f"neuron_{last}" in spikes else stock.potentials
    expected = series[last][delay[-1] : delay[-1] + FRAMES, 0]
    assert np.array_equal(output if series is stock.spikes else output * 64, expected)


@pytest.mark.parametrize("neuron", READERS)
@pytest.mark.parametrize("readout", ["never", "fires"])
@pytest.mark.parametrize("seed", range(12))
def test_a_reader_gives_the_same_integers(tmp_path, seed, readout, neuron):
    made = Networks(seed)
    network = made.network(readout)
    report = export_thermometer(network, tmp_path / "p.nir", neuron=neuron)
    assert difference(import_thermometer(tmp_path / "p.nir"), network) is None
    fields = {loss.field for loss in report.losses}
    assert fields - {"memory"} <= {"kernel_check", "wrap"}
    assert "memory" not in fields or neuron == "lif"
    file = nir.read(tmp_path / "p.nir", type_check="kernel_check" not in fields)
    assert_same(network, made.frames(network), READERS[neuron](file))


@pytest.mark.parametrize("seed", range(6))
def test_an_accumulating_readout_is_the_answer_of_one_frame(tmp_path, seed):
    made = Networks(seed)
    network = made.network("accumulates")
    report = export_thermometer(network, tmp_path / "p.nir", neuron="lif")
    assert "accumulator" in {loss.field for loss in report.losses}
    model = import_from_nir(nir.read(tmp_path / "p.nir", type_check=False))
    offset = 0 if network.layers[0].neuron is not None else 1
    assert_same(network, made.frames(network), model, Reset(1, offset))


@pytest.mark.parametrize("neuron", ["threshold", "lif"])
@pytest.mark.parametrize("seed", range(12))
def test_import_nir_of_the_nodes_alone_computes_the_same(tmp_path, seed, neuron):
    made = Networks(seed)
    network = made.network("never")
    if network.layers[0].neuron is not None:
        return
    export_thermometer(network, tmp_path / "p.nir", neuron=neuron)
    found = import_nir(tmp_path / "p.nir", step=1e-4, input_message_bits=network.input_message_bits)
    frames, steps = made.frames(network), FRAMES + depths(network)[-1]
    given, read = run(network, frames, steps), run(found, frames, steps)
    for a, b in zip(given.spikes, read.spikes, strict=True):
        assert np.array_equal(a, b)
    assert np.array_equal(given.potentials[-1], read.potentials[-1])


def populations(count: int) -> list[tuple[int, ThermometerNetwork]]:
    """The thermometer code of the first random graphs that have one."""
    found: list[tuple[int, ThermometerNetwork]] = []
    seed = 0
    while len(found) < count:
        with suppress(GraphError):
            found.append((seed, to_thermometer(random_graph(seed, max_size=6, max_channels=3))))
        seed += 1
    return found


@pytest.mark.parametrize("neuron", READERS)
def test_the_thermometer_code_gives_every_count_of_the_integer_network(tmp_path, neuron):
    compared = 0
    for seed, form in populations(12):
        report = export_thermometer(form.network, tmp_path / "p.nir", neuron=neuron)
        assert not report.can_change_results or neuron == "lif"
        emitted = form.graph.input.encode(random_images(form.graph, seed, FRAMES))
        model = READERS[neuron](nir.read(tmp_path / "p.nir", type_check=False))
        output, spikes = answers(model, emitted[:, None])
        weighted = [i for i, layer in enumerate(form.network.layers) if isinstance(layer, (StockConv, StockDense))]
        layers = {k: spikes.get(f"neuron_{i}", output).astype(np.int64) for k, i in enumerate(weighted, start=1)}
        expected = integer_values(form.graph, emitted)
        for name, values in form.counts(layers).items():
            assert np.array_equal(values, expected[name])
            compared += values.size
    assert compared > 1000
