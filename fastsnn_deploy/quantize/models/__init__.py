"""Float networks in plain PyTorch, one file a family. Docs: `docs/models.md`."""

from fastsnn_deploy.quantize.models import (  # noqa: F401  they register
    alexnet,
    cifar_resnet,
    detection,
    digits,
    imagenet_resnet,
    imagenet_vgg,
    lenet,
    resnet18,
    segmentation,
    vgg,
)
from fastsnn_deploy.quantize.models.registry import MODELS as MODELS
from fastsnn_deploy.quantize.models.registry import build as build
