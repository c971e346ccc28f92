"""What a profile says of the network without spikes is what the user's network computes, by an independent counter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import fastsnn_deploy as fd
from fastsnn_deploy.analysis.ann import ann_counts, said_layers
from fastsnn_deploy.conversion.conventional import ann_metadata
from fastsnn_deploy.conversion.trace import trace
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats import netx
from fastsnn_deploy.formats.export import export
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.training.models import MODELS, build
from tests.test_models import MAPS, OTHERS, SMALL

SMALL_MAPS = {
    "tiny-yolo": ({"width": 2, "widest": 8}, (3, 32, 32)),
    "yolov2-resnet34": ({"width": 2}, (3, 64, 64)),
    "vgg9-segmentation": ({"width": 2}, (3, 32, 32)),
    "resnet34-aspp": ({"width": 2}, (3, 32, 32)),
}


def torch_macs(model: nn.Module, image: torch.Tensor) -> int:
    """Multiplications of convolutions and linear layers, as torch counts them: with padding, two operations each."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(image)
    return counter.get_total_flops() // 2


def test_every_network_of_the_zoo_is_here():
    assert {*SMALL, *SMALL_MAPS, *OTHERS} == set(MODELS)
    assert set(SMALL_MAPS) == MAPS


KINDS = (
    "alexnet-strided", "digits-net", "lenet", "resnet18", "resnet20", "resnet20-projection", "resnet34-aspp",
    "resnet50-imagenet-average", "tiny-yolo", "vgg11-average", "vgg9-segmentation", "yolov2-resnet34",
)  # fmt: skip
"""One network of each kind: the others differ in depth or in how they pool."""


@pytest.mark.parametrize("name", KINDS)
def test_macs_equal_those_that_torch_counts(name: str):
    options, shape = (SMALL | SMALL_MAPS)[name]
    torch.manual_seed(0)
    model = build(name, classes=5, **options)
    images = torch.rand(2, *shape)
    expected = torch_macs(model, images[:1])
    quantised = fd.prepare(model.eval(), input_shape=shape)
    fd.calibrate(quantised, images)
    layers = json.loads(ann_metadata(trace(quantised.eval(), shape)))
    assert sum(layer["macs_with_padding"] for layer in layers) == expected
    assert all(layer["macs"] <= layer["macs_with_padding"] for layer in layers)
    weights = sum(m.weight.numel() for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear)))
    assert sum(layer["parameters"] for layer in layers) == weights


def converted(model: nn.Module, shape: tuple[int, ...], **options: Any) -> tuple[SpikingGraph, torch.Tensor]:
    torch.manual_seed(1)
    images = torch.rand(3, *shape)
    quantised = fd.prepare(model.eval(), input_shape=shape, **options)
    fd.calibrate(quantised, images)
    return fd.convert(quantised, input_shape=shape), images


def pooled(size: int = 8) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 100)
    )


def without_metadata(graph: SpikingGraph) -> SpikingGraph:
    return SpikingGraph(graph.nodes, graph.outputs, graph.schedule, {})


def test_a_folded_pool_is_not_the_classifiers_work():
    """conv + global pool + Linear(16, 100): 1,600 MACs, whatever the map; from metadata, and from the weights alone."""
    graph, images = converted(pooled(), (3, 8, 8))
    for each in (graph, without_metadata(graph)):
        counts = ann_counts(each, images[:1])
        classifier = counts[each.outputs[0]]
        assert (classifier.macs, classifier.macs_with_padding, classifier.parameters) == (1600, 1600, 1600)
        assert classifier.additions == 16 * 8 * 8
        assert counts.total("macs_with_padding") == torch_macs(pooled(), images[:1])


def test_zero_skipping_of_a_folded_pool_reads_what_the_pool_gives():
    graph, images = converted(pooled(), (3, 8, 8))
    from fastsnn_deploy.graph.integer_network import integer_values

    source = next(node.name for node in graph.populations)
    counts = integer_values(graph, graph.encode(images))[source]
    expected = 100 * int((counts.sum((2, 3)) != 0).sum())
    assert ann_counts(graph, images)[graph.outputs[0]].macs_nonzero == expected


class Residual(nn.Module):
    """A 1x1 shortcut whose weights 8 bits cannot hold beside the trained ones: it gets a `.fine` part."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.shortcut = nn.Conv2d(8, 16, 1, stride=2)
        self.last = nn.Linear(16 * 4 * 4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        return self.last(torch.flatten(torch.relu(self.conv(x) + self.shortcut(x)), 1))


def test_parts_of_a_synapse_are_no_macs_of_their_own():
    torch.manual_seed(0)
    model = Residual()
    graph, images = converted(model, (3, 8, 8))
    assert any(synapse.name.endswith(".fine") and synapse.multiplies for synapse in graph.synapses)
    expected = torch_macs(model, images[:1])
    for each in (graph, without_metadata(graph)):
        counts = ann_counts(each, images)
        assert counts.total("macs_with_padding") == 3 * expected
        assert 0 < counts.total("macs_nonzero") <= counts.total("macs") < 3 * expected


def test_moves_of_channels_are_no_macs():
    """Option-A shortcuts of a residual network have no weights."""
    graph, images = converted(build("resnet20", classes=5, width=4), (3, 8, 8))
    expected = torch_macs(build("resnet20", classes=5, width=4), images[:1])
    assert ann_counts(graph, images[:1]).total("macs_with_padding") == expected


def test_an_average_pool_that_went_into_a_convolution_is_undone():
    """The kernel grew; what the network multiplies did not, and which of its reads were zero nobody knows."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(32, 5),
    )  # fmt: skip
    graph, images = converted(model, (3, 8, 8))
    counts = ann_counts(graph, images)
    assert counts.total("macs_with_padding") == 3 * torch_macs(model, images[:1])
    if any(synapse.weight.shape[2:] == (6, 6) for synapse in graph.synapses):
        assert counts.known("macs_nonzero") is None


@pytest.mark.parametrize("target", ["signed-if", "graded", "stock-lif", "sigma-delta"])
def test_an_exported_file_says_what_the_network_computes(tmp_path: Path, target: str):
    graph, images = converted(pooled(), (3, 8, 8), bits=2)
    emitted = graph.encode(images)
    exported = export(graph, tmp_path / "n.net", target, calibration=emitted)
    network = netx.read(exported.file) if target in ("signed-if", "graded") else netx.read_stock(exported.file)
    expected = torch_macs(pooled(), images[:1])
    steps = None if target != "sigma-delta" else 4
    result = fd.profile(network, images, hardware="loihi2", steps=steps)
    assert result.ann is not None
    assert result.ann.total("macs_with_padding") == 3 * expected
    assert result.ann.total("parameters") == 3 * 9 * 16 + 1600
    plain = result.to_dict()
    assert plain["total"]["ann_macs_with_padding"] == 3 * expected
    modules = {layer["module"]: layer["macs"] for layer in plain["ann_layers"] if layer["macs"]}
    assert modules.popitem()[1] == 3 * 1600
    if target in ("stock-lif", "sigma-delta"):
        assert plain["total"]["ann_macs_nonzero"] is None
        assert plain["ann_energy_pj_per_image"][0]["zero_skipping"] is None
    assert "MACs" in result.summary()


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '[{"module": "a"}]', '[{"module": "a", "type": "x", "macs": 1.5}]'])
def test_metadata_that_say_something_else_are_refused(text: str):
    with pytest.raises(InputError, match="metadata 'ann' is"):
        said_layers({"ann": text})


def test_a_module_called_twice_computes_twice():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.last = nn.Linear(3 * 16, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.flatten(torch.relu(self.conv(torch.relu(self.conv(x)))), 1))

    torch.manual_seed(0)
    graph, images = converted(Twice(), (3, 4, 4))
    assert ann_counts(graph, images[:1]).total("macs_with_padding") == torch_macs(Twice(), images[:1])


def test_memory_is_counted_in_bits():
    graph, images = converted(pooled(), (3, 8, 8))
    result = fd.profile(graph, images, hardware="loihi2")
    bits = result.to_dict()["memory_bits"]
    parameters = sum(synapse.weight.size for synapse in graph.synapses)
    assert bits["weights"] == 8 * parameters
    assert bits["biases_and_thresholds"] == 24 * (16 + 16 + 100)
    assert bits["potentials"] == 24 * (16 * 8 * 8 + 100)
    assert f"memory: {sum(bits.values()):,} bits" in result.summary()


def test_what_is_unknown_is_null_and_what_is_not_priced_is_absent():
    graph, images = converted(pooled(), (3, 8, 8))
    placed = fd.profile(graph, images, hardware="loihi2").to_dict()["energy_pj_per_image"]
    dynamic, *more = (boundary["energy_pj"]["value"] for boundary in placed["boundaries"])
    assert dynamic == pytest.approx(placed["dynamic"]["value"])
    assert [dynamic, *more] == sorted([dynamic, *more])
    assert more[0] > dynamic
    north = fd.profile(graph, images, hardware="truenorth")
    boundaries = north.to_dict()["energy_pj_per_image"]["boundaries"]
    assert boundaries[0]["energy_pj"]["value"] > 0
    assert all(boundary["energy_pj"] is None for boundary in boundaries[1:])
    assert all("does not fit" in boundary["reason"] for boundary in boundaries[1:])
    assert "hops" not in north.to_dict()["energy_pj_per_image"]["terms"]
    assert "hops" not in north.layers().csv()


def test_arithmetic_says_what_it_leaves_out():
    graph, images = converted(pooled(), (3, 8, 8))
    result = fd.profile(graph, images, hardware="loihi2")
    updates = result.counts.total("neuron_updates") / 3
    share = 100 * updates * 0.03 / result.arithmetic.dynamic.value
    text = " ".join(result.summary().split())
    assert "SNN, arithmetic of synaptic operations alone" in text
    assert f"({share:.0f} % more)" in text


@pytest.mark.parametrize(
    ("hardware", "lacking"),
    [("loihi1-davies2018", "neither signed nor graded"), ("loihi1-sanafe", "neither signed nor graded"),
     ("truenorth", "neither signed nor graded"), ("loihi2", None), ("spinnaker2", None), ("horowitz45-int8", None)],
)  # fmt: skip
def test_what_a_chip_cannot_send_is_said_before_the_prices(hardware: str, lacking: str | None):
    graph, images = converted(pooled(), (3, 8, 8), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    result = fd.profile(graph, images, hardware=hardware)
    text = " ".join(result.summary().split())
    assert ("the chip has" in text) == (lacking is not None)
    if lacking is not None:
        assert lacking in text
        assert text.index("the chip has") < text.index("Dynamic energy on")
        assert text.count("priced as if it had") == 1
        assert result.counts.total("negative_spikes") > 0
        negative = result.counts.total("negative_spikes") / 3
        assert f"{negative:,.1f} negative spikes an image" in text
        assert "payloads beyond 1 from" in text


def test_zoo_networks_read_their_macs_from_the_spiking_graph_too():
    """The whole way, by layers: what the graph's layers say adds up to what the metadata say."""
    graph, images = converted(build("digits-net", classes=5, width=3), (1, 8, 8))
    said = sum(layer["macs"] for layer in said_layers(graph.metadata))
    assert ann_counts(graph, np.asarray(images[:1])).total("macs") == said
