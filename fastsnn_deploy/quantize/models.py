"""Small float networks in plain PyTorch, by the names that recipes use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastsnn_deploy.errors import InputError


def _conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """conv-BN-ReLU-conv-BN plus shortcut, then ReLU. The shortcut is a 1x1 convolution where shapes change."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = _conv_norm(inputs, outputs, 3, stride)
        self.second = _conv_norm(outputs, outputs, 3)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else _conv_norm(inputs, outputs, 1, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.relu(self.first(x)))
        return self.relu(y + self.shortcut(x))  # type: ignore[no-any-return]


class DigitsNet(nn.Module):
    """Residual CNN with max pooling for 8x8 digits: float [N, 1, 8, 8] -> logits [N, classes]."""

    def __init__(self, channels: int = 1, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        self.stem = _conv_norm(channels, width, 3)
        self.relu = nn.ReLU()
        self.block1 = Residual(width, width)
        self.pool = nn.MaxPool2d(2)
        self.block2 = Residual(width, 2 * width)
        self.average = nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Linear(2 * width * 4, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.block1(self.relu(self.stem(x))))
        x = self.average(self.block2(x))
        return self.classifier(torch.flatten(x, 1))  # type: ignore[no-any-return]


class LeNet(nn.Module):
    """LeNet-like CNN with batch norm and max pooling: float [N, 1, 28, 28] -> logits [N, classes]."""

    def __init__(self, channels: int = 1, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 5, padding=2, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 5, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * width)
        self.hidden = nn.Linear(2 * width * 25, 128, bias=False)
        self.norm3 = nn.BatchNorm1d(128)
        self.classifier = nn.Linear(128, classes)
        self.pool = nn.MaxPool2d(2)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.norm1(self.conv1(x))))
        x = self.pool(self.relu(self.norm2(self.conv2(x))))
        x = self.relu(self.norm3(self.hidden(torch.flatten(x, 1))))
        return self.classifier(x)  # type: ignore[no-any-return]


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions and an option-A shortcut: every second pixel, zero channels before and after."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.padding = stride, (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(y + x)


class CifarResNet(nn.Module):
    """ResNet of 6 * blocks + 2 layers for 32x32 images: float [N, channels, 32, 32] -> logits [N, classes].

    Source: He et al., arXiv 1512.03385, section 4.2, option A. Parameter names are those of common checkpoints.
    """

    def __init__(self, channels: int = 3, classes: int = 10, blocks: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, 1)
        self.layer2 = self._stage(16, 32, blocks, 2)
        self.layer3 = self._stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, classes)

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
        rest = (_BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1))
        return nn.Sequential(_BasicBlock(inputs, outputs, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]


MODELS: dict[str, Callable[..., nn.Module]] = {
    "digits-net": DigitsNet,
    "lenet": LeNet,
    **{f"resnet{6 * blocks + 2}": partial(CifarResNet, blocks=blocks) for blocks in (3, 5, 7, 9)},
}
"""Float networks by name; each takes channels, classes and options of its own."""


def build(name: str, **options: int) -> nn.Module:
    """A float network of the zoo. Raises InputError for unknown names and options."""
    if name not in MODELS:
        raise InputError(f"model '{name}' is not known. Known models: {', '.join(sorted(MODELS))}")
    try:
        return MODELS[name](**options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"model '{name}': {error}") from error
