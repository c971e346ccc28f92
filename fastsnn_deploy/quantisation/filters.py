"""Layers that weigh values by where they lie: averages whose borders count less, bilinear upsampling.

Each is the same along rows and along columns, so that two matrices say what it does.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Filter(nn.Module):
    """What all of them have. Maps [N, C, H, W] only."""

    up = False
    """True if an input reaches several outputs by a regular kernel, False if an output reads several inputs."""

    def matrix(self, size: int, axis: int) -> Tensor:
        """What each output of an axis (0 rows, 1 columns) of `size` inputs reads, float64 [outputs, size]."""
        eye = torch.eye(size, dtype=torch.float64)[:, None]
        result = self.along(eye[..., None] if axis == 0 else eye[:, :, None], axis)
        return result.reshape(size, -1).t()

    @abstractmethod
    def along(self, x: Tensor, axis: int) -> Tensor:
        """The layer on one axis only."""

    @abstractmethod
    def regular(self, axis: int) -> tuple[list[float], int, int] | None:
        """(taps, stride, padding) of most outputs of an axis, those of a transposed convolution if `up`; or None."""


class BorderAverage(Filter):
    """nn.AvgPool2d whose windows at the border divide by less: ceil_mode, or count_include_pad=False."""

    def __init__(
        self,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        ceil_mode: bool,
        count_include_pad: bool,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = tuple(kernel), tuple(stride), tuple(padding)
        self.ceil_mode, self.count_include_pad = bool(ceil_mode), bool(count_include_pad)

    def forward(self, x: Tensor) -> Tensor:
        return self._pool(x, self.kernel, self.stride, self.padding)

    def _pool(self, x: Tensor, *window: Any) -> Tensor:
        kernel, stride, padding = window
        return F.avg_pool2d(x, kernel, stride, padding, self.ceil_mode, self.count_include_pad)

    def along(self, x: Tensor, axis: int) -> Tensor:
        one, zero = [1, 1], [0, 0]
        kernel, stride, padding = [*one], [*one], [*zero]
        kernel[axis], stride[axis], padding[axis] = self.kernel[axis], self.stride[axis], self.padding[axis]
        return self._pool(x, kernel, stride, padding)

    def regular(self, axis: int) -> tuple[list[float], int, int]:
        size = self.kernel[axis]
        return [1 / size] * size, self.stride[axis], self.padding[axis]

    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain data."""
        return {
            "kernel": list(self.kernel), "stride": list(self.stride), "padding": list(self.padding),
            "ceil_mode": self.ceil_mode, "count_include_pad": self.count_include_pad,
        }  # fmt: skip


class UnevenAverage(Filter):
    """nn.AdaptiveAvgPool2d to a size that does not divide that of its map."""

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.size = (int(size[0]), int(size[1]))

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.size)

    def along(self, x: Tensor, axis: int) -> Tensor:
        return F.adaptive_avg_pool2d(x, (self.size[0], 1) if axis == 0 else (1, self.size[1]))

    def regular(self, axis: int) -> None:
        return None

    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain data."""
        return {"size": list(self.size)}


class Bilinear(Filter):
    """Bilinear upsampling by whole factors, align_corners=False."""

    up = True

    def __init__(self, factor: Sequence[int]) -> None:
        super().__init__()
        self.factor = tuple(factor)

    def forward(self, x: Tensor) -> Tensor:
        return self._resized(x, self.factor)

    def _resized(self, x: Tensor, factor: Sequence[int]) -> Tensor:
        size = [n * f for n, f in zip(x.shape[2:], factor, strict=True)]
        return F.interpolate(x, size, mode="bilinear", align_corners=False)

    def along(self, x: Tensor, axis: int) -> Tensor:
        return self._resized(x, (self.factor[0], 1) if axis == 0 else (1, self.factor[1]))

    def regular(self, axis: int) -> tuple[list[float], int, int]:
        factor = self.factor[axis]
        half = [(2 * i + 1) / (2 * factor) for i in range(factor)]
        if factor % 2 == 0:
            return [*half, *half[::-1]], factor, factor // 2
        rising = [(i + 1) / factor for i in range(factor)]
        return [*rising, *rising[-2::-1]], factor, (factor - 1) // 2

    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain data."""
        return {"factor": list(self.factor)}
