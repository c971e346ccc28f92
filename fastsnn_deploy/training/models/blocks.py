"""Pieces that several families share."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution without bias, padded to keep the size, and batch norm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """conv-BN-ReLU-conv-BN plus shortcut, then ReLU. The shortcut is a 1x1 convolution where shapes change."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = conv_norm(inputs, outputs, 3, stride)
        self.second = conv_norm(outputs, outputs, 3)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv_norm(inputs, outputs, 1, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.relu(self.first(x)))
        return self.relu(y + self.shortcut(x))  # type: ignore[no-any-return]


def pooled(outputs: int, inputs: int, pooling: str) -> list[nn.Module]:
    """3x3 convolution, batch norm, ReLU, and one of the ways to halve height and width.

    pooling: "strided" (the convolution itself has stride 2), "max" or "average" (2x2 windows behind it), or "" for
    no halving. Source: Fast-SNN (arXiv 2305.19868) has strided convolutions, QCFS (arXiv 2303.04347) average pools,
    QFFS (10.3389/fnins.2022.918793) max pools.
    """
    after: dict[str, list[nn.Module]] = {
        "": [], "strided": [], "max": [nn.MaxPool2d(2)], "average": [nn.AvgPool2d(2)]
    }  # fmt: skip
    return [*conv_norm(inputs, outputs, 3, 2 if pooling == "strided" else 1), nn.ReLU(), *after[pooling]]


class PlainCnn(nn.Module):
    """3x3 convolutions one after another, then linear layers, all with batch norm: AlexNet and VGG for small images.

    plan: (outputs, halves the map) of each convolution; hidden: outputs of each hidden linear layer; both for a
    width of 64, others scale them. size: height and width of the images. Float [N, channels, size, size] -> logits
    [N, classes].
    """

    def __init__(
        self,
        channels: int = 3,
        classes: int = 10,
        *,
        plan: tuple[tuple[int, bool], ...],
        hidden: tuple[int, ...],
        pooling: str,
        width: int = 64,
        size: int = 32,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for outputs, halves in plan:
            scaled = max(1, outputs * width // 64)
            layers += pooled(scaled, channels, pooling if halves else "")
            channels, size = scaled, (size + pooling.count("strided")) // 2 if halves else size
        if size < 1:
            raise ValueError("the images are too small for so many pools")
        self.features = nn.Sequential(*layers)
        inputs, layers = channels * size * size, []
        for outputs in hidden:
            scaled = max(1, outputs * width // 64)
            layers += [nn.Linear(inputs, scaled, bias=False), nn.BatchNorm1d(scaled), nn.ReLU()]
            inputs = scaled
        self.classifier = nn.Sequential(*layers, nn.Linear(inputs, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))  # type: ignore[no-any-return]
