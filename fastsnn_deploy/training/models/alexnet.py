"""AlexNet for 32x32 images. Source: Fast-SNN's CIFAR-10 code (arXiv 2305.19868), there with strided convolutions."""

from __future__ import annotations

from functools import partial

from fastsnn_deploy.training.models.blocks import PlainCnn
from fastsnn_deploy.training.models.registry import register

PLAN = ((96, False), (256, True), (384, True), (384, False), (256, True))

for _name, _pooling in (("alexnet", "max"), ("alexnet-strided", "strided"), ("alexnet-average", "average")):
    register(_name, partial(PlainCnn, plan=PLAN, hidden=(2048,), pooling=_pooling))
