"""ResNet-18 for 32x32 images, with 1x1 convolutions where shapes change."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastsnn_deploy.training.models.blocks import Residual, conv_norm
from fastsnn_deploy.training.models.registry import register


class ResNet18(nn.Module):
    """A 3x3 stem, stages of residual blocks, global average: float [N, channels, H, W] -> logits [N, classes].

    plan: (outputs, blocks) of each stage, for a width of 64; all but the first halve the map.
    """

    def __init__(
        self, channels: int = 3, classes: int = 10, *, plan: tuple[tuple[int, int], ...], width: int = 64
    ) -> None:
        super().__init__()
        self.stem = conv_norm(channels, width, 3)
        inputs, stages = width, []
        for number, (outputs, count) in enumerate(plan):
            scaled = max(1, outputs * width // 64)
            first = Residual(inputs, scaled, 2 if number else 1)
            stages.append(nn.Sequential(first, *(Residual(scaled, scaled) for _ in range(count - 1))))
            inputs = scaled
        self.stages = nn.Sequential(*stages)
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(F.relu(self.stem(x)))
        return self.linear(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]


# He et al., arXiv 1512.03385, table 1, with the stem of small images: QFFS and QCFS
register("resnet18", partial(ResNet18, plan=((64, 2), (128, 2), (256, 2), (512, 2))))
# three wider stages: Fast-SNN's CIFAR-10 code (arXiv 2305.19868)
register("resnet18-wide", partial(ResNet18, plan=((128, 3), (256, 3), (512, 2))))
