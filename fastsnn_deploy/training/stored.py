"""Images that stay where they are until they are asked for: what stands in for a tensor [N, C, H, W]."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph.images import PIXEL, levels_of
from fastsnn_deploy.graph.preprocessing import Preprocessing

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Index = slice | Tensor | npt.NDArray[np.integer]

Int64 = npt.NDArray[np.int64]

CHECKED = 1000
"""Images whose values are looked at at a time."""


class Stored(ABC):
    """Reads what an index asks for, and keeps nothing.

    kind: of the integers. chosen: int64 [N], which of all images these are.
    """

    kind: np.dtype[Any] = np.dtype(np.uint8)
    shape: tuple[int, ...]
    """(N, C, H, W)"""
    chosen: Int64

    def dim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """Of the tensors that an index gives."""
        import torch

        return torch.from_numpy(np.empty(0, dtype=self.kind)).dtype

    def __getitem__(self, index: Index) -> Tensor:
        """index: a slice, or integers int64 [n]. Returns [n, C, H, W] on the CPU."""
        import torch

        return torch.from_numpy(self.array(index))

    def array(self, index: Index) -> npt.NDArray[Any]:
        """What an index gives, without PyTorch."""
        return self._read(self._numbers(index))

    def numpy(self) -> npt.NDArray[Any]:
        """All images: needs the memory that this class is there to avoid."""
        return self.array(slice(None))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self.numpy() if dtype is None else self.numpy().astype(dtype)

    def _numbers(self, index: Index) -> Int64:
        return np.asarray(self.chosen[index if isinstance(index, (slice, np.ndarray)) else index.cpu().numpy()])

    @abstractmethod
    def _read(self, numbers: Int64) -> npt.NDArray[Any]:
        """Images by their numbers among all, [n, C, H, W] of `kind`."""

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
        self.kind = np.dtype(np.uint8 if levels[0] >= 0 and levels[1] <= 255 else np.int32)

    def _read(self, numbers: Int64) -> npt.NDArray[Any]:
        low, high = self.levels
        values = self.values(numbers)
        if values.dtype == np.uint8 and not (self.levels == (0, 255) and math.isclose(self.step, PIXEL)):
            values = values / 255
        found = levels_of(values, shape=self.shape[1:], step=self.step, low=low, high=high, name=f"'{self.name}'")
        return found.astype(self.kind)

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
