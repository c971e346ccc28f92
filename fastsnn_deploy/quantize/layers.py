"""Drop-in quantised layers. Each knows its integer form, so training and deployment share one computation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastsnn_deploy.quantize.functional import best_step, integers, lsq, positive_step


def weight_limit(bits: int) -> int:
    """Largest weight integer: 2**(bits - 1) - 1; the grid is symmetric, so 2 bits are ternary."""
    return int(2 ** (bits - 1) - 1)


class QuantInput(nn.Module):
    """Turns raw images into the signed integers that the spiking network receives, times their scale.

    Input float [N, C, ...] in units of the data ([0, 1] for images). level = clip(round_half_up(x / step), low,
    high); output (level - offset) * scale, float32 of the same shape. With offset = round(mean / step) zero
    padding in the first convolution is padding with the mean.
    """

    def __init__(
        self, channels: int, step: float = 1 / 255, low: int = 0, high: int = 255, mean: Sequence[float] = (0.0,),
        std: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if not (0 < step < math.inf and 0 < std < math.inf and low < high):
            raise ValueError(f"step {step} and std {std} must be positive, and levels {low} to {high} increase")
        self.step, self.low, self.high, self.std = float(step), int(low), int(high), float(std)
        means = torch.tensor(tuple(mean), dtype=torch.float64).expand(channels)
        self.register_buffer("offset", torch.floor(means / step + 0.5).to(torch.int64))
        self.offset: Tensor

    @property
    def scale(self) -> float:
        """Real value of one emitted unit after normalisation."""
        return self.step / self.std

    def forward(self, x: Tensor) -> Tensor:
        level = torch.clamp(torch.floor(x.float() / self.step + 0.5), self.low, self.high)
        return (level - self.offset.view(-1, *[1] * (x.dim() - 2)).to(level)) * self.scale

    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain data."""
        return {
            "channels": len(self.offset), "step": self.step, "low": self.low, "high": self.high,
            "mean": [float(o) * self.step for o in self.offset], "std": self.std,
        }  # fmt: skip


class QuantActivation(nn.Module):
    """Quantised activation with a learned step (LSQ). Unsigned (0 .. 2**bits - 1) it contains the ReLU.

    Float [N, ...] -> float32 multiples of `step` of the same shape. The step starts from the first batch it sees.
    signed: integers from -2**(bits - 1) to 2**(bits - 1) - 1, for sums that no ReLU follows.
    """

    def __init__(self, bits: int, signed: bool = False) -> None:
        super().__init__()
        if type(bits) is not int or not 1 <= bits <= 8 or (signed and bits < 2):
            raise ValueError(f"activations have 1 to 8 bits (signed: 2 to 8), got {bits}")
        self.bits, self.signed = bits, signed
        self.low = -(2 ** (bits - 1)) if signed else 0
        self.high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
        self.step = nn.Parameter(torch.ones(()))
        self.register_buffer("initialised", torch.zeros((), dtype=torch.bool))
        self.initialised: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling() and not self.initialised:  # compiled networks have been calibrated
            self._initialise(x.detach().float())
        elements = x[0].numel() if len(x) else 1
        return lsq(x, self.step, self.low, self.high, elements)

    def _initialise(self, x: Tensor) -> None:
        """LSQ's 2 * mean(|x|) / sqrt(high), over what survives the clip."""
        kept = x if self.signed else x.clamp_min(0)
        with torch.no_grad():
            self.step.copy_((2 * kept.abs().mean() / max(self.high, 1) ** 0.5).clamp_min(1e-4))
            self.initialised.fill_(True)

    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain data."""
        return {"bits": self.bits, "signed": self.signed}


class _QuantWeight(nn.Module):
    """Weights on a symmetric grid of `weight_bits` bits with a learned step per output channel or per tensor."""

    weight: Tensor
    weight_bits: int
    per_channel: bool
    weight_step: nn.Parameter

    def _setup_weight(self, weight_bits: int, per_channel: bool) -> None:
        if type(weight_bits) is not int or not 2 <= weight_bits <= 8:
            raise ValueError(f"weights have 2 to 8 bits, got {weight_bits}")
        self.weight_bits, self.per_channel = weight_bits, per_channel
        self.weight_step = nn.Parameter(torch.ones(self.weight.shape[0] if per_channel else 1))
        self.reset_weight_step()

    def reset_weight_step(self) -> None:
        """Set the step that minimises the squared error of the present weights, by a search over 80 candidates."""
        if self.weight.is_meta:
            return
        rows = self.weight.detach().reshape(len(self.weight_step), -1).float()
        with torch.no_grad():
            self.weight_step.copy_(best_step(rows, weight_limit(self.weight_bits)))

    def _step(self) -> Tensor:
        return self.weight_step.view(-1, *[1] * (self.weight.dim() - 1))

    def quantised_weight(self) -> Tensor:
        """Weights on their grid, float32, differentiable."""
        limit = weight_limit(self.weight_bits)
        elements = self.weight[0].numel() if self.per_channel else self.weight.numel()
        return lsq(self.weight, self._step(), -limit, limit, elements)

    def integer_weight(self) -> tuple[Tensor, Tensor]:
        """(int8 weights of the layer's shape, float64 scale [output channels]): weight = integer * scale."""
        limit = weight_limit(self.weight_bits)
        with torch.no_grad():
            step = positive_step(self._step())
            whole = integers(self.weight.float(), step, -limit, limit).to(torch.int8)
            return whole, step.double().reshape(-1).expand(self.weight.shape[0])


class QuantConv2d(nn.Conv2d, _QuantWeight):
    """nn.Conv2d with quantised weights. Same arguments, plus `weight_bits` (2-8) and `per_channel`."""

    def __init__(self, *args: Any, weight_bits: int = 8, per_channel: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._setup_weight(weight_bits, per_channel)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.quantised_weight(), self.bias)  # type: ignore[no-any-return]

    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain data."""
        return {
            "in_channels": self.in_channels, "out_channels": self.out_channels,
            "kernel_size": list(self.kernel_size), "stride": list(self.stride), "padding": _padding(self),
            "dilation": list(self.dilation), "groups": self.groups, "bias": self.bias is not None,
            "weight_bits": self.weight_bits, "per_channel": self.per_channel,
        }  # fmt: skip


class QuantLinear(nn.Linear, _QuantWeight):
    """nn.Linear with quantised weights. Same arguments, plus `weight_bits` (2-8) and `per_channel`."""

    def __init__(self, *args: Any, weight_bits: int = 8, per_channel: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._setup_weight(weight_bits, per_channel)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.quantised_weight(), self.bias)

    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain data."""
        return {
            "in_features": self.in_features, "out_features": self.out_features, "bias": self.bias is not None,
            "weight_bits": self.weight_bits, "per_channel": self.per_channel,
        }  # fmt: skip


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


def _padding(conv: nn.Conv2d) -> list[int] | str:
    padding = conv.padding
    return padding if isinstance(padding, str) else list(padding)
