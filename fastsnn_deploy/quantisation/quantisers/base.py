"""What a quantiser is. It has no state: what it learns lies in the layer, under the name the quantiser chooses.

Whatever a quantiser does in training, its result is integers times one positive step (activations) or one step an
output channel (weights). Tracing sees only those, so a new quantiser needs no change there.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, TypeVar

from torch import Tensor

from fastsnn_deploy.quantisation.functional import or_one


class ActivationQuantiser(ABC):
    """float -> step * clip(floor(x / step + 1/2 + shift), low, high).

    shift: what the rounding adds to half up, in steps. even: exact ties go to the even integer instead.
    parameter: name of the layer's learned number, a scalar float32. levels: how many steps the whole range low .. high
    has if it is unsigned, 2**bits - 1 or L; activations that share their learned number share levels and step.
    """

    name: ClassVar[str]
    parameter: ClassVar[str]
    shift: ClassVar[float] = 0.0
    even: ClassVar[bool] = False

    @abstractmethod
    def step(self, learned: Tensor, levels: int) -> Tensor:
        """The step in use, a positive float32 scalar, differentiable."""

    @abstractmethod
    def learned(self, step: Tensor, levels: int) -> Tensor:
        """Inverse of `step`."""

    @abstractmethod
    def quantise(self, x: Tensor, learned: Tensor, low: int, high: int, levels: int, elements: int) -> Tensor:
        """x of any shape -> multiples of the step, float32 of that shape, differentiable.

        elements: number of values of one image that share the step.
        """

    @abstractmethod
    def with_range_kept(self, learned: Tensor, high_before: int, high_after: int) -> Tensor:
        """The learned number after a change of bits, such that high * step stays."""

    def first_step(self, x: Tensor, high: int) -> Tensor:
        """Step to begin with, from the first values seen. x: float32, negative values cut off if unsigned.

        2 * mean(|x|) / sqrt(high). Source: Esser et al., LSQ (arXiv 1902.08153), section 2.2.
        """
        return or_one(2 * x.abs().mean() / math.sqrt(max(high, 1)))


class WeightQuantiser(ABC):
    """float weights -> int8 integers times a positive step.

    parameter: name of the layer's learned numbers, float32 [rows], or None if nothing is learned. per_channel: it can
    have one row an output channel; else there is always one. lowest_bits, highest_bits: what it has a grid for.
    ends: name of the quantiser that networks with this one use in their first and last layers.
    """

    name: ClassVar[str]
    parameter: ClassVar[str | None]
    per_channel: ClassVar[bool] = False
    lowest_bits: ClassVar[int] = 2
    highest_bits: ClassVar[int] = 8
    ends: ClassVar[str]

    @abstractmethod
    def first(self, rows: Tensor, bits: int) -> Tensor:
        """Learned numbers to begin with: weights float32 [R, n] -> [R]."""

    def after_bits_change(self, rows: Tensor, learned: Tensor, bits: int) -> Tensor:
        """Learned numbers [R] when the grid becomes one of `bits` bits."""
        return self.first(rows, bits)

    @abstractmethod
    def quantise(self, weight: Tensor, learned: Tensor, bits: int, elements: int) -> Tensor:
        """Weights on their grid, float32, differentiable. learned broadcasts; elements share one of it."""

    @abstractmethod
    def integers(self, weight: Tensor, learned: Tensor, bits: int) -> tuple[Tensor, Tensor]:
        """(whole float32 numbers from -127 to 127, step float32 that broadcasts): their product is `quantise`."""


A = TypeVar("A", bound=type[ActivationQuantiser])
W = TypeVar("W", bound=type[WeightQuantiser])

ACTIVATION_QUANTISERS: dict[str, ActivationQuantiser] = {}
WEIGHT_QUANTISERS: dict[str, WeightQuantiser] = {}
"""Every quantiser by name."""


def activation_quantiser(name: str) -> Callable[[A], A]:
    """Class decorator: register a quantiser of activations."""

    def decorator(cls: A) -> A:
        cls.name = name
        ACTIVATION_QUANTISERS[name] = cls()
        return cls

    return decorator


def weight_quantiser(name: str) -> Callable[[W], W]:
    """Class decorator: register a quantiser of weights."""

    def decorator(cls: W) -> W:
        cls.name = name
        WEIGHT_QUANTISERS[name] = cls()
        return cls

    return decorator
