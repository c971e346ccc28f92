"""Segmentation networks with dilated convolutions: VGG-9 ("DeepLabv1") and ResNet-34 with ASPP, both of Fast-SNN.

Output: float logits [N, classes, H / stride, W / stride]. They are enlarged outside the chip, bilinearly, on the
accumulated output (`tasks.segmentation`). Source: Fast-SNN's segmentation code (arXiv 2305.19868); DeepLab
(arXiv 1706.05587).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastsnn_deploy.training.models.imagenet_resnet import Block
from fastsnn_deploy.training.models.registry import register

RATES = (6, 12, 18, 24)
"""Dilations of ASPP's 3x3 convolutions, beside one of 1x1."""


def dilated(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """3x3 convolution that keeps the size, divided by its stride, batch norm and ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def pointwise(inputs: int, outputs: int) -> nn.Sequential:
    """1x1 convolution, batch norm and ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class Vgg9Segmentation(nn.Module):
    """Eight 3x3 convolutions, the last three dilated by 2, 2 and `dilation`, and a 1x1 one to the classes.

    stride: 8, or 4 for small images (the third halving is left out). context: outputs of the layer with the large
    dilation, 0 for 16 times the width. Original: width 64, dilation 12, stride 8.
    """

    def __init__(
        self, channels: int = 3, classes: int = 21, width: int = 64, dilation: int = 12, stride: int = 8,
        context: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        if stride not in (4, 8):
            raise ValueError(f"stride {stride} is not 4 or 8")
        last = context or 16 * width
        plan = (
            (width, 1, 1), (width, 2, 1), (2 * width, 1, 1), (2 * width, 2, 1), (4 * width, stride // 4, 1),
            (4 * width, 1, 2), (4 * width, 1, 2), (last, 1, dilation),
        )  # fmt: skip
        layers: list[nn.Module] = []
        for outputs, step, spread in plan:
            layers.append(dilated(channels, outputs, step, spread))
            channels = outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Conv2d(channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))  # type: ignore[no-any-return]


class ResNet34Aspp(nn.Module):
    """ResNet-34 of stride 4 * stem, five parallel convolutions of growing reach, their concat, and a head.

    Every branch spikes by itself; their steps are tied where they meet. stem: stride of the first convolution;
    stages 2 and 3 halve the map, stage 4 keeps it. There is no image pooling. Original: width 64, stem 4.
    """

    def __init__(self, channels: int = 3, classes: int = 21, width: int = 64, stem: int = 4) -> None:
        super().__init__()
        conv = nn.Conv2d(channels, width, 7, stem, 3, bias=False)
        self.stem = nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())
        inputs = width
        for number, (count, stride) in enumerate(((3, 1), (4, 2), (6, 2), (3, 1))):
            planes, blocks = width * 2**number, []
            for i in range(count):
                blocks.append(Block(inputs, planes, 1 if i else stride, bottleneck=False))
                inputs = planes
            self.add_module(f"layer{number + 1}", nn.Sequential(*blocks))
        branch = 4 * width
        self.aspp1 = pointwise(inputs, branch)
        for i, rate in enumerate(RATES):
            self.add_module(f"aspp{i + 2}", dilated(inputs, branch, dilation=rate))
        self.project = pointwise(branch * (1 + len(RATES)), branch)
        self.head = nn.Sequential(dilated(branch, branch), nn.Conv2d(branch, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        branches = [self.get_submodule(f"aspp{i + 1}")(x) for i in range(1 + len(RATES))]
        return self.head(self.project(torch.cat(branches, 1)))  # type: ignore[no-any-return]


register("vgg9-segmentation", Vgg9Segmentation)
register("resnet34-aspp", ResNet34Aspp)
