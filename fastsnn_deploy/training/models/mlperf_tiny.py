"""The four networks of MLPerf Tiny, v1.x, for keyword spotting, visual wake words, image classification and anomaly
detection.

Keras pads "same" maps below and on the right first, which these networks do, so that Keras weights fit. The softmax at
the end is left out. Source: https://github.com/mlcommons/tiny, benchmark/training, Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats.hdf5 import read_arrays
from fastsnn_deploy.training.models.registry import register

KERAS_EPSILON = 1e-3
"""Of Keras's batch norm."""


class Same(nn.Module):
    """Zeros around a map so that a convolution with a stride gives the size that Keras's "same" gives."""

    def __init__(self, kernel: tuple[int, int], stride: int, size: tuple[int, int]) -> None:
        super().__init__()
        both = [max((-(-side // stride) - 1) * stride + k - side, 0) for k, side in zip(kernel, size, strict=True)]
        (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in both)
        self.around = (left, right, top, bottom)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.around)


def block(
    inputs: int, outputs: int, kernel: tuple[int, int], stride: int, size: tuple[int, int], groups: int = 1
) -> list[nn.Module]:  # fmt: skip
    """Convolution, batch norm and ReLU, padded as Keras does for maps of a size (H, W)."""
    even = stride == 1 and all(side % 2 for side in kernel)
    padding = (kernel[0] // 2, kernel[1] // 2) if even else (0, 0)
    before: list[nn.Module] = [] if even else [Same(kernel, stride, size)]
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups)
    return [*before, conv, nn.BatchNorm2d(outputs, eps=KERAS_EPSILON), nn.ReLU()]


def separable(inputs: int, outputs: int, stride: int, size: tuple[int, int]) -> list[nn.Module]:
    """A depthwise 3x3 and a pointwise convolution, each with batch norm and ReLU."""
    return [*block(inputs, inputs, (3, 3), stride, size, groups=inputs), *block(inputs, outputs, (1, 1), 1, size)]


def halved(size: tuple[int, int], stride: int = 2) -> tuple[int, int]:
    """(H, W) behind a stride."""
    return -(-size[0] // stride), -(-size[1] // stride)


class DsCnn(nn.Module):
    """DS-CNN for keyword spotting: float [N, 1, height, 10] cepstral coefficients -> logits [N, classes]."""

    def __init__(self, channels: int = 1, classes: int = 12, width: int = 64, height: int = 49, bins: int = 10) -> None:
        super().__init__()
        size = (height, bins)
        layers = block(channels, width, (10, 4), 2, size)
        size = halved(size)
        for _ in range(4):
            layers += separable(width, width, 1, size)
        self.features = nn.Sequential(*layers)
        self.pool = nn.AvgPool2d(size)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.pool(self.features(x)), 1))  # type: ignore[no-any-return]


MOBILENET = ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *((16, 1),) * 5, (32, 2), (32, 1))
"""Channels, in units of the first layer's, and stride of each separable block of MobileNet-v1."""


class MobileNetV1(nn.Module):
    """MobileNet-v1 at a quarter of its width for visual wake words: float [N, 3, size, size] -> logits [N, classes].

    blocks: so many of the 13 separable blocks, the first ones.
    """

    def __init__(
        self, channels: int = 3, classes: int = 2, width: int = 8, size: int = 96, blocks: int = len(MOBILENET)
    ) -> None:
        super().__init__()
        if size % 32:
            raise ValueError(f"size {size} is not a multiple of 32")
        shape, inputs = (size, size), width
        layers = block(channels, width, (3, 3), 2, shape)
        shape = halved(shape)
        for factor, stride in MOBILENET[:blocks]:
            layers += separable(inputs, factor * width, stride, shape)
            inputs, shape = factor * width, halved(shape, stride)
        self.features = nn.Sequential(*layers)
        self.pool = nn.AvgPool2d(shape)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.pool(self.features(x)), 1))  # type: ignore[no-any-return]


class ResNet8(nn.Module):
    """ResNet-8 for image classification: float [N, 3, 32, 32], pixels from 0 to 255, -> logits [N, classes]."""

    def __init__(self, channels: int = 3, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        one, two, four = width, 2 * width, 4 * width
        shapes = [
            (channels, one, 3, 1), (one, one, 3, 1), (one, one, 3, 1),
            (one, two, 3, 2), (two, two, 3, 1), (one, two, 1, 2),
            (two, four, 3, 2), (four, four, 3, 1), (two, four, 1, 2),
        ]  # fmt: skip
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, size, stride, padding=size // 2 if stride == 1 else 0) for i, o, size, stride in shapes
        )
        normed = (one, one, one, two, two, four, four)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs, eps=KERAS_EPSILON) for outputs in normed)
        self.pool = nn.AvgPool2d(8)
        self.dense = nn.Linear(four, classes)

    def forward(self, x: Tensor) -> Tensor:
        conv, norm = self.convs, self.norms
        x = F.relu(norm[0](conv[0](x)))
        x = F.relu(x + norm[2](conv[2](F.relu(norm[1](conv[1](x))))))
        for first, around, number in ((3, 5, 3), (6, 8, 5)):
            inner = F.relu(norm[number](conv[first](F.pad(x, (0, 1, 0, 1)))))
            x = F.relu(conv[around](x) + norm[number + 1](conv[first + 1](inner)))
        return self.dense(self.pool(x).flatten(1))  # type: ignore[no-any-return]

    def load_keras(self, file: str | Path) -> ResNet8:
        """Take the weights of `pretrainedResnet.h5`. Raises InputError if the file holds other ones."""
        arrays = _keras(Path(file))
        for kind, layers, names in (
            ("conv2d", self.convs, {"weight": "kernel", "bias": "bias"}),
            ("batch_normalization", self.norms, {
                "weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"
            }),
            ("dense", [self.dense], {"weight": "kernel", "bias": "bias"}),
        ):  # fmt: skip
            for number, layer in enumerate(layers):
                _fill(layer, arrays, f"{kind}_{number}" if number else kind, names, file)
        return self


class Autoencoder(nn.Module):
    """Fully connected autoencoder for anomaly detection: float [N, inputs] -> [N, inputs], what it makes of them.

    640 inputs are 5 frames of 128 logarithmic mel energies; the distance to the output says how odd they are.
    """

    def __init__(self, inputs: int = 640, width: int = 128, bottleneck: int = 8) -> None:
        super().__init__()
        widths = (inputs, *(width,) * 4, bottleneck, *(width,) * 4)
        layers: list[nn.Module] = []
        for i, o in pairwise(widths):
            layers += [nn.Linear(i, o), nn.BatchNorm1d(o, eps=KERAS_EPSILON), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], inputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


@cache
def _keras(file: Path) -> Mapping[str, Mapping[str, npt.NDArray[np.float32]]]:
    """Arrays of each Keras layer: `model_weights/LAYER/LAYER/NAME:0`."""
    found: dict[str, dict[str, npt.NDArray[np.float32]]] = {}
    for path, values in read_arrays(file, "model_weights").items():
        *_, layer, name = path.split("/")
        found.setdefault(layer, {})[name.split(":")[0]] = values
    return found


def _fill(layer: Any, arrays: Mapping[str, Any], name: str, names: Mapping[str, str], file: str | Path) -> None:
    for ours, theirs in names.items():
        target, found = getattr(layer, ours), arrays.get(name, {}).get(theirs)
        if found is not None and theirs == "kernel":
            found = found.transpose(3, 2, 0, 1) if found.ndim == 4 else found.T
        if found is None or found.shape != tuple(target.shape):
            shape = "is missing" if found is None else f"has shape {found.shape}"
            raise InputError(f"{file}: '{theirs}' of layer '{name}' {shape}, and {tuple(target.shape)} is needed")
        with torch.no_grad():
            target.copy_(torch.from_numpy(np.ascontiguousarray(found)))


register("ds-cnn", DsCnn)
register("mobilenet-v1-0.25", MobileNetV1)
register("resnet8", ResNet8)
register("autoencoder", Autoencoder)
