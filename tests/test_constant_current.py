"""A constant current: window counts that are those of the official codes of Fast-SNN and QCFS, in every layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import fastsnn_deploy as fd
from fastsnn_deploy.errors import GraphError, InputError, LoweringError
from fastsnn_deploy.graph import Conv2d, Flatten, Identity, Input, Linear, Population, Readout, SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.passes.balance import balanced
from fastsnn_deploy.passes.window import for_window
from fastsnn_deploy.simulators import open_engine
from fastsnn_deploy.simulators.integer import integer_outputs
from fastsnn_deploy.simulators.recorded import recorded_run
from fastsnn_deploy.simulators.reference import simulate
from fastsnn_deploy.targets import TARGETS, to_target
from tests.commands import runner
from tests.random_graphs import Builder, bounds, random_graph, random_images

SEEDS = st.integers(0, 2**32 - 1)


def residual_network(seed: int, window: int, neurons: str) -> SpikingGraph:
    """Convolutions, shortcuts and a linear readout; thresholds odd and even, biases that the window does not divide."""
    builder = Builder(seed, max_size=5)
    source = builder.population(builder.conv(builder.sources[0], same=True), ceiling=window)
    for _ in range(builder.integer(1, 3)):
        middle = builder.population(builder.conv(source, same=True), ceiling=window)
        second = builder.conv(middle, outputs=source.shape[0], same=True)
        source = builder.population(second, builder.channelwise(Identity, source), ceiling=window)
    last = builder.linear(source, 3)
    bias = builder.rng.integers(-50, 51, 3)
    builder.add(Readout(name="out", inputs=(last.name,), shape=(3,), bias=bias, scale=np.full(3, 0.01)))
    nodes = [
        replace(node, initial=node.threshold // 2, floor=0, **bounds(neurons, 0, window))
        if isinstance(node, Population)
        else node
        for node in builder.nodes
    ]
    graph = SpikingGraph(tuple(nodes), ("out",), fd.graph.Schedule(window=window))
    return balanced(graph)


def double(array: np.ndarray) -> Tensor:
    return torch.tensor(np.asarray(array), dtype=torch.float64)


def official(graph: SpikingGraph, image: np.ndarray, steps: int, signed: bool) -> dict[str, Tensor]:
    """Spike trains [T, N, ...] and sums of readouts as the official codes compute them, layer by layer, in float64.

    The image enters its layer in every step, and so does each bias; a spike is worth the threshold, which is here the
    window times ours. All numbers are multiples of a half.
    """
    window, found = graph.schedule.window, {}
    values: dict[str, Tensor] = {}
    for node in graph.nodes:
        reads = [values[name] for name in node.inputs]
        if isinstance(node, Input):
            values[node.name] = double(image).expand(steps, *image.shape)
        elif isinstance(node, (Conv2d, Linear, Identity)):
            weight, x = double(node.effective_weight), reads[0].flatten(0, 1)
            if isinstance(node, Conv2d):
                x = F.conv2d(x, weight, None, node.stride, node.padding, node.dilation, node.groups)
            else:
                x = F.linear(x, weight) if isinstance(node, Linear) else x * weight.view(-1, 1, 1)
            values[node.name] = x.unflatten(0, reads[0].shape[:2])
        elif isinstance(node, Flatten):
            values[node.name] = reads[0].flatten(2)
        else:
            assert isinstance(node, (Population, Readout))
            per_channel = (-1,) + (1,) * (len(node.shape) - 1)
            x = sum(reads) + double(node.bias).view(per_channel)
            if isinstance(node, Readout):
                found[node.name] = x.sum(0)
                continue
            threshold = (window * double(node.threshold)).view(per_channel)
            found[node.name] = spikes = fire(x, threshold, signed)
            values[node.name] = spikes * window
    return found


def fire(x: Tensor, threshold: Tensor, signed: bool) -> Tensor:
    """The neuron of the official codes: `Spiking.forward` of Fast-SNN; unsigned it is the IF neuron of QCFS."""
    membrane, count, train = 0.5 * threshold, torch.zeros_like(x[0]), []
    for current in x:
        membrane = membrane + current
        spikes = (membrane >= threshold).double()
        membrane = membrane - spikes * threshold
        count = count + spikes
        inhibit = ((membrane <= -1e-3) & (count > 0)).double() if signed else torch.zeros_like(spikes)
        membrane = membrane + inhibit * threshold
        count = count - inhibit
        train.append(spikes - inhibit)
    return torch.stack(train)


def differing(network: SpikingGraph, image: np.ndarray, expected: dict[str, Tensor], steps: int) -> int:
    """Spikes of all layers and steps, and sums of the readout, that are not the official ones."""
    run, wrong = simulate(network, image), 0
    for name, theirs in expected.items():
        node = network[name]
        if isinstance(node, Readout):
            whole = np.floor(theirs.numpy() / network.schedule.window)  # 7 of 4 parts of a bias need not be
            wrong += int((run.potentials[name][-1] != whole).sum())
        else:
            begin = network.depths[name]
            wrong += int((run.spikes[name][begin : begin + steps] != theirs.numpy()).sum())
            assert not run.spikes[name][:begin].any()
            assert not run.spikes[name][begin + steps :].any()
    return wrong


@pytest.mark.parametrize(("neurons", "window", "steps"), [("unary", 7, 7), ("unary", 3, 3), ("unsigned", 4, 7)])
def test_every_spike_of_every_layer_is_the_official_one(neurons: str, window: int, steps: int):
    spread = 0
    for seed in range(6):
        graph = residual_network(seed, window, neurons)
        image = graph.encode(random_images(graph, seed, 3))
        expected = official(graph, image, steps, signed=neurons == "unary")
        assert differing(for_window(graph, steps, "constant"), image, expected, steps) == 0, seed
        spread += differing(for_window(graph, steps), image, expected, steps)
    assert spread > 0  # what the other schedule gives


def reads_both(graph: SpikingGraph) -> bool:
    """Whether a node reads the image, or what only moves it, beside something else."""
    roots: dict[str, set[bool]] = {}
    for node in graph.nodes:
        reads: set[bool] = set().union(*(roots[name] for name in node.inputs)) or {True}
        if len(reads) == 2:
            return True
        roots[node.name] = {False} if isinstance(node, Population) else reads
    return False


@settings(max_examples=10)
@given(SEEDS, st.sampled_from(["unary", "unsigned", "graded", "burst2"]), st.sampled_from([None, 3, 7]))
def test_engine_and_reference_agree(seed: int, neurons: str, steps: int | None):
    drawn = random_graph(seed, blocks=3, neurons=neurons)
    graph = replace(drawn, schedule=fd.graph.Schedule(drawn.schedule.window))
    if reads_both(graph):
        with pytest.raises(GraphError, match="reads the image beside spikes"):
            for_window(graph, steps, "constant")
        return
    network = for_window(graph, steps, "constant")
    emitted = network.encode(random_images(network, seed))
    expected = simulate(network, emitted)
    found = recorded_run(open_engine(network, "cpu"), emitted, expected.steps)
    for kind in ("spikes", "counts", "potentials"):
        for name, series in getattr(expected, kind).items():
            assert np.array_equal(getattr(found, kind)[name], series), (kind, name)
    counts, right = integer_values(network, emitted), integer_values(graph, emitted)
    assert all(np.array_equal(counts[p.name], right[p.name]) for p in graph.populations) or steps is not None
    answer = network.outputs[0]
    assert np.array_equal(integer_outputs(network, random_images(network, seed)), counts[answer])


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.c1(x))
        return self.fc(F.avg_pool2d(torch.relu(self.c2(x) + x), 2).flatten(1))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = fd.prepare(Small(), bits=3, weight_bits=8, input_shape=(1, 8, 8))
    fd.calibrate(model, images())
    path = tmp_path_factory.mktemp("current") / "model.pt"
    fd.save(fd.Checkpoint(model, (1, 8, 8)), path)
    return path


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8)).astype(np.uint8)


def test_a_trained_network_goes_the_whole_way(checkpoint: Path, tmp_path: Path, monkeypatch, capsys):
    run = runner(monkeypatch, capsys)
    out = tmp_path / "model.net"
    result = run("export", checkpoint, "--schedule", "window", "--input", "constant", "-o", out)
    assert result.returncode == 0, result.stderr
    read, made = fd.read(out), fd.convert(checkpoint, schedule="window", input="constant")
    assert read.schedule == made.schedule == fd.graph.Schedule(7, "constant", "spread", "window")
    fd.graph.save(made, tmp_path / "model.safetensors")
    emitted = made.encode(images())
    expected = simulate(made, emitted)
    for network in (read, fd.graph.load(tmp_path / "model.safetensors")):
        found = simulate(network, emitted)
        assert all(np.array_equal(found.spikes[name], series) for name, series in expected.spikes.items())
    assert fd.verify(read, images()).exact
    settled, right = integer_values(made, emitted), integer_values(fd.convert(checkpoint), emitted)
    same = np.mean([np.mean(settled[p.name] == right[p.name]) for p in made.populations])
    assert same > 0.999  # thresholds leave room for the current, so they are rounded to fewer bits


def test_what_no_constant_current_enters_is_refused(checkpoint: Path):
    with pytest.raises(InputError, match="stop after their window"):
        fd.convert(checkpoint, input="constant")
    made = fd.convert(checkpoint, schedule="window", input="constant")
    for target in set(TARGETS) - {"signed-if", "graded"}:
        with pytest.raises(InputError, match=f"target '{target}' has no schedule"):
            to_target(made, target, made.encode(images()))
    with pytest.raises(InputError, match="has its schedule already"):
        for_window(made)
    with pytest.raises(InputError, match="input 'once' is not known"):
        for_window(fd.convert(checkpoint), input="once")  # type: ignore[arg-type]

    class Joined(Small):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.cat([torch.relu(self.c1(x))[:, :3], x], 1)
            return self.fc(F.avg_pool2d(torch.relu(self.c2(y)), 2).flatten(1))  # type: ignore[no-any-return]

    model = fd.prepare(Joined(), bits=3, input_shape=(1, 8, 8))
    fd.calibrate(model, images())
    with pytest.raises((GraphError, LoweringError), match="reads the image beside spikes"):
        fd.convert(model, schedule="window", input="constant")
