"""Drop-in quantised layers. Each knows its integer form, so training and deployment share one computation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastsnn_deploy.graph.synapses.conv_transpose2d import channels_swapped
from fastsnn_deploy.quantisation.fixed.quantiser import FixedQuantiser
from fastsnn_deploy.quantisation.functional import counts_of
from fastsnn_deploy.quantisation.functional import weight_limit as weight_limit
from fastsnn_deploy.quantisation.moves import PadChannels as PadChannels
from fastsnn_deploy.quantisation.moves import Subsample as Subsample
from fastsnn_deploy.quantisation.quantisers import (
    ACTIVATION_QUANTISERS,
    WEIGHT_QUANTISERS,
    ActivationQuantiser,
    WeightQuantiser,
)
from fastsnn_deploy.quantisation.quantisers.straight_through import with_gradient_of

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
"""Batch norms that a network may hold."""


class QuantInput(nn.Module):
    """Turns raw images into the signed integers that the spiking network receives, times their scale.

    Input float [N, C, ...] in units of the data ([0, 1] for images), or bool, 0 and 1; other integers are levels.
    level = clip(round_half_up(x / step), low, high); output (level - offset) * scale, float32 of the same shape. With
    offset = round(mean / step) zero padding in the first convolution is padding with the mean.
    """

    def __init__(
        self, channels: int, step: float = 1 / 255, low: int = 0, high: int = 255, mean: Sequence[float] = (0.0,),
        std: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if not (0 < step < math.inf and 0 < std < math.inf and low < high):
            raise ValueError(f"step {step} and std {std} must be positive, and levels {low} to {high} increase")
        self.step, self.low, self.high, self.std = float(step), int(low), int(high), float(std)
        self.mean, self.enabled = tuple(float(value) for value in mean), True
        means = torch.tensor(self.mean, dtype=torch.float64).expand(channels)
        self.register_buffer("offset", torch.floor(means / step + 0.5).to(torch.int64))
        self.offset: Tensor

    @property
    def scale(self) -> float:
        """Real value of one emitted unit after normalisation."""
        return self.step / self.std

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            return (x - torch.tensor(self.mean).view(-1, *[1] * (x.dim() - 2)).to(x)) / self.std
        real = x.is_floating_point() or x.dtype == torch.bool
        level = torch.floor(x.float() / self.step + 0.5) if real else x.float()
        level = level.clamp(self.low, self.high)
        return (level - self.offset.view(-1, *[1] * (x.dim() - 2)).to(level)) * self.scale

    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain data."""
        return {
            "channels": len(self.offset), "step": self.step, "low": self.low, "high": self.high,
            "mean": list(self.mean), "std": self.std,
        }  # fmt: skip


class QuantActivation(nn.Module):
    """Activation on a uniform grid with one learned number. Unsigned (0 .. levels) it contains the ReLU.

    Float [N, ...] -> float32 multiples of the step of the same shape. The step starts from the first batch it sees.
    levels: greatest integer, 1 to 2**bits - 1 (the default). signed: as many levels with zero in their middle, from
    -2**(bits - 1) to 2**(bits - 1) - 1, for sums that no ReLU follows. quantiser: a key of `ACTIVATION_QUANTISERS`.
    limit: greatest value that the float activation has (6 for ReLU6), None without one: levels * step never exceeds it.
    low: of a signed one, its smallest integer, 0 or less, where zero does not lie in the middle.
    """

    def __init__(
        self, bits: int, signed: bool = False, quantiser: str = "lsq", levels: int | None = None,
        limit: float | None = None, low: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if limit is not None and not (0 < limit < math.inf and not signed):
            raise ValueError(f"an unsigned activation can be limited to a positive value, not to {limit}")
        self.limit = None if limit is None else float(limit)
        self.enabled = True
        self.sharers = [self]
        """Activations with the same learned number, this one among them."""
        if quantiser not in ACTIVATION_QUANTISERS:
            raise ValueError(f"activation quantiser '{quantiser}' is not one of {sorted(ACTIVATION_QUANTISERS)}")
        self.quantiser = quantiser
        self.signed = signed
        self.set_levels(bits, levels, low)
        self.register_parameter(self.rule.parameter, nn.Parameter(torch.ones(())))
        self.register_buffer("initialised", torch.zeros((), dtype=torch.bool))
        self.initialised: Tensor

    def set_levels(self, bits: int, levels: int | None = None, low: int | None = None) -> None:
        """Use another grid; the learned number stays. Raises ValueError if there is no such grid."""
        if type(bits) is not int or not 1 <= bits <= 8 or (self.signed and bits < 2 and low is None):
            raise ValueError(f"activations have 1 to 8 bits (signed: 2 to 8), got {bits}")
        count = 2**bits - 1 if levels is None else levels
        if type(count) is not int or not (3 if self.signed and low is None else 1) <= count <= 2**bits - 1:
            raise ValueError(f"{bits} bits hold 1 to {2**bits - 1} levels (signed: from 3), got {levels}")
        middle = -((count + 1) // 2) if self.signed else 0
        if low is not None and (type(low) is not int or not -count <= low <= 0 or not (self.signed or low == 0)):
            raise ValueError(f"{count} levels start from {-count if self.signed else 0} to 0, got {low}")
        self.bits, self.levels = bits, count
        self.low = middle if low is None else low
        self.high = self.low + count
        self._moved = self.low != middle or (self.signed and count < 3)

    @property
    def rule(self) -> ActivationQuantiser:
        """How it rounds and learns."""
        return ACTIVATION_QUANTISERS[self.quantiser]

    @property
    def learned(self) -> nn.Parameter:
        """What training learns: the step, or what the quantiser derives it from."""
        return self.get_parameter(self.rule.parameter)

    def share(self, other: QuantActivation) -> None:
        """Use the learned number of `other`. Raises ValueError if that has another quantiser."""
        if other.quantiser != self.quantiser or other.limit != self.limit:
            raise ValueError(f"'{self.quantiser}' cannot share its step with '{other.quantiser}', or limits differ")
        if self not in other.sharers:
            setattr(self, self.rule.parameter, other.learned)
            other.sharers.append(self)
            self.sharers = other.sharers

    def keep_range(self, high_before: int) -> None:
        """After a change of levels: adapt the learned number so that high * step is as before."""
        with torch.no_grad():
            self.learned.copy_(self.rule.with_range_kept(self.learned, high_before, self.high))

    def step_in_use(self) -> Tensor:
        """Real value of one count: positive float32 scalar without gradient."""
        return self.rule.step(self._limited().detach(), self.levels)

    def _limited(self) -> Tensor:
        """The learned number, so small that the range ends at the limit; its gradient passes the limit."""
        if self.limit is None:
            return self.learned
        top = self.rule.learned(self.learned.new_tensor(self.limit / self.high), self.levels)
        return with_gradient_of(torch.minimum(self.learned.abs(), top).detach(), self.learned)

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            return x if self.signed else x.clamp(0, self.limit)
        if not torch.compiler.is_compiling() and not self.initialised:  # compiled networks have been calibrated
            self.initialise(x.detach().float(), self.first_step)
        elements = x[0].numel() if len(x) else 1
        return self.rule.quantise(x, self._limited(), self.low, self.high, self.levels, elements)

    def counts(self, x: Tensor, values: Tensor) -> Tensor:
        """The integers of `values`, which `forward` made of x, float32.

        Their gradient goes to x, straight through where x is in the range. The step has none: what `forward` learns of
        it does not hold here, where a larger step means fewer spikes, not larger values.
        """
        return counts_of(x.float(), values, self.step_in_use(), self.low, self.high)

    def first_step(self, x: Tensor, high: int) -> Tensor:
        """The step that training starts from."""
        return self.rule.first_step(x, high)

    def initialise(self, x: Tensor, first_step: Callable[[Tensor, int], Tensor]) -> None:
        """Set the step from values; activations that share it take the largest that one of them needs."""
        kept = x if self.signed else x.clamp(0, self.limit)  # what survives the clip
        learned = self.rule.learned(first_step(kept, self.high), self.levels)
        if any(other.initialised for other in self.sharers):
            learned = torch.maximum(learned, self.learned.detach())
        self.learned.data.copy_(learned)  # .data: a branch that shares the step may have used it in this very pass
        self.initialised.fill_(True)

    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain data."""
        limit = {} if self.limit is None else {"limit": self.limit}
        low = {"low": self.low} if self._moved else {}
        return {
            "bits": self.bits, "signed": self.signed, "quantiser": self.quantiser, "levels": self.levels, **limit, **low
        }  # fmt: skip


class _QuantWeight(nn.Module):
    """Weights on a grid of `weight_bits` bits, with whatever their quantiser learns; comes before the float layer."""

    weight: Tensor
    weight_bits: int
    per_channel: bool
    quantiser: str
    enabled: bool

    def __init__(
        self, *args: Any, weight_bits: int = 8, per_channel: bool = True, quantiser: str = "uniform", **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._setup_weight(weight_bits, per_channel, quantiser)

    def _setup_weight(self, weight_bits: int, per_channel: bool, quantiser: str) -> None:
        if quantiser not in WEIGHT_QUANTISERS:
            raise ValueError(f"weight quantiser '{quantiser}' is not one of {sorted(WEIGHT_QUANTISERS)}")
        self.quantiser, self.enabled = quantiser, True
        rule = self._rule
        if type(weight_bits) is not int or not rule.lowest_bits <= weight_bits <= rule.highest_bits:
            limits = f"{rule.lowest_bits} to {rule.highest_bits}"
            raise ValueError(f"weights have {limits} bits with the quantiser '{quantiser}', got {weight_bits}")
        self.weight_bits, self.per_channel = weight_bits, per_channel and rule.per_channel
        if rule.parameter is not None:
            rows = self._by_output(self.weight).shape[0] if self.per_channel else 1
            self.register_parameter(rule.parameter, nn.Parameter(torch.ones(rows)))
        self.reset_weight_step()

    @property
    def _rule(self) -> WeightQuantiser:
        return WEIGHT_QUANTISERS[self.quantiser]

    def reset_weight_step(self) -> None:
        """Start what is learned anew from the present weights."""
        if self.weight.is_meta or self._rule.parameter is None:
            return
        with torch.no_grad():
            self._learned().copy_(self._rule.first(self._rows(), self.weight_bits))

    def set_weight_bits(self, bits: int) -> None:
        """Use another grid for the present weights."""
        self.weight_bits = bits
        if self._rule.parameter is not None:
            with torch.no_grad():
                learned = self._learned()
                learned.copy_(self._rule.after_bits_change(self._rows(), learned.clone(), bits))

    def _rows(self) -> Tensor:
        """Weights that share a learned number, a row each."""
        return self._by_output(self.weight.detach()).reshape(len(self._learned()), -1).float()

    def _by_output(self, weight: Tensor) -> Tensor:
        """The layer's weights with output channels first, and back again."""
        return weight

    def _learned(self) -> Tensor:
        name = self._rule.parameter
        return self.weight.new_empty(0) if name is None else self.get_parameter(name)

    def _step(self) -> Tensor:
        """What is learned (the step of uniform weights), shaped to broadcast over the weights."""
        return self._learned().view(-1, *[1] * (self.weight.dim() - 1))

    def quantised_weight(self) -> Tensor:
        """Weights on their grid, float32, differentiable; as they are while quantisers are off."""
        if not self.enabled:
            return self.weight
        weight = self._by_output(self.weight)
        elements = weight[0].numel() if self.per_channel else weight.numel()
        return self._by_output(self._rule.quantise(weight, self._step(), self.weight_bits, elements))

    def integer_weight(self) -> tuple[Tensor, Tensor]:
        """(int8 weights with output channels first, float64 scale [output channels]): weight = integer * scale."""
        with torch.no_grad():
            whole, step = self._rule.integers(self._by_output(self.weight), self._step(), self.weight_bits)
            return whole.to(torch.int8), step.double().reshape(-1).expand(whole.shape[0])


class QuantConv2d(_QuantWeight, nn.Conv2d):
    """nn.Conv2d with quantised weights. Same arguments, plus those of its grid.

    weight_bits: 2-8, or what the quantiser can do. quantiser: a key of `WEIGHT_QUANTISERS`. per_channel: one step an
    output channel, where the quantiser has more than one.
    """

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.quantised_weight(), self.bias)  # type: ignore[no-any-return]

    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain data."""
        return {
            "in_channels": self.in_channels, "out_channels": self.out_channels,
            "kernel_size": list(self.kernel_size), "stride": list(self.stride), "padding": _padding(self),
            "dilation": list(self.dilation), "groups": self.groups, "bias": self.bias is not None,
            "weight_bits": self.weight_bits, "per_channel": self.per_channel, "quantiser": self.quantiser,
        }  # fmt: skip


class QuantConvTranspose2d(_QuantWeight, nn.ConvTranspose2d):
    """nn.ConvTranspose2d with quantised weights. Same arguments, plus those of its grid; no `output_size` in its call.

    weight_bits: 2-8, or what the quantiser can do. quantiser: a key of `WEIGHT_QUANTISERS`. per_channel: one step an
    output channel, where the quantiser has more than one.
    """

    def _by_output(self, weight: Tensor) -> Tensor:
        return channels_swapped(weight, self.groups)

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        geometry: Any = self.stride, self.padding, self.output_padding, self.groups, self.dilation
        return F.conv_transpose2d(input, self.quantised_weight(), self.bias, *geometry)

    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain data."""
        return {
            "in_channels": self.in_channels, "out_channels": self.out_channels,
            "kernel_size": list(self.kernel_size), "stride": list(self.stride), "padding": _padding(self),
            "output_padding": list(self.output_padding), "groups": self.groups, "bias": self.bias is not None,
            "dilation": list(self.dilation), "weight_bits": self.weight_bits, "per_channel": self.per_channel,
            "quantiser": self.quantiser,
        }  # fmt: skip


class QuantLinear(_QuantWeight, nn.Linear):
    """nn.Linear with quantised weights. Same arguments, plus those of its grid.

    weight_bits: 2-8, or what the quantiser can do. quantiser: a key of `WEIGHT_QUANTISERS`. per_channel: one step an
    output channel, where the quantiser has more than one.
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.quantised_weight(), self.bias)

    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain data."""
        return {
            "in_features": self.in_features, "out_features": self.out_features, "bias": self.bias is not None,
            "weight_bits": self.weight_bits, "per_channel": self.per_channel, "quantiser": self.quantiser,
        }  # fmt: skip


QUANT_WEIGHTED = (QuantConv2d, QuantConvTranspose2d, QuantLinear)
"""Layers with quantised weights."""


def _padding(conv: nn.Conv2d | nn.ConvTranspose2d) -> list[int] | str:
    padding = conv.padding
    return padding if isinstance(padding, str) else list(padding)


def switch_quantisers(quantised: nn.Module, on: bool) -> None:
    """Off: the network computes with its float weights, activations only rectify, and images are not rounded."""
    for module in quantised.modules():
        if isinstance(module, (QuantInput, QuantActivation, _QuantWeight, FixedQuantiser)):
            module.enabled = on


@contextmanager
def quantisers_off(quantised: nn.Module) -> Iterator[None]:
    """Within it the quantisers are off, as `switch_quantisers` says."""
    switch_quantisers(quantised, on=False)
    try:
        yield
    finally:
        switch_quantisers(quantised, on=True)
