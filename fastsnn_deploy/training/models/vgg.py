"""VGG-11 and VGG-16 for 32x32 images.

Source: Fast-SNN's CIFAR-10 code (arXiv 2305.19868) for VGG-11, whose first convolution keeps the size; Simonyan and
Zisserman (arXiv 1409.1556), configuration D, for VGG-16, as QFFS and QCFS use it. Linear layers have batch norm.
"""

from __future__ import annotations

from functools import partial

from fastsnn_deploy.training.models.blocks import PlainCnn
from fastsnn_deploy.training.models.registry import register

PLANS = {
    "vgg11": (
        (64, False), (128, True), (256, False), (256, True), (512, False), (512, True), (512, False), (512, True),
    ),
    "vgg16": (
        (64, False), (64, True), (128, False), (128, True), (256, False), (256, False), (256, True),
        (512, False), (512, False), (512, True), (512, False), (512, False), (512, True),
    ),
}  # fmt: skip

for _name, _plan in PLANS.items():
    for _suffix, _pooling in (("", "max"), ("-strided", "strided"), ("-average", "average")):
        register(_name + _suffix, partial(PlainCnn, plan=_plan, hidden=(4096, 4096), pooling=_pooling))
