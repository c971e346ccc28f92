"""Where images enter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, overload

import numpy as np

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph.arithmetic import Int64, per_channel
from fastsnn_deploy.graph.encoded import Encoded
from fastsnn_deploy.graph.images import levels_of
from fastsnn_deploy.graph.node import Node, Signal, register
from fastsnn_deploy.graph.ranges import Range, entered
from fastsnn_deploy.graph.spike_trains import SpikeTrains, require_counting


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Input(Node):
    """Where images enter, as signed integers: level - offset.

    step: real value of one level of the raw image (1/255 for 8-bit pixels in [0, 1]).
    low, high: least and greatest level. offset: int64 [C], subtracted from the level, so that zero padding of the
    first convolution is padding with the mean. scale: real value of one emitted unit inside the network.
    """

    emits: ClassVar[Signal] = "spikes"
    layer: ClassVar[bool] = True
    spiking: ClassVar[bool] = True
    arity: ClassVar[int | None] = 0
    array_dtypes: ClassVar[dict[str, type]] = {"offset": np.int64}

    step: float
    low: int
    high: int
    offset: Int64
    scale: float

    @overload
    def encode(self, images: SpikeTrains) -> SpikeTrains: ...
    @overload
    def encode(self, images: Any) -> Encoded: ...
    def encode(self, images: Any) -> Encoded | SpikeTrains:
        """What the input emits for raw images.

        Args:
            images: raw images as `images.levels_of` takes them, NumPy or torch, a batch or one; or Encoded or
                SpikeTrains, which are checked and handed back.

        Raises:
            InputError: a wrong shape or channel order, NaN, values outside the grid, images that seem normalised.
        """
        if isinstance(images, Encoded):
            return self._in_range(self.of_my_shape(images))
        if isinstance(images, SpikeTrains):
            require_counting(self)
            self._in_range(self.of_my_shape(images.total()))
            return images
        where = f"input '{self.name}'"
        level = levels_of(images, shape=self.shape, step=self.step, low=self.low, high=self.high, name=where)
        return Encoded(level - per_channel(self.offset, len(self.shape)))

    def of_my_shape(self, encoded: Encoded) -> Encoded:
        """What is encoded already. Raises InputError unless it is integers [N, *shape]."""
        if encoded.shape[1:] != self.shape or encoded.dtype.kind not in "iu":
            raise InputError(
                f"encoded images are {encoded.dtype} {encoded.shape}, input '{self.name}' needs integers "
                f"(N, {', '.join(map(str, self.shape))})"
            )
        return encoded

    def _in_range(self, encoded: Encoded) -> Encoded:
        low, high = (per_channel(level - self.offset, len(self.shape)) for level in (self.low, self.high))
        if ((encoded < low) | (encoded > high)).any():
            raise InputError(
                f"encoded images span [{encoded.min()}, {encoded.max()}], outside what input '{self.name}' emits, "
                f"[{low.min()}, {high.max()}]. Encode the images with this network"
            )
        return encoded

    def output_shape(self, *sources: tuple[int, ...]) -> tuple[int, ...]:
        return self.shape

    def value(self, *inputs: Int64) -> Int64:
        raise TypeError("an input has the value of the image")

    def range(self, sources: list[Range], gain: Fraction) -> Range:
        low, high = (entered(value - self.offset, gain) for value in (self.low, self.high))
        return Range(np.minimum(low, 0), np.maximum(high, 0))

    def problems(self, sources: list[Node]) -> Iterator[str]:
        if not (np.isfinite([self.step, self.scale]).all() and self.step > 0 and self.scale > 0):
            yield f"step {self.step} and scale {self.scale} must be positive and finite"
        if self.low >= self.high:
            yield f"levels [{self.low}, {self.high}] are empty"
