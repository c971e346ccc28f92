"""Labelled images on a grid of integers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph.images import PIXEL, levels_of
from fastsnn_deploy.training.image_files import ImageFiles

Split = Literal["train", "test"]


class Grid(Protocol):
    """Integers that stand for real values, as a network's `Input` has them."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def step(self) -> float: ...
    @property
    def low(self) -> int: ...
    @property
    def high(self) -> int: ...


@dataclass(frozen=True)
class Images:
    """levels: uint8 [N, C, H, W]; labels: int64 [N]. A level times `step` is the raw value, `highest` the top level.

    Levels of a data set too large for memory are an `ImageFiles`, which reads what an index asks for.

    mean, std: per channel, of raw values over the training images; what networks are normalised with. 0 and 1 where
    nothing is known. grey: the three channels are equal, because the files hold grey images.
    """

    name: str
    levels: Tensor | ImageFiles
    labels: Tensor
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    step: float = 1 / 255
    highest: int = 255
    grey: bool = False

    @property
    def described(self) -> str:
        """What messages call it."""
        return f"data set '{self.name}'" + (
            ", whose images are grey and have three equal channels" if self.grey else ""
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image."""
        return tuple(self.levels.shape[1:])

    def raw(self, index: Tensor | slice) -> Tensor:
        """Chosen images as float32 in units of the data, [n, C, H, W]."""
        return self.levels[index].float() * self.step

    def for_input(self, target: Grid, index: Tensor | slice = slice(None)) -> npt.NDArray[np.integer]:
        """Chosen images as levels of a network's input. It may have another grid: real values stay what they are.

        Args:
            target: the network's input.
            index: which images.

        Returns:
            [n, C, H, W], uint8 where both have the grid of 8-bit pixels, else int64.

        Raises:
            InputError: the network takes images of another shape, or of a smaller range.
        """
        levels, name = self.levels[index].cpu(), f"the network ({self.described})"

        def checked(images: Tensor) -> npt.NDArray[np.int64]:
            shape, step, low, high = tuple(target.shape), target.step, target.low, target.high
            return levels_of(images, shape=shape, step=step, low=low, high=high, name=name)

        if not math.isclose(target.step, self.step) or target.low > 0 or target.high < self.highest:
            return checked(levels.double() * self.step)
        checked(levels[:1].long())  # of the right shape
        pixels = target.high == 255 and math.isclose(target.step, PIXEL)
        return np.asarray(levels.numpy() if pixels else levels.long().numpy())

    def to(self, device: torch.device) -> Images:
        """The same images with levels and labels in the memory of a device; images in files stay there."""
        levels = self.levels if isinstance(self.levels, ImageFiles) else self.levels.to(device)
        return replace(self, levels=levels, labels=self.labels.to(device))


def apart(images: Images, count: int, seed: int) -> tuple[Images, Images]:
    """(all but `count` images, those `count`), the same ones for one seed.

    Raises InputError if so many cannot be kept apart, or the images are files, which stay in their folders.
    """
    levels = images.levels
    if isinstance(levels, ImageFiles) or count >= len(images.labels):
        raise InputError(
            f"{images.described}: {count} training images cannot be held out: it has {len(images.labels)}"
            + (" image files. Move some to another split" if isinstance(levels, ImageFiles) else "")
        )
    order = torch.randperm(len(images.labels), generator=torch.Generator().manual_seed(seed)).to(images.labels.device)
    chosen = order[count:].sort().values, order[:count].sort().values
    first, second = (replace(images, levels=levels[index], labels=images.labels[index]) for index in chosen)
    return first, second
