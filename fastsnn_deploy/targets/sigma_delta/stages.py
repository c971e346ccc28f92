"""The layers of a sigma-delta network as real-valued ReLU layers, in counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import Population, Readout
from fastsnn_deploy.graph.synapses.conv2d import windows

Float64 = npt.NDArray[np.float64]
Pair = tuple[int, int]
Scalar = TypeVar("Scalar", np.float64, np.int64)

CHUNK_VALUES = 2**24
"""Window elements of a convolution that are held at a time, 128 MiB."""


@dataclass(frozen=True)
class Piece:
    """Rows of a layer that hold the positions `offset + k * stride` of a node's feature map, or a whole vector."""

    rows: slice
    offset: Pair = (0, 0)
    stride: Pair = (1, 1)


@dataclass(frozen=True, eq=False)
class Unit:
    """A population or readout that a stage computes. pieces: together all of its neurons."""

    node: Population | Readout
    pieces: tuple[Piece, ...]

    def read(self, layer: Float64) -> Float64:
        """The unit's values, float64 [N, *node shape], out of those of its layer, [N, *stage shape]."""
        if layer.ndim == 2:
            return layer[:, self.pieces[0].rows].reshape(len(layer), *self.node.shape)
        values = np.empty((len(layer), *self.node.shape))
        for piece in self.pieces:
            (y, x), (down, right) = piece.offset, piece.stride
            values[:, :, y::down, x::right] = layer[:, piece.rows]
        return values

    def largest(self, rows: Float64) -> float:
        """The largest of some numbers, float64 [C] for the rows of the layer, over the unit's rows."""
        return max(float(rows[piece.rows].max(initial=0.0)) for piece in self.pieces)


@dataclass(frozen=True, eq=False)
class Stage:
    """One layer: the units computed in it, and relays of what later layers still read.

    source, shape: of the layer before and of this one. weight: float64 [O, I / groups, kh, kw] or [O, I], counts (or
    for the readout synaptic input) for one count of the source; 1 for a relay. bias: float64 [O], in the same unit.
    stride, padding, dilation, groups: of a convolution.
    """

    units: tuple[Unit, ...]
    source: tuple[int, ...]
    shape: tuple[int, ...]
    weight: Float64
    bias: Float64
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def node(self) -> Population | Readout:
        """The first of the units."""
        return self.units[0].node

    @property
    def name(self) -> str:
        """Names of all units."""
        return "+".join(unit.node.name for unit in self.units)

    @property
    def is_readout(self) -> bool:
        """Whether this is the last stage, which has no ReLU."""
        return isinstance(self.node, Readout)

    @property
    def flatten(self) -> bool:
        """Whether the source is flattened first."""
        return self.weight.ndim == 2 and len(self.source) == 3

    def apply(self, weight: Float64, x: Float64) -> Float64:
        """The layer's linear map with other weights: float64 [N, *source] -> [N, *shape]."""
        if weight.ndim == 2:
            return np.asarray(x.reshape(len(x), -1) @ weight.T)
        result = np.empty((len(x), *self.shape))
        size = max(1, CHUNK_VALUES // (weight[0].size * self.groups * self.shape[1] * self.shape[2]))
        for start in range(0, len(x), size):
            result[start : start + size] = self._convolved(weight, x[start : start + size])
        return result

    def _convolved(self, weight: Float64, x: Float64) -> Float64:
        outputs, per_group, *kernel = weight.shape
        size = (kernel[0], kernel[1])
        view = windows(x, size, self.stride, self.padding, self.dilation)  # type: ignore[arg-type]
        batch, (_, height, width) = len(x), self.shape
        taps = per_group * kernel[0] * kernel[1]
        columns = view.transpose(0, 2, 3, 1, 4, 5).reshape(batch, height * width, self.groups, taps)
        kernels = weight.reshape(self.groups, outputs // self.groups, -1)
        synaptic_input = np.matmul(columns.transpose(0, 2, 1, 3), kernels.transpose(0, 2, 1))
        return np.asarray(synaptic_input.transpose(0, 1, 3, 2).reshape(batch, *self.shape))

    def real(self, x: Float64) -> Float64:
        """The real-valued layer: ReLU of weights and bias, without rounding and without a ceiling."""
        value = self.apply(self.weight, x) + self.along(self.bias)
        return value if self.is_readout else np.maximum(value, 0.0)

    def along(self, rows: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """One number for each row, [O], with axes so that it broadcasts over [N, *shape]."""
        return rows.reshape(-1, *(1,) * (len(self.shape) - 1))
