"""Which modules of a network are other projects' quantising ones."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fastsnn_deploy.errors import LoweringError, Problem
from fastsnn_deploy.quantisation.graph_edit import grouped
from fastsnn_deploy.quantisation.others.base import ACTIVATIONS, REFUSED, WEIGHTS, CannotTakeError, Kind, Taken

SCALE_TOLERANCE = 1e-6
"""Of weights against their grid: official code keeps tables of levels in float32."""

GRID_MAX = 1023
"""Largest weight integer that is looked for: what one synapse does not hold, two do."""

SAMPLE = 2**14
"""Weights that are looked at first: most layers are on no grid, and sorting all takes a second."""


@dataclass(frozen=True)
class Weights:
    """What a layer hands on: values float64, and their grid, whole * step, or None where they are on none."""

    values: torch.Tensor
    step: float | None
    largest: int


def found_in(model: nn.Module) -> dict[str, int]:
    """How many modules of each project and class there are, as {"QCFS IF": 15}."""
    counts = Counter(
        f"{kind.project} {type(module).__name__}"
        for module in model.modules()
        for kind in (*ACTIVATIONS, *WEIGHTS, *REFUSED)
        if kind.holds(module)
    )
    return dict(counts)


def taken_of(model: nn.Module, steps: int | None) -> tuple[dict[str, Taken], dict[str, Weights]]:
    """Activations and weights by path. Raises LoweringError listing all that cannot be taken, a line for each cause."""
    problems: list[Problem] = []
    activations: dict[str, Taken] = {}
    layers: dict[str, Weights] = {}
    for path, module in model.named_modules():
        name = type(module).__name__
        for kind in _of(REFUSED, module):
            problems.append(Problem(path, f"{name} of {kind.project} {kind.why}", kind.fix))
        for kind in _of(ACTIVATIONS, module):
            try:
                assert kind.take is not None
                activations[path] = kind.take(module, steps)
            except CannotTakeError as error:
                problems.append(Problem(path, f"{name} of {kind.project} {error}", error.fix))
            except Exception as error:  # the module's own code runs here: anything can be raised
                problems.append(Problem(path, f"{name} of {kind.project} fails ({type(error).__name__}: {error})"))
        plain = isinstance(module, (nn.Conv2d, nn.Linear)) and type(module).__name__ in ("Conv2d", "Linear")
        if plain or any(_of(WEIGHTS, module)):
            layers[path] = handed_weights(module)
    if problems:
        raise LoweringError(f"{type(model).__name__} cannot be taken as it is quantised", grouped(problems))
    return activations, layers


def _of(kinds: list[Kind], module: nn.Module) -> Iterator[Kind]:
    return (kind for kind in kinds if kind.holds(module))


class _CaughtError(Exception):
    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = weight


class _Catch(TorchFunctionMode):
    """Stops at the first convolution or matrix product, with the weights that it was given."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func in (F.conv2d, torch.conv2d, F.linear):
            raise _CaughtError(args[1] if len(args) > 1 else kwargs["weight"])
        return func(*args, **(kwargs or {}))


def handed_weights(module: nn.Module) -> Weights:
    """The weights that a layer's own forward quantises and hands on, in float64, and their grid."""
    alone = copy.deepcopy(module).double().eval()
    weight = alone.weight
    assert isinstance(weight, torch.Tensor)
    channels = weight.shape[1] * int(getattr(alone, "groups", 1))
    image = torch.zeros(1, channels, *weight.shape[2:], dtype=torch.float64)
    try:
        with torch.no_grad(), _Catch():
            alone(image)
    except _CaughtError as caught:
        values = caught.weight.detach().clone()
        step, largest = grid_of(values)
        return Weights(values, step, largest)
    raise AssertionError("a layer with weights multiplies by them")


def grid_of(values: torch.Tensor) -> tuple[float | None, int]:
    """(step, largest magnitude) of the coarsest grid on which float64 weights lie; (None, 0) if they lie on none.

    Example:
        >>> grid_of(torch.tensor([0.75, -0.5, 0.0, 0.25], dtype=torch.float64))
        (0.25, 3)
    """
    if len(torch.unique(values.reshape(-1)[:SAMPLE])) > 2 * GRID_MAX + 1:
        return None, 0
    marks = torch.unique(values.abs())
    top = float(marks[-1]) if marks.numel() else 0.0
    if top == 0:
        return 1.0, 1
    marks = marks / top
    apart = torch.cat([marks.new_ones(1, dtype=torch.bool), marks.diff() > SCALE_TOLERANCE])
    marks = marks[apart]  # the same level, but for rounding in the last bit
    if len(marks) > GRID_MAX + 1:
        return None, 0
    for largest in range(1, GRID_MAX + 1):
        scaled = marks * largest
        if bool(((scaled - scaled.round()).abs() <= SCALE_TOLERANCE * largest).all()):
            return top / largest, largest
    return None, 0
