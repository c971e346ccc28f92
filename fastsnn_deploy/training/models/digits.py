"""The residual network of `demo`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastsnn_deploy.training.models.blocks import Residual, conv_norm
from fastsnn_deploy.training.models.registry import register


class DigitsNet(nn.Module):
    """Residual CNN with max pooling for 8x8 digits: float [N, 1, 8, 8] -> logits [N, classes]."""

    def __init__(self, channels: int = 1, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        self.stem = conv_norm(channels, width, 3)
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


register("digits-net", DigitsNet)
