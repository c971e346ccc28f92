"""Fully connected synapse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph.arithmetic import IntArray, exact_matmul
from fastsnn_deploy.graph.node import register
from fastsnn_deploy.graph.synapses.base import Bounds, Synapse


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
        positive, negative = np.maximum(self.effective_weight, 0), np.minimum(self.effective_weight, 0)
        least, most = positive @ low + negative @ high, positive @ high + negative @ low
        return np.asarray(least, dtype=np.int64), np.asarray(most, dtype=np.int64)

    def as_primitive(self) -> Synapse:
        return self
