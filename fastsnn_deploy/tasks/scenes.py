"""Images with what a person drew on them, all in memory: boxes, or a class for every pixel.

Images stay integers, which is what the chip receives. `tasks.sources` reads them from files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.training.images import Images

Split = Literal["train", "test"]

Truth = Tensor | Sequence[Any]
"""What is right for images: class numbers or masks, integers [n, ...]; or `Boxes`, one entry an image."""

IGNORED = 255
"""Class of pixels that do not count, in every mask of this program, as in VOC."""


@dataclass(frozen=True)
class Boxes:
    """Boxes of one image. corners: float32 [n, 4], left, top, right, bottom in pixels; classes: int64 [n].

    scores: float32 [n], from 0 to 1; ones for boxes that a person drew.
    """

    corners: Tensor
    classes: Tensor
    scores: Tensor

    def scaled(self, across: float, down: float) -> Boxes:
        """The same boxes on an image of another size."""
        return replace(self, corners=self.corners * torch.tensor([across, down, across, down]))


def drawn_boxes(corners: npt.ArrayLike, classes: npt.ArrayLike) -> Boxes:
    """Boxes from a person's numbers, in the dtypes of `Boxes`."""
    kinds = torch.as_tensor(np.asarray(classes, dtype=np.int64))
    placed = torch.as_tensor(np.asarray(corners, dtype=np.float32).reshape(len(kinds), 4))
    return Boxes(placed, kinds, torch.ones(len(kinds)))


@dataclass(frozen=True)
class Scenes:
    """Images of one size with the right answers.

    levels: uint8 [N, C, H, W]; a level times `step` is the raw value, `highest` the top level. classes: their names.
    truth: of each image its `Boxes`; or masks, uint8 [N, H, W], IGNORED where a pixel does not count; or class numbers,
    int64 [N]. notes: what the user should know.
    """

    name: str
    levels: Tensor
    classes: tuple[str, ...]
    truth: Truth
    notes: tuple[str, ...] = ()
    step: float = 1 / 255
    highest: int = 255

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        _, channels, height, width = self.levels.shape
        return channels, height, width

    def answers(self, index: Tensor) -> Truth:
        """The truth of chosen images, int64 [n]."""
        return self.truth[index] if isinstance(self.truth, Tensor) else [self.truth[i] for i in index.tolist()]

    def first(self, count: int | None) -> Scenes:
        """The first images; all for None. Raises InputError if there are fewer."""
        if count is not None and count > len(self.levels):
            raise InputError(f"data '{self.name}' has {len(self.levels)} images, {count} were asked for")
        return replace(self, levels=self.levels[:count], truth=self.truth[:count])

    def images(self) -> Images:
        """For what needs images alone: the label of each is its number."""
        count, sums = self.levels.numel() // self.shape[0], torch.zeros(2, self.shape[0], dtype=torch.float64)
        for part in torch.split(self.levels, 32):  # as floats, all of them would fill the memory
            pixels = part.double()
            sums += torch.stack((pixels.sum((0, 2, 3)), pixels.square().sum((0, 2, 3))))
        mean, square = sums / count
        std = (square - mean.square()).clamp(min=1).sqrt()  # of at least one level
        means, stds = ((value * self.step).tolist() for value in (mean, std))
        numbers = torch.arange(len(self.levels))
        return Images(
            self.name, self.levels, numbers, len(numbers), tuple(means), tuple(stds), self.step, self.highest
        )  # fmt: skip
