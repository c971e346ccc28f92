"""ResNet-34 and ResNet-50 for 224x224 images; parameters have torchvision's names."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from fastsnn_deploy.training.models.registry import register


class Block(nn.Module):
    """Residual block: two 3x3 convolutions, or 1x1, 3x3, 1x1 with four times the outputs (`bottleneck`).

    The stride is that of the first 3x3 convolution, as in torchvision. Source: He et al., arXiv 1512.03385, fig. 5.
    """

    def __init__(self, inputs: int, planes: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * planes if bottleneck else planes
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        sizes = (inputs, planes, planes, outputs) if bottleneck else (inputs, planes, outputs)
        self.depth = len(kernels)
        for i, kernel in enumerate(kernels):
            own = stride if i == len(kernels) - 2 else 1
            conv = nn.Conv2d(sizes[i], sizes[i + 1], kernel, own, kernel // 2, bias=False)
            self.add_module(f"conv{i + 1}", conv)
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(sizes[i + 1]))
        self.relu = nn.ReLU()
        same = stride == 1 and inputs == outputs
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.downsample = nn.Identity() if same else shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.depth + 1):
            y = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(y))
            if i < self.depth:
                y = self.relu(y)
        return self.relu(y + self.downsample(x))  # type: ignore[no-any-return]


class ImageNetResNet(nn.Module):
    """Stages of 3, 4, 6 and 3 blocks: float [N, channels, H, W] -> logits [N, classes]; H, W multiples of 32.

    stem: "max" or "average" (7x7 with stride 2, then a 3x3 pool with stride 2) or "strided" (7x7 with stride 4).
    Source: He et al., arXiv 1512.03385, table 1; strided as in Fast-SNN (arXiv 2305.19868), average as in QCFS
    (arXiv 2303.04347).
    """

    def __init__(self, channels: int = 3, classes: int = 1000, *, bottleneck: bool, stem: str, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 7, 4 if stem == "strided" else 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        pools = {"max": nn.MaxPool2d(3, 2, 1), "average": nn.AvgPool2d(3, 2, 1), "strided": nn.Identity()}
        self.maxpool = pools[stem]
        inputs = width
        for number, count in enumerate((3, 4, 6, 3)):
            planes = width * 2**number
            blocks = []
            for i in range(count):
                blocks.append(Block(inputs, planes, 2 if number and not i else 1, bottleneck))
                inputs = 4 * planes if bottleneck else planes
            self.add_module(f"layer{number + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))  # type: ignore[no-any-return]


for _name, _bottleneck in (("resnet34-imagenet", False), ("resnet50-imagenet", True)):
    for _suffix, _stem in (("", "max"), ("-strided", "strided"), ("-average", "average")):
        register(_name + _suffix, partial(ImageNetResNet, bottleneck=_bottleneck, stem=_stem))
