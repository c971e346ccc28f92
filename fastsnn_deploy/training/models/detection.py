"""Detectors whose answer is a map of boxes: Tiny-YOLO and YOLOv2 with a ResNet-34, both of Fast-SNN.

Output: float [N, anchors * (5 + classes), H / stride, W / stride], for each anchor x, y, w, h, confidence and class
logits, raw. Boxes are made of it outside the chip (`tasks.yolo`). Source: Fast-SNN's detection code (arXiv 2305.19868)
and YOLO9000 (arXiv 1612.08242).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fastsnn_deploy.training.models.blocks import conv_norm
from fastsnn_deploy.training.models.imagenet_resnet import Block
from fastsnn_deploy.training.models.registry import register

START_CONFIDENCE = 0.01
"""What an untrained detector believes of every anchor, so that empty ones do not drown the loss. Source: Fast-SNN."""


def conv_relu(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """Convolution that keeps the size, divided by its stride, batch norm and ReLU."""
    return [*conv_norm(inputs, outputs, kernel, stride), nn.ReLU()]


def box_layer(inputs: int, anchors: int, classes: int) -> nn.Conv2d:
    """1x1 convolution to the map of boxes; its confidences start at START_CONFIDENCE."""
    layer = nn.Conv2d(inputs, anchors * (5 + classes), 1)
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias.zero_()
        layer.bias.view(anchors, 5 + classes)[:, 4] = math.log(START_CONFIDENCE / (1 - START_CONFIDENCE))
    return layer


class TinyYolo(nn.Module):
    """Seven 3x3 convolutions, each twice as wide as the one before, a head of the last one's width, and the boxes.

    The first `halvings` convolutions have stride 2 where Tiny-YOLO has max pools, so that stride = 2**halvings.
    width: outputs of the first convolution; widest: no layer has more. Original: 16, 1024, 5 halvings.
    """

    def __init__(
        self, channels: int = 3, classes: int = 20, width: int = 16, widest: int = 1024, anchors: int = 5,
        halvings: int = 5,
    ) -> None:  # fmt: skip
        super().__init__()
        if not 0 <= halvings <= 7:
            raise ValueError(f"{halvings} halvings: there are 7 convolutions that can halve the map")
        layers: list[nn.Module] = []
        for i in range(7):
            outputs = min(width * 2**i, widest)
            layers += conv_relu(channels, outputs, stride=2 if i < halvings else 1)
            channels = outputs
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(*conv_relu(channels, channels), box_layer(channels, anchors, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))  # type: ignore[no-any-return]


class Reorg(nn.Module):
    """Space to depth: [N, C, H, W] -> [N, 4 C, H / 2, W / 2], as a convolution that can be quantised.

    Its weights start as ones and zeros, an output each of the four positions of a window; training may change them.
    The ReLU changes nothing that is not negative; it is there so that the quantised model counts spikes again.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * channels, 2, 2, groups=channels, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(4).view(4, 1, 2, 2).repeat(channels, 1, 1, 1))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv(x))  # type: ignore[no-any-return]


class YoloResNet34(nn.Module):
    """ResNet-34 with a strided stem, the finer map of stage 3 joined to stage 4 (route and reorg); stride 32.

    Original: width 64, that is 1x1 256 -> 128 and reorg on the route, 1x1 512 -> 1024 and two 3x3 on the
    deep map, concat, 3x3 -> 1024.
    """

    def __init__(self, channels: int = 3, classes: int = 20, width: int = 64, anchors: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_relu(channels, width, 7, 4))
        inputs = width
        for number, count in enumerate((3, 4, 6, 3)):
            planes, blocks = width * 2**number, []
            for i in range(count):
                blocks.append(Block(inputs, planes, 2 if number and not i else 1, bottleneck=False))
                inputs = planes
            self.add_module(f"layer{number + 1}", nn.Sequential(*blocks))
        deep, fine, narrow = 16 * width, 4 * width, 2 * width
        self.deep = nn.Sequential(*conv_relu(inputs, deep, 1), *conv_relu(deep, deep), *conv_relu(deep, deep))
        self.route = nn.Sequential(*conv_relu(fine, narrow, 1), Reorg(narrow))
        self.head = nn.Sequential(*conv_relu(deep + 4 * narrow, deep), box_layer(deep, anchors, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for number in range(1, 4):
            x = self.get_submodule(f"layer{number}")(x)
        fine = self.route(x)
        deep = self.deep(self.get_submodule("layer4")(x))
        return self.head(torch.cat((fine, deep), 1))  # type: ignore[no-any-return]


register("tiny-yolo", TinyYolo)
register("yolov2-resnet34", YoloResNet34)
