"""What modules of other projects mean: known by class name and attributes, never by import; a file for each project.

A new kind of module is one function under `@activation`, or one call of `weights` or `refused`, in a file that
`__init__` names. What a module is said to mean is checked against what it computes (`confirmed`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

LEVELS_MAX = 255
"""Most levels of an activation here: 8 bits."""


class CannotTakeError(Exception):
    """A module has no exact form here; becomes a Problem."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


@dataclass(frozen=True)
class Taken:
    """A quantising activation: top / levels * clip(floor(x * levels / top + 1/2 - shift), 0, levels).

    top: the value of all levels. quantiser: ours that learns this number. shift: in steps. before: what the module
    applies first, a pool or a factor. run: the module on [N] or maps, where it has to be run in a way of its own.
    note: what must be said to the user about each such module.
    """

    levels: int
    top: float
    quantiser: str
    shift: float = 0.0
    before: nn.Module | None = None
    run: Callable[[nn.Module, Tensor], Tensor] | None = None
    note: str = ""

    def counts(self, x: Tensor) -> Tensor:
        """The count of each value, in the type of x."""
        return (x / self.top * self.levels + (0.5 - self.shift)).floor().clamp(0, self.levels)


Take = Callable[[nn.Module, int | None], Taken]
Test = Callable[[nn.Module], bool]


@dataclass(frozen=True)
class Kind:
    """Modules of a project. holds: whether a module is one. take: what an activation means. why, fix: of a refusal."""

    project: str
    holds: Test
    take: Take | None = field(default=None)
    why: str = ""
    fix: str = ""


ACTIVATIONS: list[Kind] = []
"""Modules that quantise activations."""
WEIGHTS: list[Kind] = []
"""Layers that quantise the weights that they hand to a convolution or a matrix product."""
REFUSED: list[Kind] = []
"""Modules without a form here."""


def named(*names: str, having: tuple[str, ...] = ()) -> Test:
    """A test for modules of these class names with these attributes; ours and torch's are none."""

    def holds(module: nn.Module) -> bool:
        own = type(module).__module__.startswith(("fastsnn_deploy.", "torch."))
        return not own and type(module).__name__ in names and all(hasattr(module, name) for name in having)

    return holds


def activation(project: str, holds: Test) -> Callable[[Take], Take]:
    """Register take(module, time steps or None) -> Taken for activations; it raises CannotTakeError."""

    def decorator(take: Take) -> Take:
        ACTIVATIONS.append(Kind(project, holds, take))
        return take

    return decorator


def weights(project: str, holds: Test) -> None:
    """Register layers with weights. What they hand over is looked at, so nothing has to be said of their grids."""
    WEIGHTS.append(Kind(project, holds))


def refused(project: str, holds: Test, why: str, fix: str) -> None:
    """Register modules that cannot be taken."""
    REFUSED.append(Kind(project, holds, None, why, fix))


def whole(name: str, value: object, least: int = 1, most: int = LEVELS_MAX) -> int:
    """A number of levels. Raises CannotTakeError for anything else."""
    if type(value) is not int or not least <= value <= most:
        raise CannotTakeError(f"its {name} is {value!r}, must be a whole number from {least} to {most}", "Set it")
    return value


def positive(name: str, value: object) -> float:
    """A threshold: one finite number above zero. Raises CannotTakeError for anything else."""
    tensor = torch.as_tensor(value).detach().double().reshape(-1)
    if tensor.numel() != 1:
        fix = "Convert with one threshold for each layer"
        raise CannotTakeError(f"its {name} differs between channels ({tensor.numel()} values)", fix)
    number = float(tensor)
    if not 0 < number < float("inf"):
        raise CannotTakeError(f"its {name} is {number:g}, must be positive", "Load the trained weights first")
    return number


def confirmed(module: nn.Module, taken: Taken) -> Taken:
    """The same, once the module itself has computed it on a ramp, in float64. Raises CannotTakeError if it does not."""
    span = 2 * torch.arange(8 * taken.levels + 3, dtype=torch.float64) / (8 * taken.levels + 2) - 0.489
    ramp = (span * taken.top).view(1, 1, 1, -1)
    alone = copy.deepcopy(module).double().eval()
    side = getattr(taken.before, "kernel_size", 1)
    rows, columns = side if isinstance(side, tuple) else (side, side)
    shown = ramp.repeat_interleave(columns, 3).expand(1, 1, rows, -1).clone()
    with torch.no_grad():
        found = (taken.run or (lambda each, x: each(x)))(alone, shown).reshape(-1)
        before = ramp if taken.before is None else copy.deepcopy(taken.before).double()(shown)
        wanted = taken.counts(before).reshape(-1) * (taken.top / taken.levels)
    if found.shape != wanted.shape or not torch.allclose(found, wanted, rtol=1e-9, atol=1e-9 * taken.top):
        raise CannotTakeError(
            f"does not compute {taken.levels} even levels up to {taken.top:g}, as {type(module).__name__} should",
            "Only evenly spaced levels are counts of spikes",
        )
    return taken
