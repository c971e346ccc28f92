"""Fully connected synapse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph.arithmetic import IntArray, exact_matmul
from fastsnn_deploy.graph.node import register
from fastsnn_deploy.graph.synapses.base import Bounds, Synapse, blocks, mantissa_sums, same_everywhere


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(Synapse):
    """weight: int8 [O, I]; source (I,), synaptic input (O,). A feature map is flattened first (C, H, W order)."""

    def output_shape(self, *sources: tuple[int, ...]) -> tuple[int, ...]:
        (source,) = sources
        if self.weight.ndim != 2:
            raise ValueError(f"weight must be [O, I], got {self.weight.shape}")
        if source != (self.weight.shape[1],):
            raise ValueError(f"expects a source of shape ({self.weight.shape[1]},), got {source}")
        return (self.weight.shape[0],)

    def apply(self, spikes: IntArray) -> npt.NDArray[np.int64]:
        return exact_matmul(spikes, self.effective_weight.T)

    def fan_out(self, source: tuple[int, ...]) -> npt.NDArray[np.int64]:
        return np.full(source, self.weight.shape[0], dtype=np.int64)

    def input_bounds(self, low: IntArray, high: IntArray) -> Bounds:
        if same_everywhere(low, high):
            negative, positive = mantissa_sums(self.weight)
            least, most = negative * high[0] + positive * low[0], negative * low[0] + positive * high[0]
        else:
            ends = np.stack([low, high], axis=1)
            parts = [
                _product(np.maximum(self.weight[rows], 0), ends)
                + _product(np.minimum(self.weight[rows], 0), ends[:, ::-1])
                for rows in blocks(self.weight)
            ]
            least, most = np.concatenate(parts).T
        return least << self.exponent, most << self.exponent

    def as_primitive(self) -> Synapse:
        return self


def _product(weight: npt.NDArray[np.int8], ends: IntArray) -> npt.NDArray[np.int64]:
    """Also of bounds that only a wrong file has."""
    try:
        return exact_matmul(weight, ends)
    except OverflowError:
        return np.asarray(weight.astype(np.int64) @ ends)
