"""LeNet for MNIST."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastsnn_deploy.training.models.registry import register


class LeNet(nn.Module):
    """LeNet-like CNN with batch norm and max pooling: float [N, channels, size, size] -> logits [N, classes]."""

    def __init__(self, channels: int = 1, classes: int = 10, width: int = 16, size: int = 28) -> None:
        super().__init__()
        if size < 12:
            raise ValueError(f"size {size} leaves nothing behind its pools. Give 12 or more")
        side = (size // 2 - 4) // 2
        self.conv1 = nn.Conv2d(channels, width, 5, padding=2, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 5, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * width)
        self.hidden = nn.Linear(2 * width * side * side, 128, bias=False)
        self.norm3 = nn.BatchNorm1d(128)
        self.classifier = nn.Linear(128, classes)
        self.pool = nn.MaxPool2d(2)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.norm1(self.conv1(x))))
        x = self.pool(self.relu(self.norm2(self.conv2(x))))
        x = self.relu(self.norm3(self.hidden(torch.flatten(x, 1))))
        return self.classifier(x)  # type: ignore[no-any-return]


register("lenet", LeNet)
