"""The layers of a sigma-delta network as real-valued ReLU layers, in counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import Population, Readout
from fastsnn_deploy.graph.synapses.conv2d import correlate
from fastsnn_deploy.passes.chain import Pair, Scalar, Stage, Unit

Float64 = npt.NDArray[np.float64]

CHUNK_VALUES = 2**24
"""Window elements of a convolution that are held at a time, 128 MiB."""


@dataclass(frozen=True, eq=False)
class RealStage:
    """A stage of the chain with the weights of all its links in one layer, as real numbers.

    weight: float64 [O, I / groups, kh, kw] or [O, I], counts (or for the readout synaptic input) for one count of the
    source; 1 for a relay. bias: float64 [O], in the same unit. padding, dilation, groups: of a convolution.
    """

    stage: Stage
    units: tuple[Unit, ...]
    weight: Float64
    bias: Float64
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def source(self) -> tuple[int, ...]:
        """Shape of the layer before."""
        return self.stage.before.shape

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the layer."""
        return self.stage.after.shape

    @property
    def stride(self) -> Pair:
        """Of a convolution."""
        return self.stage.stride or (1, 1)

    @property
    def node(self) -> Population | Readout:
        """The first of the units."""
        node = self.units[0].node
        assert isinstance(node, (Population, Readout))
        return node

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
            part, geometry = slice(start, start + size), (self.stride, self.padding, self.dilation, self.groups)
            result[part] = correlate(x[part], weight, *geometry, np.matmul)
        return result

    def real(self, x: Float64) -> Float64:
        """The real-valued layer: ReLU of weights and bias, without rounding and without a ceiling."""
        value = self.apply(self.weight, x) + self.along(self.bias)
        return value if self.is_readout else np.maximum(value, 0.0)

    def along(self, rows: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """One number for each row, [O], with axes so that it broadcasts over [N, *shape]."""
        return rows.reshape(-1, *(1,) * (len(self.shape) - 1))
