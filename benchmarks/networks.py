"""The networks of the benchmark: seeded random weights, normalised on images, quantised, lowered to integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.formats import netx
from fastsnn_deploy.graph import Population, SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.quantisation import Checkpoint, prepare
from fastsnn_deploy.training.data import load_images
from fastsnn_deploy.training.models import build
from fastsnn_deploy.training.models.lenet import LeNet

BITS = {3: 2, 7: 3, 15: 4, 31: 5}
"""Activation bits for a number of steps T = 2**bits - 1."""

NORM_BIAS = -0.4
"""Bias of every batch norm: with it a random network is as sparse as a trained one (the fraction is measured)."""

CALIBRATION_IMAGES = 32


class VGG11(nn.Module):
    """VGG-11 of the Fast-SNN code: strided convolutions in place of pools; float [N, 3, 32, 32] -> logits [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for index, width in enumerate((64, 128, 256, 256, 512, 512, 512, 512)):
            layers += [nn.Conv2d(channels, width, 3, 1 + index % 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.Flatten())
        for inputs in (2048, 4096):
            layers += [nn.Linear(inputs, 4096, bias=False), nn.BatchNorm1d(4096), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(4096, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where shapes change."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResNet18(nn.Module):
    """ResNet-18 for 32x32 images, 64 to 512 channels: float [N, 3, 32, 32] -> logits [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(64)
        blocks = []
        channels = 64
        for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            blocks += [BasicBlock(channels, width, stride), BasicBlock(width, width, 1)]
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.norm(self.conv(x))))
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def _resnet50() -> nn.Module:
    from torchvision.models import resnet50

    return resnet50(weights=None)


@dataclass(frozen=True)
class Setting:
    """A float network and its images: shape (C, H, W), data set, and what raw images are normalised with."""

    build: Callable[[], nn.Module]
    shape: tuple[int, int, int]
    data: str | None
    mean: tuple[float, ...]
    std: tuple[float, ...]


_CIFAR = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

NETWORKS = {
    "vgg11": Setting(VGG11, (3, 32, 32), "cifar10", *_CIFAR),
    "vgg16": Setting(partial(build, "vgg16"), (3, 32, 32), "cifar10", *_CIFAR),
    "resnet18": Setting(ResNet18, (3, 32, 32), "cifar10", *_CIFAR),
    "resnet50": Setting(_resnet50, (3, 224, 224), None, *_IMAGENET),
    "lenet": Setting(LeNet, (1, 28, 28), "mnist", (0.1307,), (0.3081,)),
}
"""Every network of the benchmark by name."""


def known(name: str) -> bool:
    """A name of `NETWORKS`, or the file of an exported network."""
    return name in NETWORKS or (name.endswith(".net") and Path(name).is_file())


def images_for(name: str, count: int, data_root: Path | None) -> np.ndarray:
    """Raw uint8 images [count, C, H, W]: of the network's data set where it has one, else smooth noise."""
    if name in NETWORKS:
        data, shape = NETWORKS[name].data, NETWORKS[name].shape
    else:
        graph = netx.read(name)
        data, shape = graph.metadata.get("data"), graph.input.shape
    if data_root is not None and data is not None:
        levels = load_images(data, "test", data_root).levels.numpy()
        return levels[np.arange(count) % len(levels)]
    return smooth_images(count, shape)


def smooth_images(count: int, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Seeded noise of an eighth of the resolution, enlarged: uint8 [count, *shape]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, shape[0], max(shape[1] // 8, 2), max(shape[2] // 8, 2), generator=generator)
    fine = F.interpolate(coarse, shape[1:], mode="bilinear")
    return (fine * 255).round().to(torch.uint8).numpy()


def build_graph(name: str, steps: int, data_root: Path | None = None, seed: int = 0) -> SpikingGraph:
    """The integer spiking graph of a network, for T = `steps` (a key of `BITS`).

    One of `NETWORKS` gets random weights. A file must have that window: raises ValueError.
    """
    if name not in NETWORKS:
        graph = netx.read(name)
        if graph.schedule.window != steps:
            raise ValueError(f"{name}: was exported for T = {graph.schedule.window}, not {steps}")
        return _one_weight_a_shortcut(graph)
    setting = NETWORKS[name]
    raw = torch.from_numpy(images_for(name, CALIBRATION_IMAGES, data_root)).float() / 255
    quantised = prepare(_random_model(setting, seed), bits=BITS[steps], mean=setting.mean, std=setting.std)
    with torch.no_grad():
        quantised.train()(
            raw
        )  # sets batch norms and activation steps together, each on what the quantised layers before give
    return _one_weight_a_shortcut(convert(Checkpoint(quantised.eval(), setting.shape)))


def _one_weight_a_shortcut(graph: SpikingGraph) -> SpikingGraph:
    """Without the second, finer parts of shortcuts: peers know one synapse for an arm of a sum."""
    second = {node.name for node in graph.synapses if node.name.endswith(".fine")}
    nodes = (
        replace(node, inputs=tuple(name for name in node.inputs if name not in second))
        for node in graph.nodes
        if node.name not in second
    )
    return SpikingGraph(tuple(nodes), graph.outputs, graph.schedule, graph.metadata)


def _random_model(setting: Setting, seed: int) -> nn.Module:
    """Kaiming weights, and batch norms that will take the statistics of one batch."""
    torch.manual_seed(seed)
    model = setting.build()
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
            module.momentum = None  # a cumulative average, here of a single batch
            nn.init.constant_(module.bias, NORM_BIAS)
    return model


def active_fractions(graph: SpikingGraph, emitted: np.ndarray) -> dict[str, float]:
    """Fraction of nonzero settled counts of every population."""
    values = integer_values(graph, emitted)
    return {
        node.name: float(np.count_nonzero(values[node.name]) / values[node.name].size)
        for node in graph.nodes
        if isinstance(node, Population)
    }
