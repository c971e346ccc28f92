"""Images that stay where they are until they are asked for: what stands in for a tensor [N, C, H, W]."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastsnn_deploy.graph.images import PIXEL, levels_of
from fastsnn_deploy.graph.preprocessing import Preprocessing

Index = slice | Tensor
Int64 = npt.NDArray[np.int64]

CHECKED = 1000
"""Images whose values are looked at at a time."""


class Stored(ABC):
    """Reads what an index asks for, and keeps nothing. chosen: int64 [N], which of all images these are."""

    dtype: torch.dtype = torch.uint8
    shape: tuple[int, ...]
    """(N, C, H, W)"""
    chosen: Int64

    def dim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Index) -> Tensor:
        """index: a slice, or integers int64 [n]. Returns [n, C, H, W] on the CPU."""
        return self._read(self._numbers(index))

    def numpy(self) -> npt.NDArray[Any]:
        """All images: needs the memory that this class is there to avoid."""
        return np.asarray(self[:].numpy())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self.numpy() if dtype is None else self.numpy().astype(dtype)

    def _numbers(self, index: Index) -> Int64:
        return np.asarray(self.chosen[index if isinstance(index, slice) else index.cpu().numpy()])

    @abstractmethod
    def _read(self, numbers: Int64) -> Tensor:
        """Images by their numbers among all."""

    @abstractmethod
    def select(self, index: Index) -> Stored:
        """Some of them, unread."""

    @abstractmethod
    def preprocessed(self, wanted: Preprocessing) -> Stored:
        """The same ones with another preprocessing, unread."""

    @abstractmethod
    def check(self) -> None:
        """Raise InputError naming every image that is known, without decoding it, to be of no use."""


class RealValues(Stored):
    """Real values on a grid of integers. Rounded when they are read: once, whatever grid a network has.

    values: of some images by their numbers, [n, C, H, W]: floats in units of the data, or uint8 pixels. name: of the
    data, for messages. at_hand: the values are in memory, and `check` looks at them all.
    """

    def __init__(
        self, values: Callable[[Int64], npt.NDArray[Any]], chosen: Int64, shape: tuple[int, ...], name: str,
        step: float = PIXEL, levels: tuple[int, int] = (0, 255), at_hand: bool = True,
    ) -> None:  # fmt: skip
        self.values, self.chosen, self.name = values, chosen, name
        self.step, self.levels, self.at_hand = step, levels, at_hand
        self.shape = (len(chosen), *shape)
        self.dtype = torch.uint8 if levels[0] >= 0 and levels[1] <= 255 else torch.int32

    def _read(self, numbers: Int64) -> Tensor:
        low, high = self.levels
        values = self.values(numbers)
        if values.dtype == np.uint8 and not (self.levels == (0, 255) and math.isclose(self.step, PIXEL)):
            values = values / 255
        found = levels_of(values, shape=self.shape[1:], step=self.step, low=low, high=high, name=f"'{self.name}'")
        return torch.from_numpy(found).to(self.dtype)

    def check(self) -> None:
        if self.at_hand:
            for start in range(0, len(self), CHECKED):
                self._read(self.chosen[start : start + CHECKED])

    def select(self, index: Index) -> RealValues:
        return self._with(self._numbers(index), self.step, self.levels)

    def preprocessed(self, wanted: Preprocessing) -> RealValues:
        return self._with(self.chosen, wanted.step, wanted.levels)

    def _with(self, chosen: Int64, step: float, levels: tuple[int, int]) -> RealValues:
        return RealValues(self.values, chosen, self.shape[1:], self.name, step, levels, self.at_hand)
