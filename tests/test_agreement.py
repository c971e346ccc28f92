"""The integer network against the quantised model, count for count."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import fastsnn_deploy as fd
from fastsnn_deploy.analysis.agreement import RoundingWarning, agreement, with_agreement
from fastsnn_deploy.conversion.convert import converted
from fastsnn_deploy.graph import Population, SpikingGraph
from fastsnn_deploy.quantisation import Checkpoint
from fastsnn_deploy.quantisation.given import as_checkpoint
from tests.commands import runner

SHAPE = (3, 12, 12)


def prepared() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(600, 5),
    )  # fmt: skip
    model = fd.prepare(network, bits=4, weight_bits=4, input_shape=SHAPE)
    fd.calibrate(model, torch.rand(16, *SHAPE).numpy())
    return model.eval()


def with_threshold(graph: SpikingGraph, name: str, factor: int) -> SpikingGraph:
    nodes = tuple(
        dataclasses.replace(node, threshold=node.threshold // factor) if node.name == name else node
        for node in graph.nodes
    )
    return dataclasses.replace(graph, nodes=nodes)


def test_a_converted_network_says_how_far_it_agrees():
    graph = fd.convert(prepared())
    said = graph.metadata["agreement"]
    assert "of counts differ from the quantised model's on 8 images (4 of the calibration)" in said
    assert said in graph.summary()


def test_images_of_the_calibration_stay_in_memory(tmp_path):
    model = prepared()
    fd.save(model, tmp_path / "model.pt", input_shape=SHAPE)
    assert "on 8 generated images" in fd.convert(tmp_path / "model.pt").metadata["agreement"]


def test_each_layer_answers_for_itself_only():
    model = prepared()
    graph, names = converted(Checkpoint(model, SHAPE))
    first, second = (each.name for each in graph.populations)
    right = agreement(model, graph, names)
    assert right.share < 0.002
    assert right.answer < 0.001
    wrong = agreement(model, with_threshold(graph, first, 2), names)
    assert wrong.layers[first] > 0.1
    assert wrong.layers.get(second, 0) == right.layers.get(second, 0) < 0.002
    assert wrong.share > 0.1  # the second counts otherwise too, because the first does


def test_a_layer_that_differs_is_named_with_the_cause():
    model = prepared()
    graph, names = converted(Checkpoint(model, SHAPE))
    last = graph.populations[-1].name
    with pytest.warns(RoundingWarning, match=f"layer '{last}': .* a threshold of"):
        with_agreement(with_threshold(graph, last, 2), model, names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with_agreement(graph, model, names)


def test_an_allowed_loss_is_named():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(70_000, 4), nn.ReLU(), nn.Linear(4, 2))
    model = fd.prepare(network, 8, 8, input_shape=(70_000,))
    fd.calibrate(model, torch.rand(4, 70_000).numpy())
    graph, names = converted(Checkpoint(model, (70_000,)), allow_loss=True)
    node = graph.populations[-1]
    assert isinstance(node, Population)
    found = agreement(model, graph, names)
    assert set(found.layers) <= {each.name for each in graph.populations}
    assert np.isfinite(found.answer)


def test_the_shell_prints_it(checkpoint_file, tmp_path, monkeypatch, capsys):
    printed = runner(monkeypatch, capsys)("export", checkpoint_file, "-o", tmp_path / "model.net").stdout
    assert "of counts differ from the quantised model's on 8 generated images" in printed


class Weak(nn.Module):
    """A branch that says little beside its shortcut, as trained networks have some."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.branch = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Linear(512, 4)
        with torch.no_grad():
            self.branch.weight *= factor
            self.branch.bias *= 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        return self.last(torch.relu(self.branch(x) + x).flatten(1))


@pytest.mark.parametrize("factor", [0.03, 0.001])
def test_a_weak_branch_keeps_the_bits_of_its_weights(factor: float):
    model = fd.prepare(Weak(factor), 8, 8, input_shape=(1, 8, 8))
    images = torch.rand(8, 1, 8, 8).numpy()
    fd.calibrate(model, images)
    graph, names = converted(Checkpoint(model.eval(), (1, 8, 8)))
    assert "branch.sum" in names_of_populations(graph)
    found = agreement(model, graph, names)
    assert max(found.layers.values(), default=0) < 0.005
    assert found.answer < 0.001
    assert fd.verify(model, images[:2]).exact


def names_of_populations(graph: SpikingGraph) -> list[str]:
    return [population.name for population in graph.populations]


class Two(nn.Module):
    """Two convolutions into one sum, whose weights differ by a factor."""

    def __init__(self, inputs: int, factor: float) -> None:
        super().__init__()
        self.c, self.d = nn.Conv2d(3, inputs, 1), nn.Conv2d(8, 4, 1)
        self.a, self.b = nn.Conv2d(inputs, 8, 1), nn.Conv2d(inputs, 8, 1)
        self.b.weight.data *= factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.c(x))
        return self.d(torch.relu(self.a(x) + self.b(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("inputs", "factor", "most"), [
    (600, 1.0, 0.1), (600, 0.27, 0.04), (600, 0.001, 0.04), (2000, 0.27, 0.06), (2000, 1e-12, 0.06),
])  # fmt: skip
def test_wide_sums_in_parts_stay_fine_against_the_step(inputs: int, factor: float, most: float) -> None:
    """With units that only keep the ratio of the two, or only fit the potential, 8 to 66 % of the counts differ."""
    torch.manual_seed(0)
    model = fd.prepare(Two(inputs, factor), 8, 8, input_shape=(3, 4, 4))
    fd.calibrate(model, (torch.rand(32, 3, 4, 4) * 255).round() / 255)
    graph, calls = converted(as_checkpoint(model), neurons="graded")
    assert agreement(model, graph, calls).layers.get("a", 0.0) < most
