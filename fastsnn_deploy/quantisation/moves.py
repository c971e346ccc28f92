"""Layers that move, repeat or scale values without rounding them: what reshapes, slices, pads and factors become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Subsample(nn.Module):
    """x[:, :, ::stride, ::stride], the spatial half of an option-A shortcut."""

    def __init__(self, stride: Sequence[int]) -> None:
        super().__init__()
        self.stride = (int(stride[0]), int(stride[1]))

    def forward(self, x: Tensor) -> Tensor:
        kept: Tensor = x[:, :, :: self.stride[0], :: self.stride[1]]
        return kept

    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain data."""
        return {"stride": list(self.stride)}


class PadChannels(nn.Module):
    """Append zero channels before and after, the other half of an option-A shortcut."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.before, self.after = int(before), int(after)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))

    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain data."""
        return {"before": self.before, "after": self.after}


class SelectChannels(nn.Module):
    """x[:, channels] of maps or vectors: chunk, split, slices, channel shuffle; -1 is a channel of zeros."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = tuple(int(channel) for channel in channels)
        if not self.channels or min(self.channels) < -1:
            raise ValueError(f"{self.channels[:8]} are not channels")

    def forward(self, x: Tensor) -> Tensor:
        index = torch.tensor(self.channels, device=x.device)
        chosen: Tensor = x[:, index.clamp_min(0)]
        if min(self.channels) >= 0:
            return chosen
        return chosen * (index >= 0).view(-1, *[1] * (x.dim() - 2)).to(x)

    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain data."""
        return {"channels": list(self.channels)}


class PadSpace(nn.Module):
    """Append rows and columns of zeros to maps, or cut them off where a number is negative."""

    def __init__(self, left: int, right: int, top: int, bottom: int) -> None:
        super().__init__()
        self.left, self.right, self.top, self.bottom = int(left), int(right), int(top), int(bottom)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (self.left, self.right, self.top, self.bottom))

    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain data."""
        return {"left": self.left, "right": self.right, "top": self.top, "bottom": self.bottom}


class Scale(nn.Module):
    """factor * x with a positive constant: the counts stay, what one of them is worth changes."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        if not 0 < factor < float("inf"):
            raise ValueError(f"factor {factor} must be positive")
        self.factor = float(factor)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor

    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain data."""
        return {"factor": self.factor}


class Affine(nn.Module):
    """weight * x + bias for each channel, of maps or vectors; both float32 [C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *[1] * (x.dim() - 2))
        return x * self.weight.view(shape) + self.bias.view(shape)

    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain data."""
        return {"channels": len(self.weight)}
