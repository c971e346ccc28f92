"""Every network of the zoo goes all the way to spikes that settle to its integers; names and shapes are the papers'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from fastsnn_deploy.conversion.lower import lower
from fastsnn_deploy.conversion.trace import trace
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.quantisation import Checkpoint, calibrate, load, prepare, save
from fastsnn_deploy.quantisation.sources.weights import load_weights
from fastsnn_deploy.simulators.reference import simulate
from fastsnn_deploy.training.models import MODELS, build, mlperf_tiny

SMALL: dict[str, tuple[dict[str, int], tuple[int, int, int]]] = {
    "ds-cnn": ({"width": 3, "channels": 1, "height": 13, "bins": 6}, (1, 13, 6)),
    "mobilenet-v1-0.25": ({"width": 2, "size": 32, "blocks": 3}, (3, 32, 32)),
    "resnet8": ({"width": 2}, (3, 32, 32)),
    "digits-net": ({"width": 3, "channels": 1}, (1, 8, 8)),
    "lenet": ({"width": 2, "channels": 1}, (1, 28, 28)),
    "resnet18": ({"width": 2}, (3, 16, 16)),
    "resnet18-wide": ({"width": 2}, (3, 16, 16)),
    **{f"resnet{depth}": ({"width": 2}, (3, 8, 8)) for depth in (20, 32, 44, 56)},
    "resnet20-projection": ({"width": 2}, (3, 8, 8)),
    **{f"{name}{pool}": ({"width": 1}, (3, 32, 32))
       for name in ("alexnet", "vgg11", "vgg16") for pool in ("", "-strided", "-average")},
    **{f"vgg16-imagenet{pool}": ({"width": 2, "hidden": 12, "size": 32}, (3, 32, 32))
       for pool in ("", "-strided", "-average")},
    **{f"{name}-imagenet{pool}": ({"width": 2}, (3, 32, 32))
       for name in ("resnet34", "resnet50") for pool in ("", "-strided", "-average")},
}  # fmt: skip
"""Options and image shape of the smallest useful form of every network that classifies."""

MAPS = {"tiny-yolo", "yolov2-resnet34", "vgg9-segmentation", "resnet34-aspp"}
"""Networks that answer with a map: `tests/test_tasks.py` has them."""


OTHERS = {"autoencoder"}
"""Networks that answer with what they were given."""


def small_quantised(name: str, **options: Any) -> Any:
    """A narrow quantised model whose batch norms have seen data, so that spikes reach the last layer."""
    torch.manual_seed(0)
    chosen, shape = SMALL[name]
    model = build(name, classes=5, **chosen).train()
    images = torch.rand(8, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for _ in range(20):
            model(images)
    quantised = prepare(model.eval(), input_shape=shape, **options)
    calibrate(quantised, images)
    return quantised.eval(), images


def assert_settles(graph: SpikingGraph, images: torch.Tensor) -> None:
    emitted = graph.input.encode(images.numpy())
    values, run = integer_values(graph, emitted), simulate(graph, emitted)
    for node in graph.populations:
        assert np.array_equal(run.counts[node.name][-1], values[node.name]), node.name
    for name in graph.outputs:
        assert np.array_equal(run.potentials[name][-1], values[name])
    assert sum(spikes.any() for spikes in run.spikes.values()) > len(run.spikes) / 2


def test_every_network_has_a_small_form() -> None:
    assert set(SMALL) | MAPS | OTHERS == set(MODELS)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_network_settles_to_its_integers(name: str, tmp_path: Path) -> None:
    quantised, images = small_quantised(name)
    save(Checkpoint(quantised, tuple(images.shape[1:])), tmp_path / "model.pt")
    read = load(tmp_path / "model.pt").model.eval()
    assert torch.equal(read(images), quantised(images))
    graph = lower(trace(read, tuple(images.shape[1:])), neurons="graded")
    assert graph[graph.outputs[0]].shape == (5,)
    assert_settles(graph, images[:1])


@pytest.mark.parametrize("name", ["alexnet-strided", "vgg11", "resnet18", "resnet20-projection"])
def test_unary_spikes_settle_too(name: str) -> None:
    quantised, images = small_quantised(name, bits=2, weight="apot", activation="clip")
    assert_settles(lower(trace(quantised, tuple(images.shape[1:]))), images[:1])


@pytest.mark.parametrize(
    ("name", "original"),
    [("vgg16-imagenet", "vgg16_bn"), ("resnet34-imagenet", "resnet34"), ("resnet50-imagenet", "resnet50")],
)
def test_imagenet_networks_have_torchvisions_names_and_shapes(name: str, original: str) -> None:
    with torch.device("meta"):
        wanted = {key: value.shape for key, value in getattr(torchvision.models, original)().state_dict().items()}
        for variant in ("", "-strided", "-average"):
            assert {key: value.shape for key, value in build(name + variant).state_dict().items()} == wanted


def test_torchvisions_weights_load_and_compute_the_same(tmp_path: Path) -> None:
    torch.manual_seed(2)
    original = torchvision.models.resnet34(num_classes=7).eval()
    torch.save(original.state_dict(), tmp_path / "resnet34.pth")
    model = build("resnet34-imagenet", classes=7).eval()
    load_weights(model, tmp_path / "resnet34.pth")
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(model(images), original(images), atol=1e-5)


def sizes(name: str, **options: int) -> list[tuple[int, ...]]:
    """Outputs, inputs and stride of every layer with weights."""
    with torch.device("meta"):
        layers = [m for m in build(name, **options).modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    return [(m.weight.shape[0], m.weight.shape[1], getattr(m, "stride", (0,))[0]) for m in layers]


def test_fast_snn_networks_are_those_of_its_code() -> None:
    assert sizes("alexnet-strided") == [
        (96, 3, 1), (256, 96, 2), (384, 256, 2), (384, 384, 1), (256, 384, 2), (2048, 4096, 0), (10, 2048, 0),
    ]  # fmt: skip
    assert sizes("vgg11-strided") == [
        (64, 3, 1), (128, 64, 2), (256, 128, 1), (256, 256, 2), (512, 256, 1), (512, 512, 2), (512, 512, 1),
        (512, 512, 2), (4096, 2048, 0), (4096, 4096, 0), (10, 4096, 0),
    ]  # fmt: skip
    wide = sizes("resnet18-wide")
    assert len(wide) == 1 + 2 * 8 + 3 + 1
    assert wide[0] == (64, 3, 1)
    assert wide[-1] == (10, 512, 0)


def test_pooling_variants_differ_only_where_maps_shrink() -> None:
    for name in ("alexnet", "vgg11", "vgg16"):
        plain, average, strided = sizes(name), sizes(f"{name}-average"), sizes(f"{name}-strided")
        assert plain == average
        assert [size[:2] for size in strided] == [size[:2] for size in plain]
        assert max(stride for _, _, stride in plain) == 1
    assert len(sizes("vgg16")) == 16


def test_options_that_a_name_fixes_are_refused() -> None:
    with pytest.raises(InputError, match="model 'vgg16': pooling cannot be chosen"):
        build("vgg16", pooling=1)
    with pytest.raises(InputError, match="size 100 is not a multiple of 32"):
        build("vgg16-imagenet", size=100)
    with pytest.raises(InputError, match="too small"):
        build("vgg16", size=16)


@pytest.mark.parametrize(
    ("name", "published"),
    [("ds-cnn", 24_908), ("mobilenet-v1-0.25", 221_794), ("resnet8", 78_666), ("autoencoder", 269_992)],
)
def test_networks_of_mlperf_tiny_have_the_published_numbers_of_parameters(name: str, published: int) -> None:
    """As Keras counts them, with the statistics of batch norm."""
    with torch.device("meta"):
        model = build(name)
    statistics = sum(each.numel() for key, each in model.named_buffers() if "running" in key)
    assert sum(each.numel() for each in model.parameters()) + statistics == published


def test_the_autoencoder_settles_to_its_integers() -> None:
    torch.manual_seed(0)
    model = build("autoencoder(inputs=20, width=12, bottleneck=3)").train()
    images = torch.rand(16, 20)
    model(images)
    quantised = prepare(model.eval(), 3, 8, input_shape=(20,))
    calibrate(quantised, images)
    graph = lower(trace(quantised.eval(), (20,)))
    assert graph[graph.outputs[0]].shape == (20,)
    assert_settles(graph, images[:2])


@pytest.mark.parametrize(("size", "kernel"), [((49, 10), (10, 4)), ((96, 96), (3, 3)), ((7, 8), (3, 3))])
def test_maps_are_padded_as_keras_pads_them(size: tuple[int, int], kernel: tuple[int, int]) -> None:
    """`same` with stride 2: half as many places, rounded up, the larger half of the zeros below and on the right."""
    made = nn.Sequential(*mlperf_tiny.block(1, 1, kernel, 2, size)[:-2])
    assert tuple(made(torch.zeros(1, 1, *size)).shape[2:]) == ((size[0] + 1) // 2, (size[1] + 1) // 2)
    left, right, top, bottom = made[0].around
    assert 0 <= right - left <= 1
    assert 0 <= bottom - top <= 1


def test_keras_weights_go_where_they_belong(tmp_path: Path) -> None:
    model, other = build("resnet8(width=4)"), build("resnet8(width=4)")
    norm = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    plain = {"weight": "kernel", "bias": "bias"}
    kinds = (
        ("conv2d", other.convs, plain),
        ("batch_normalization", other.norms, norm),
        ("dense", [other.dense], plain),
    )
    with h5py.File(tmp_path / "resnet.h5", "w") as file:
        for kind, layers, names in kinds:
            for number, layer in enumerate(layers):
                name = f"{kind}_{number}" if number else kind
                group = file.create_group(f"model_weights/{name}/{name}")
                for ours, theirs in names.items():
                    values = torch.rand_like(getattr(layer, ours)) + 0.1
                    getattr(layer, ours).data.copy_(values)
                    order = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[values.dim()]
                    group[f"{theirs}:0"] = values.permute(*order).numpy()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.load_keras(tmp_path / "resnet.h5").eval()(images), other.eval()(images))
    with pytest.raises(InputError, match=r"'kernel' of layer 'conv2d' has shape \(4, 3, 3, 3\), and \(8, 3, 3, 3\)"):
        build("resnet8(width=8)").load_keras(tmp_path / "resnet.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(InputError, match="is not an HDF5 file or is damaged"):
        model.load_keras(tmp_path / "text.h5")
