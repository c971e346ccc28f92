"""Averaged weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Averaged:
    """The exponential moving average of a model's parameters and running statistics, all by name of the state_dict.

    Whole numbers and flags, such as the offset of the input, are not averaged. decay: share of the average that a step
    keeps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.values = {name: value.clone() for name, value in self._present().items()}

    def _present(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.model.state_dict().items() if value.is_floating_point()}

    def update(self) -> None:
        """Take in the model as it is now."""
        with torch.no_grad():
            torch._foreach_lerp_(list(self.values.values()), list(self._present().values()), 1 - self.decay)

    def load(self, values: dict[str, Tensor]) -> None:
        """Go on from values that were kept. Raises KeyError or RuntimeError if they are of another model."""
        for name, value in self.values.items():
            value.copy_(values[name])

    def adopt(self) -> None:
        """Put the average into the model."""
        self.model.load_state_dict(self.values, strict=False)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the model is the average."""
        before = {name: value.clone() for name, value in self._present().items()}
        self.adopt()
        try:
            yield
        finally:
            self.model.load_state_dict(before, strict=False)
