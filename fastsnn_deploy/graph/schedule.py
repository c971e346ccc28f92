"""How image and bias are spread over time, and when neurons stop."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph.arithmetic import IntArray

MOST_STEPS = 1_000_000
"""Of one run: a thousand times what windows and settling take; more is a slip that would go on for days."""

MOST_WINDOW = 2**16
"""Greatest window, and greatest number of steps in its place: images of 16 bits as unary spikes."""


@dataclass(frozen=True)
class Injection:
    """A total that enters in parts of one `window`-th, one a step, for `steps` steps (Bresenham split)."""

    window: int
    steps: int

    def share(self, total: IntArray, step: int) -> npt.NDArray[np.int64]:
        """The part of `total` (any integers) that enters in `step`, counted from the first; int64 like it.

        Parts differ by at most one and add up to floor(total * steps / window); outside 0 <= step < steps they are 0. A
        part that is the whole may be the array itself.
        """
        whole = np.asarray(total, dtype=np.int64)
        if not 0 <= step < self.steps:
            return np.zeros_like(whole)
        if self.window == 1:
            return whole
        return whole * (step + 1) // self.window - whole * step // self.window


@dataclass(frozen=True)
class Schedule:
    """How input and bias are spread over time. It changes spikes and steps, never a settled count.

    Attributes:
        window: T0, the injection window in steps, the same for the whole network (2**bits - 1).
        input: "once" (one graded spike in step 0), "spread" (T0 even parts, one a step) or "constant" (a constant
            current: the whole image in every step, for neurons whose thresholds are T0 times as high;
            `passes.window.for_window` makes such networks).
        bias: "wave" (all in the step in which the first synaptic input can arrive), "spread" (T0 even parts from that
            step on), or "initial" (in step 0).
        stop: "settled" (populations fire until nothing changes any more) or "window" (each fires only for `duration`
            steps from its depth on, as published for Fast-SNN, QFFS and QCFS: such a network need not reach the integer
            network's answer).
        steps: with stop "window" and nothing that enters at once, a number of steps other than the window: image and
            bias go on entering at the same rate, as QCFS does for any T. None: the window.
        start_delay: steps that every population waits before it may fire, from the step in which the last of its inputs
            can begin to arrive: what comes in the meantime is summed first, so that fewer spikes are taken back.
    """

    window: int = 1
    input: Literal["once", "spread", "constant"] = "once"
    bias: Literal["wave", "spread", "initial"] = "wave"
    stop: Literal["settled", "window"] = "settled"
    steps: int | None = None
    start_delay: int = 0

    @property
    def duration(self) -> int:
        """Steps in which image and bias enter where they are spread, and in which neurons fire with stop "window"."""
        return self.window if self.steps is None else self.steps

    @property
    def input_injection(self) -> Injection:
        """Parts of the image, from step 0 on."""
        return self._injection(self.input)

    @property
    def bias_injection(self) -> Injection:
        """Parts of each bias, from `SpikingGraph.bias_start` on."""
        return self._injection(self.bias)

    @property
    def repeats(self) -> int:
        """How many times the whole image enters in a window."""
        return self.window if self.input == "constant" else 1

    @property
    def gain(self) -> Fraction:
        """What enters in all, as a share of the total of an image and of a bias: 1 but for another number of steps."""
        return Fraction(self.duration, self.window)

    def _injection(self, how: str) -> Injection:
        if how == "constant":
            return Injection(1, self.duration)
        return Injection(self.window, self.duration) if how == "spread" else Injection(1, 1)
