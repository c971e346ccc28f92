"""What a run of a spiking graph gives, whichever simulator or backend made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Run:
    """Time series of a batch of N images over T steps; step 0 is the step in which the input emits.

    spikes: int32 [T, N, *shape] of every input, population and max pool.
    counts: net spikes so far, after each step, of every population and max pool: int32 [T, N, *shape].
    potentials: after each step's reset, of every population and readout: int32 [T, N, *shape].
    settle_steps: int64 [N], steps after which nothing changes any more in the whole network.
    A backend that cannot see counts or potentials leaves those mappings empty.
    """

    steps: int
    spikes: Mapping[str, Int32]
    counts: Mapping[str, Int32]
    potentials: Mapping[str, Int32]
    settle_steps: Int64

    def final(self, name: str) -> Int32:
        """Settled value of a node, int32 [N, *shape]: net count, or the potential of a readout."""
        series = self.counts[name] if name in self.counts else self.potentials[name]
        return np.asarray(series[-1])
