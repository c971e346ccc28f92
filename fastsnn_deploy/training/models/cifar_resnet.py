"""ResNets of 6 n + 2 layers for small images."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastsnn_deploy.training.models.blocks import conv_norm
from fastsnn_deploy.training.models.registry import register


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    Where shapes change it has every second pixel, and zero channels before and after (option A), or a 1x1
    convolution (`projection`, option B).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.padding = stride, (outputs - inputs) // 2
        if projection and inputs != outputs:
            self.shortcut = conv_norm(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if hasattr(self, "shortcut"):
            x = self.shortcut(x)
        elif self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(y + x)


class CifarResNet(nn.Module):
    """ResNet of 6 * blocks + 2 layers for 32x32 images: float [N, channels, 32, 32] -> logits [N, classes].

    Source: He et al., arXiv 1512.03385, section 4.2, option A; with `projection` as QCFS (arXiv 2303.04347) has it.
    Parameter names are those of common checkpoints.
    """

    def __init__(
        self, channels: int = 3, classes: int = 10, blocks: int = 3, width: int = 16, projection: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks, 1, projection)
        self.layer2 = _stage(width, 2 * width, blocks, 2, projection)
        self.layer3 = _stage(2 * width, 4 * width, blocks, 2, projection)
        self.linear = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]


def _stage(inputs: int, outputs: int, blocks: int, stride: int, projection: bool) -> nn.Sequential:
    rest = (_BasicBlock(outputs, outputs, 1, projection) for _ in range(blocks - 1))
    return nn.Sequential(_BasicBlock(inputs, outputs, stride, projection), *rest)


for _blocks in (3, 5, 7, 9):
    register(f"resnet{6 * _blocks + 2}", partial(CifarResNet, blocks=_blocks))
register("resnet20-projection", partial(CifarResNet, blocks=3, projection=True))
