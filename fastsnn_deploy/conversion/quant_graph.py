"""The quantised graph: still an ANN, but with integer weights on explicit scales, and no framework left in it.

Values are real numbers. A convolution computes `weight_scale * (weight conv x) + bias`; an activation maps x to
`step * clip(floor(x / step + 1/2), low, high)`. Lowering turns this graph into the integer spiking graph.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Pair = tuple[int, int]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class QuantNode:
    """name: unique. inputs: names it reads. shape: output without batch. module, line: origin in user code."""

    name: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    module: str = ""
    line: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class QuantImage(QuantNode):
    """Raw image x -> (clip(floor(x / step + 1/2), low, high) - offset) * scale; offset int64 [C]."""

    step: float
    low: int
    high: int
    offset: npt.NDArray[np.int64]
    scale: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Convolution(QuantNode):
    """weight int8 [O, I / groups, kh, kw]; weight_scale, bias float64 [O]; zero padding."""

    weight: npt.NDArray[np.int8]
    weight_scale: Float64
    bias: Float64
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int


@dataclass(frozen=True, eq=False, kw_only=True)
class TransposedConvolution(Convolution):
    """The same fields of a transposed convolution; weight with output channels first."""

    output_padding: Pair


@dataclass(frozen=True, eq=False, kw_only=True)
class Dense(QuantNode):
    """weight int8 [O, I]; weight_scale, bias float64 [O]."""

    weight: npt.NDArray[np.int8]
    weight_scale: Float64
    bias: Float64


@dataclass(frozen=True, eq=False, kw_only=True)
class Normalisation(QuantNode):
    """Batch norm in inference form, y = gain * x + shift; both float64 [C]."""

    gain: Float64
    shift: Float64


@dataclass(frozen=True, eq=False, kw_only=True)
class Activation(QuantNode):
    """Quantiser with a positive step and integers low .. high: floor(x / step + 1/2 + shift).

    even: an exact tie goes to the even integer.
    """

    step: float
    low: int
    high: int
    shift: float = 0.0
    even: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Addition(QuantNode):
    """Sum of two values of one shape."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Concatenation(QuantNode):
    """Values side by side on the channel axis."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Flattening(QuantNode):
    """(C, H, W) -> (C * H * W,)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class MaxPooling(QuantNode):
    """Maximum over windows; positions outside the map never win."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    ceil_mode: bool


@dataclass(frozen=True, eq=False, kw_only=True)
class AveragePooling(QuantNode):
    """Sum over windows, zero outside, over a constant divisor."""

    kernel: Pair
    stride: Pair
    padding: Pair
    divisor: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Upsampling(QuantNode):
    """Nearest neighbour by whole factors."""

    factor: Pair


@dataclass(frozen=True)
class Taps:
    """What most places of an axis read: real taps of a convolution with its stride and padding."""

    taps: tuple[float, ...]
    stride: int
    padding: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Resampling(QuantNode):
    """rows @ x @ columns.T on every channel, float64 [H', H] and [W', W].

    regular: what most rows and columns are, of a transposed convolution if `up`; None if all differ.
    """

    rows: Float64
    columns: Float64
    regular: tuple[Taps | None, Taps | None]
    up: bool


@dataclass(frozen=True, eq=False, kw_only=True)
class Subsampling(QuantNode):
    """Every stride-th row and column."""

    stride: Pair


@dataclass(frozen=True, eq=False, kw_only=True)
class SpacePadding(QuantNode):
    """Rows and columns of zeros; negative numbers cut rows and columns off."""

    left: int
    right: int
    top: int
    bottom: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Selection(QuantNode):
    """Channels of a map, or elements of a vector, by number; -1 is zeros."""

    channels: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Scaling(QuantNode):
    """factor * x, factor > 0."""

    factor: float


@dataclass(frozen=True, eq=False, kw_only=True)
class ChannelPadding(QuantNode):
    """Zero channels before and after."""

    before: int
    after: int


@dataclass(frozen=True)
class QuantGraph:
    """nodes in topological order; output: name of the node whose value is the answer."""

    nodes: tuple[QuantNode, ...]
    output: str
    metadata: dict[str, str] = field(default_factory=dict)
