"""Float networks in plain PyTorch, one file a family. Docs: `docs/models.md`."""

from fastsnn_deploy.training.models import (  # noqa: F401  each registers its networks
    alexnet,
    cifar_resnet,
    detection,
    digits,
    imagenet_resnet,
    imagenet_vgg,
    lenet,
    mlperf_tiny,
    resnet18,
    segmentation,
    vgg,
)
from fastsnn_deploy.training.models.registry import MODELS as MODELS
from fastsnn_deploy.training.models.registry import build as build
