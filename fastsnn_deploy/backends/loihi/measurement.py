"""What Intel's profiler measures during a run, under the profiler's own names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

POWER_COLUMNS = (
    "vdd_power",
    "vddm_power",
    "vddio_power",
    "total_power",
    "static_vdd_power",
    "static_vddm_power",
    "static_vddio_power",
    "static_total_power",
)
"""Of Loihi2Power, watts: neuro-cores, memory, input and output, all; `static_` is the same supply at rest."""

ACTIVITY_COLUMNS = ("chip_idx", "core_idx", "syn_ops", "dendrite_updates", "axon_out", "spikes_in")
"""Of Loihi2Activity, one value for each core, summed over the run."""

MEMORY_COLUMNS = ("chip_idx", "core_idx", "total_mpds")
"""Of Loihi2Memory, one value for each core: used share of its memory."""


@dataclass(frozen=True)
class Measurement:
    """A measured run of `steps` steps. A value that the installed profiler does not give is None, or absent.

    power: mean over the run, watts, by POWER_COLUMNS. avg_time_per_step: microseconds. activity, memory: a list with
    one value for each core, by ACTIVITY_COLUMNS and MEMORY_COLUMNS. Power is that of all chips of the board, idle
    ones included.
    """

    steps: int
    power: Mapping[str, float | None]
    avg_time_per_step: float | None
    activity: Mapping[str, list[float]]
    memory: Mapping[str, list[float]]

    @property
    def seconds(self) -> float | None:
        """Time of the run."""
        return None if self.avg_time_per_step is None else self.steps * self.avg_time_per_step * 1e-6

    @property
    def total_energy(self) -> float | None:
        """Joules of the run, static power included."""
        return _product(self.power.get("total_power"), self.seconds)

    @property
    def dynamic_energy(self) -> float | None:
        """Joules of the run above static power."""
        total, static = self.power.get("total_power"), self.power.get("static_total_power")
        return None if total is None or static is None else _product(total - static, self.seconds)

    def total(self, column: str) -> float | None:
        """Sum over all cores of a column of Loihi2Activity."""
        return sum(self.activity[column]) if column in self.activity else None

    def to_dict(self) -> dict[str, Any]:
        """All measured and derived values as JSON values."""
        return {
            "steps": self.steps,
            **{column: self.power.get(column) for column in POWER_COLUMNS},
            "avg_time_per_step": self.avg_time_per_step,
            "seconds": self.seconds,
            "total_energy": self.total_energy,
            "dynamic_energy": self.dynamic_energy,
            **{column: self.total(column) for column in ACTIVITY_COLUMNS[2:]},
            "cores": {"activity": dict(self.activity), "memory": dict(self.memory)},
        }


def _product(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a * b
