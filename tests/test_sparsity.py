"""The price of synaptic operations: the estimate is the integer network's, its gradient the quantisers', one knob."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

import fastsnn_deploy as fd
from fastsnn_deploy.analysis.count import count
from fastsnn_deploy.analysis.operations import fan_outs, integer_operations, of_image
from fastsnn_deploy.conversion.lower import lower
from fastsnn_deploy.conversion.trace import trace
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import Encoded, SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.quantisation import QuantActivation
from fastsnn_deploy.quantisation.quantisers import ACTIVATION_QUANTISERS
from fastsnn_deploy.simulators.reference import simulate
from fastsnn_deploy.training.data import load_images
from fastsnn_deploy.training.fit import fit
from fastsnn_deploy.training.sparsity import Operations, Priced
from fastsnn_deploy.training.trainer import Trainer
from tests.commands import Result, runner
from tests.random_graphs import random_graph, random_images
from tests.test_train import same, small

SHAPE = (2, 8, 8)
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (6, *SHAPE)).astype(np.uint8)

run = pytest.fixture(runner)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Block(nn.Module):
    """Everything that sends: convolutions, a shortcut, max pools of activations, of the image and of a concatenation,
    a pool with neurons of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.norm, self.third = nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3, 2)
        self.beside, self.fourth = nn.Conv2d(2, 3, 2), nn.Conv2d(10, 5, 1)
        self.last = nn.Linear(48, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.relu(self.first(x))
        b = torch.relu(self.norm(self.second(a)) + a)
        c = torch.max_pool2d(torch.cat([a, torch.relu(self.third(nn.functional.pad(b, (4, 5, 4, 5))))], 1), 2)
        d = nn.functional.avg_pool2d(torch.relu(self.fourth(c)), 2, 1)
        e = torch.relu(self.beside(torch.max_pool2d(x, 2)))
        return self.last(torch.cat([d.flatten(1), e.mean((2, 3))], 1))


def quantised(network: nn.Module, bits: int = 2, activation: str = "lsq", **options: Any) -> fx.GraphModule:
    model = fd.prepare(network, bits, 4, input_shape=SHAPE, activation=activation, **options)
    fd.calibrate(model, IMAGES)
    return model.eval()


def seeded() -> Block:
    torch.manual_seed(1)
    return Block()


def integers_of(model: nn.Module) -> tuple[SpikingGraph, int]:
    graph = lower(trace(model, SHAPE), allow_loss=True)
    return graph, int(integer_operations(graph, integer_values(graph, IMAGES)).sum())


# --- the integer side: beside what runs count -----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_settled_neurons_cost_their_counts_and_twice_what_they_take_back(seed: int):
    graph = random_graph(seed, neurons="unary", max_size=6)
    graph = replace(graph, schedule=replace(graph.schedule, input="once"))
    emitted = graph.input.encode(random_images(graph, seed))
    ran = simulate(graph, emitted)
    fans, total = fan_outs(graph), integer_operations(graph, integer_values(graph, Encoded(emitted)))
    taken_back = 0
    for name in fans.keys() - of_image(graph):
        sent = ran.spikes[name].astype(np.int64)
        both = np.minimum(np.maximum(sent, 0).sum(0), np.maximum(-sent, 0).sum(0))
        taken_back += int(both.reshape(len(emitted), -1).sum(0) @ fans[name])
    assert count(graph, ran).total("synaptic_operations") == int(total.sum()) + 2 * taken_back


def test_graded_neurons_in_balance_cost_one_spike_for_each_count_that_is_not_zero():
    graph = lower(trace(quantised(seeded()), SHAPE), neurons="graded")
    values, fans = integer_values(graph, IMAGES), fan_outs(graph)
    found = count(graph, simulate(graph, graph.encode(IMAGES)))
    assert found.total("negative_spikes") == sum(int((values[name] < 0).sum()) for name in of_image(graph))
    active = sum(int((values[name] != 0).reshape(len(IMAGES), -1).sum(0) @ fan) for name, fan in fans.items())
    assert found.total("synaptic_operations") == active
    behind_image = sum(int(np.abs(values[name]).reshape(6, -1).sum(0) @ fans[name]) for name in of_image(graph))
    pixels = sum(int((values[name] != 0).reshape(6, -1).sum(0) @ fans[name]) for name in of_image(graph))
    counts_alone = int(integer_operations(graph, values).sum())
    assert found.total("payload_operations") - behind_image + pixels == counts_alone > active


# --- the estimate in training ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "activation"), [(1, "lsq"), (2, "clip"), (3, "qcfs"), (4, "lsq")])
def test_the_estimate_is_that_of_the_integer_network(bits: int, activation: str):
    model = quantised(seeded(), bits, activation)
    operations = Operations(model, SHAPE)
    graph, expected = integers_of(model)
    images = torch.from_numpy(IMAGES / 255).float()
    with torch.no_grad():
        answer, mean = operations(images)
    assert operations.unseen == ()
    assert torch.equal(answer, model(images))
    assert float(mean * len(images)) == expected
    most = {name: np.full_like(value, np.abs(value).max()) for name, value in integer_values(graph, IMAGES).items()}
    assert operations.most >= int(integer_operations(graph, most)[0])


def test_every_neuron_at_its_ceiling_costs_the_most():
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 2), nn.ReLU()
    model = quantised(nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 3)), 3)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.bias.fill_(1e4)
    operations = Operations(model, SHAPE)
    with torch.no_grad():
        _, mean = operations(torch.ones(2, *SHAPE))
    assert float(mean) == operations.most


@pytest.mark.parametrize("rule", sorted(ACTIVATION_QUANTISERS))
@pytest.mark.parametrize("signed", [False, True])
def test_counts_are_those_of_every_quantiser_and_pass_straight_through(rule: str, signed: bool):
    activation = QuantActivation(3, signed, rule)
    x = torch.linspace(-9, 9, 1001, requires_grad=True)
    activation.initialise(torch.tensor([0.0, 1.3]), lambda values, high: torch.tensor(0.7))
    values = activation(x)
    counts = activation.counts(x, values)
    step = activation.step_in_use()
    assert torch.equal(counts, counts.round())
    assert torch.equal(counts * step, values)
    counts.sum().backward()
    inside = (x >= activation.low * step) & (x <= activation.high * step)
    assert torch.equal(x.grad, inside / step)
    assert not activation.learned.grad


def test_the_gradient_is_fan_out_over_step_where_neurons_send():
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 1)
    model = quantised(nn.Sequential(*layers), 2)
    images = torch.from_numpy(IMAGES / 255).float()
    answer, mean = Operations(model, SHAPE)(images)
    mean.backward()
    first, last, _ = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    assert first.bias.grad.abs().sum() > 0
    assert answer.grad_fn is not None
    given: list[tuple[Tensor, Tensor]] = []
    *_, activation = (module for module in model.modules() if isinstance(module, QuantActivation))
    activation.register_forward_hook(lambda _, arguments, made: given.append((arguments[0], made)))
    model(images)
    ((x, made),) = given
    step = activation.step_in_use()
    sent = (made > 0) & (x <= 3 * step)
    expected = 2 * sent.sum((0, 2, 3)) / step / len(images)  # a 1x1 convolution with 2 outputs reads it
    torch.testing.assert_close(last.bias.grad, expected, rtol=1e-5, atol=0)
    assert not activation.learned.grad


def test_what_the_model_has_no_value_for_is_said():
    wide = nn.Sequential(nn.Flatten(), nn.Linear(128, 2048), nn.ReLU(), nn.Linear(2048, 9), nn.ReLU(), nn.Linear(9, 3))
    model = fd.prepare(wide, 8, 8, input_shape=SHAPE)
    fd.calibrate(model, IMAGES)
    with pytest.warns(UserWarning, match=r"synaptic operations of .*sum0.* are not in the price"):
        Priced(model.eval(), 1.0, SHAPE)


# --- the knob -------------------------------------------------------------------------------------------------------


def digits(sparsity: float) -> tuple[fx.GraphModule, Any, int]:
    train, test = (load_images("digits", split).select(slice(0, 300)) for split in ("train", "test"))
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    model = fd.prepare(nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 10)), 2, 4, input_shape=(1, 8, 8))
    history = fit(model, train, test, epochs=5, batch_size=50, learning_rate=0.1, sparsity=sparsity, progress=False)
    graph = lower(trace(model, (1, 8, 8)))
    values = integer_values(graph, test.raw(slice(0, None)).numpy())
    return model, history, int(integer_operations(graph, values).sum())


def test_fit_trades_operations_for_loss():
    (plain, before, full), (_, after, half) = digits(0.0), digits(3.0)
    assert before.operations == ()
    assert len(after.operations) == 5
    assert after.operations[-1] < after.operations[0]
    assert half < full / 2
    assert after.accuracy[-1] > 0.6
    assert "synaptic operations" in after.summary()
    assert json.loads(json.dumps(after.to_dict()))["operations"] == list(after.operations)
    assert "synaptic" not in before.summary()
    assert not any("operations" in name for name in plain.state_dict())


def test_recipes_have_it_and_go_on_to_the_same_bit(tmp_path: Path):
    stages = [{"epochs": 1, "learning_rate": 0.1}, {"epochs": 2, "learning_rate": 0.03, "bits": 2}]
    recipe, lines = small(sparsity=2.0, stages=stages, batch_size=87), []
    whole = Trainer(recipe, tmp_path / "whole.pt", log=lines.append).run().model.state_dict()
    assert ["synaptic operations an image" in line for line in lines] == [False, True, True]

    def interrupted(line: str) -> None:
        if "stage 2/2 epoch 2/2" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(recipe, tmp_path / "parts.pt", log=interrupted).run()
    parts = Trainer(recipe, tmp_path / "parts.pt").run(resume=True).model.state_dict()
    assert same(parts, whole)


def test_the_shell_has_it_and_refuses_what_makes_no_sense(tmp_path: Path, run: Callable[..., Result]):
    out, recipe = tmp_path / "model.pt", tmp_path / "small.yaml"
    recipe.write_text(
        "{name: small, data: digits, model: digits-net, model_options: {width: 4}, sparsity: 1.0,"
        " stages: [{epochs: 1, learning_rate: 0.1, bits: 2}]}"
    )
    made = run("train", "--recipe", str(recipe), "-o", str(out), "--sparsity", "0.5", "--json")
    assert made.returncode == 0
    assert fd.load(out).meta["metadata"]["recipe"]["sparsity"] == 0.5
    for command in (
        ("train", "--recipe", str(recipe), "--sparsity", "-1"),
        ("quantize", str(out), "--data", "digits", "--sparsity", "1"),
    ):
        refused = run(*command)
        assert refused.returncode == 2
        assert "--sparsity" in refused.stderr
    with pytest.raises(InputError, match="sparsity"):
        fit(quantised(seeded()), (IMAGES, np.arange(6) % 3), sparsity=float("nan"), progress=False)
