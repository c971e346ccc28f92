"""Routing of spikes: no state, no delay of its own."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np

from fastsnn_deploy.graph.arithmetic import Int64
from fastsnn_deploy.graph.node import Node, Signal, register
from fastsnn_deploy.graph.ranges import Range


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Flatten(Node):
    """(C, H, W) -> (C * H * W,) in that order. Routing only: no delay, no state."""

    emits: ClassVar[Signal] = "spikes"
    reads: ClassVar[Signal] = "spikes"
    arity: ClassVar[int | None] = 1

    def output_shape(self, *sources: tuple[int, ...]) -> tuple[int, ...]:
        return (int(np.prod(sources[0], dtype=np.int64)),)

    def value(self, *inputs: Int64) -> Int64:
        return inputs[0].reshape(len(inputs[0]), *self.shape)

    def range(self, sources: list[Range], gain: Fraction) -> Range:
        positions = self.channels // len(sources[0].low)
        return Range(sources[0].low.repeat(positions), sources[0].high.repeat(positions))


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Concat(Node):
    """Spike sources side by side on the channel axis. delays: extra steps for each input, to align their waves."""

    emits: ClassVar[Signal] = "spikes"
    reads: ClassVar[Signal] = "spikes"

    delays: tuple[int, ...]

    @property
    def edge_delays(self) -> tuple[int, ...]:
        return self.delays

    def output_shape(self, *sources: tuple[int, ...]) -> tuple[int, ...]:
        if len(self.delays) != len(self.inputs):
            raise ValueError(f"has {len(self.delays)} delays for {len(self.inputs)} inputs")
        if len({shape[1:] for shape in sources}) > 1:
            raise ValueError(f"inputs differ in height or width: {list(sources)}")
        return (sum(shape[0] for shape in sources), *sources[0][1:])

    def value(self, *inputs: Int64) -> Int64:
        return np.concatenate(inputs, axis=1)

    def range(self, sources: list[Range], gain: Fraction) -> Range:
        low = np.concatenate([source.low for source in sources])
        return Range(low, np.concatenate([source.high for source in sources]))
