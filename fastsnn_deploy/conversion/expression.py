"""What lowering knows of a value: either a spike source, or a sum of synaptic arms that no neuron has rounded yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import Synapse

Float64 = npt.NDArray[np.float64]


class CannotLowerError(Exception):
    """A value has no exact spiking form here; caught by `lower` and turned into a Problem."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


@dataclass(frozen=True)
class Signal:
    """Integers times one real scale, emitted by the spiking node `source`; shape without batch."""

    source: str
    shape: tuple[int, ...]
    scale: float


@dataclass(frozen=True)
class Arm:
    """One term of a sum: scale[c] * (integer weights of `synapse` applied to the integers of its source).

    synapse: a template with exponent 0 that names its source; scale: float64 [C], may be negative or zero.
    """

    synapse: Synapse
    scale: Float64

    def times(self, gain: Float64) -> Arm:
        """The arm multiplied by a real number for each channel."""
        return Arm(self.synapse, self.scale * gain)

    @property
    def trained(self) -> bool:
        """True if the weights are more than zeros and ones, so that rounding them would lose something."""
        return bool(np.any((self.synapse.weight != 0) & (self.synapse.weight != 1)))


@dataclass(frozen=True)
class Expression:
    """Sum of arms plus constant[c]; shape (C, ...). flat: the network has flattened it, C first."""

    arms: tuple[Arm, ...]
    constant: Float64
    shape: tuple[int, ...]
    flat: bool = False

    def affine(self, gain: Float64, shift: Float64) -> Expression:
        """gain * self + shift, for each channel."""
        arms = tuple(arm.times(gain) for arm in self.arms)
        return Expression(arms, self.constant * gain + shift, self.shape, self.flat)


@dataclass(frozen=True)
class Parts:
    """Expressions and signals side by side on the channel axis, not yet rounded."""

    parts: tuple[Signal | Expression, ...]

    def split(self, values: Float64) -> Sequence[Float64]:
        """Cut a per-channel array [sum of channels] into one piece for each part."""
        sizes = np.cumsum([part.shape[0] for part in self.parts])[:-1]
        return np.split(values, sizes)


Value = Signal | Expression | Parts
