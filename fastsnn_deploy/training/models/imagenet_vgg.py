"""VGG-16 with batch norm for 224x224 images; parameters have torchvision's names (`vgg16_bn`)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from fastsnn_deploy.training.models.blocks import pooled
from fastsnn_deploy.training.models.registry import register
from fastsnn_deploy.training.models.vgg import PLANS


class ImageNetVgg16(nn.Module):
    """Float [N, channels, size, size] -> logits [N, classes]; size a multiple of 32.

    torchvision's adaptive pool to 7x7 does nothing at 224 and is left out. A strided convolution keeps its number in
    `features`, with nothing where its pool was. Source: Simonyan and Zisserman, arXiv 1409.1556, configuration D;
    strided as in Fast-SNN (arXiv 2305.19868), average as in QCFS (arXiv 2303.04347).
    """

    def __init__(
        self,
        channels: int = 3,
        classes: int = 1000,
        *,
        pooling: str,
        width: int = 64,
        hidden: int = 4096,
        size: int = 224,
    ) -> None:
        super().__init__()
        if size % 32:
            raise ValueError(f"size {size} is not a multiple of 32")
        layers: list[nn.Module] = []
        for outputs, halves in PLANS["vgg16"]:
            scaled = outputs * width // 64
            conv = nn.Conv2d(channels, scaled, 3, 2 if halves and pooling == "strided" else 1, 1)
            _, *rest = pooled(scaled, channels, pooling if halves else "")
            layers += [conv, *rest, *([nn.Identity()] if halves and pooling == "strided" else [])]
            channels = scaled
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(channels * (size // 32) ** 2, hidden), nn.ReLU(), nn.Dropout(),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(),
            nn.Linear(hidden, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))  # type: ignore[no-any-return]


for _suffix, _pooling in (("", "max"), ("-strided", "strided"), ("-average", "average")):
    register(f"vgg16-imagenet{_suffix}", partial(ImageNetVgg16, pooling=_pooling))
