"""The one form in which quantisers of other programs enter: a module that rounds, and a grid that weights lie on.

Whatever a file or a framework calls them: activations pass through a `FixedQuantiser`, and a layer with quantised
weights has a `WeightGrid`. Both keep what cannot be taken as `refusals`, so that all of it is listed at once, together
with what the network lacks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.errors import Problem
from fastsnn_deploy.quantisation.quantisers.given import NOISE

Refusal = tuple[str, str]
"""What is wrong, and what to do instead."""

ROUNDINGS = {"even": "even", "even_inverse": "even-inverse", "half_up": "lsq", "floor": "floor"}
"""How a quantiser may round, and which of our activation quantisers does."""

ONE_SCALE = "Train or calibrate with one scale for each tensor"
DYNAMIC = "Quantise statically: one scale, from training or calibration"
EIGHT_BITS = "Use 8 bits or fewer"
CHANNELS = "Use one scale, or one for each output channel, symmetric around 0"

GRIDS = "fixed_grids"
"""Where a module keeps the grids of its parameters."""

_SCHEMA = "(Tensor x, float step, int low, int high, int bits, str rounding) -> Tensor"


@torch.library.custom_op("fastsnn_deploy::quantise", mutates_args=(), schema=_SCHEMA)
def _quantise(x: Tensor, step: float, low: int, high: int, bits: int, rounding: str) -> Tensor:
    scaled = (x * (1 / torch.tensor(step).to(x)) if rounding == "even_inverse" else x / step).clamp(low, high)
    if rounding.startswith("even"):
        return scaled.round() * step
    return (scaled + (NOISE if rounding == "floor" else 0.5)).floor() * step


@_quantise.register_fake
def _(x: Tensor, step: float, low: int, high: int, bits: int, rounding: str) -> Tensor:
    return torch.empty_like(x)


class FixedQuantiser(nn.Module):
    """step * clip(round(x / step), low, high). An affine zero point is part of low and high.

    step: one unit, a float32 number. low, high: least and greatest integer, low <= 0 < high. bits: as the program that
    made it has them. rounding: a key of `ROUNDINGS`. refusals: why it cannot be taken; it then passes on what it reads.
    """

    def __init__(
        self, step: float, low: int, high: int, bits: int, rounding: str = "even", refusals: Sequence[Refusal] = ()
    ) -> None:
        super().__init__()
        self.step, self.low, self.high, self.bits, self.rounding = float(step), int(low), int(high), int(bits), rounding
        self.refusals = (*refusals, *(() if refusals else self._refused()))
        self.enabled = True

    def _refused(self) -> Iterator[Refusal]:
        if not 0 < self.step < math.inf:
            yield f"has the scale {self.step:g}", "Give it a positive scale: calibrate or train it"
        if self.high - self.low > 255 or not 1 <= self.bits <= 8:
            yield f"has {self.bits} bits, integers from {self.low} to {self.high}", EIGHT_BITS
        elif not self.low <= 0 < self.high:
            yield f"holds integers from {self.low} to {self.high}, without 0", "Choose a zero point within the range"
        if self.rounding not in ROUNDINGS:
            yield f"rounds by {self.rounding}", "Use ROUND, HALF_UP or FLOOR"

    def forward(self, x: Tensor) -> Tensor:
        if self.refusals:  # an activation in the captured network, so that its readers are no problems too
            return _quantise(x, 1.0, 0, 255, 8, "even") if torch.compiler.is_exporting() else x
        if not self.enabled:
            return x.clamp(0) if self.low == 0 else x
        made: Tensor = _quantise(x, self.step, self.low, self.high, self.bits, self.rounding)
        return made

    def extra_repr(self) -> str:
        return f"step={self.step:g}, {self.low}..{self.high}"


def refused(what: str, fix: str) -> FixedQuantiser:
    """A quantiser that cannot be taken."""
    return FixedQuantiser(1.0, 0, 255, 8, refusals=[(what, fix)])


def affine(
    scale: Sequence[float], zero: Sequence[float], low: int, high: int, bits: int, rounding: str = "even"
) -> FixedQuantiser:
    """A quantiser of an affine grid: integers low .. high with a zero point, each one number if it can be taken."""
    if len(scale) != 1 or len(zero) != 1:
        return refused(f"has {max(len(scale), len(zero))} activation scales", ONE_SCALE)
    shift = float(zero[0])
    if shift % 1:
        return refused(f"has the zero point {shift:g}", "Use a whole one")
    return FixedQuantiser(float(scale[0]), low - int(shift), high - int(shift), bits, rounding)


@dataclass(frozen=True, eq=False)
class WeightGrid:
    """What quantised weights lie on: weight = integer * step.

    steps: float32 that broadcasts to the weights. bits: of the grid. refusals: why it cannot be taken.
    """

    steps: Tensor
    bits: int
    refusals: tuple[Refusal, ...] = ()

    def by_channel(self, weight: Tensor) -> WeightGrid:
        """The same for weights with output channels first, float32 [O, ...]: steps [O] or [1], and the bits that a
        grid -2**(bits - 1) .. 2**(bits - 1) - 1 takes to hold the integers."""
        if self.refusals:
            return self
        rows = self.steps.expand(weight.shape).flatten(1)
        steps = rows[:, 0].float()
        if not bool((rows == rows[:, :1]).all()):
            return self._refused("has weight scales that differ within an output channel")
        if not bool(((steps > 0) & steps.isfinite()).all()):
            return self._refused("has a weight scale that is not positive")
        whole = (weight / self.steps).round()
        low, high = int(whole.min()), int(whole.max())
        bits = 1 + max((-low - 1).bit_length() if low < 0 else 0, high.bit_length())
        if bits > 8:
            return self._refused(f"has weights from {low} to {high} steps around 0, more than 8 bits")
        return WeightGrid(steps[:1] if bool((steps == steps[0]).all()) else steps, max(2, bits, min(self.bits, 8)))

    def _refused(self, what: str) -> WeightGrid:
        return WeightGrid(self.steps, self.bits, ((what, CHANNELS),))


def put_grid(module: nn.Module, grid: WeightGrid, name: str = "weight") -> None:
    """Note that the parameter of a module lies on a grid; of a program in its meta, which copies keep."""
    place = module.meta if isinstance(module, fx.GraphModule) else module.__dict__
    place[GRIDS] = {**grids_of(module), name: grid}


def grids_of(module: nn.Module) -> dict[str, WeightGrid]:
    """The grids of a module's own parameters by name."""
    place = module.meta if isinstance(module, fx.GraphModule) else module.__dict__
    found: dict[str, WeightGrid] = place.get(GRIDS, {})
    return found


def is_fixed(model: nn.Module) -> bool:
    """Whether another program has quantised a network."""
    return any(isinstance(module, FixedQuantiser) or grids_of(module) for module in model.modules())


def refusals(model: nn.Module) -> Iterator[Problem]:
    """What cannot be taken of quantisers, whatever the network around them."""
    for path, module in model.named_modules():
        if isinstance(module, FixedQuantiser):
            yield from (Problem(path, what, fix) for what, fix in module.refusals)
        for grid in grids_of(module).values():
            yield from (Problem(path, what, fix) for what, fix in grid.refusals)
