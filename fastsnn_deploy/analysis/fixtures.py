"""How far off the constants of a profile are: measured chips whose operations are known, estimated from these alone.

energy = synaptic operations * e_synaptic_operation + silent updates * e_inactive + firing updates * e_active
         + spikes * e_message
time   = the longest of synaptic operations * t_synaptic_operation, updates * t_update, and a barrier
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastsnn_deploy.analysis.energies import ENDS, Band
from fastsnn_deploy.analysis.hardware import Fixture, Hardware


@dataclass(frozen=True)
class Checked:
    """A fixture with what the constants `keys` give for it, in picojoules or nanoseconds."""

    fixture: Fixture
    estimate: Band
    keys: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """Estimate over measured."""
        return self.estimate.value / self.fixture.measured


def checked(hardware: Hardware) -> tuple[Checked, ...]:
    """Every fixture of a profile.

    Example:
        >>> from fastsnn_deploy.analysis.hardware import load_hardware
        >>> [f"{each.fixture.name}: {each.ratio:.2f}" for each in checked(load_hardware("loihi2"))]
        ['autoencoder, 16 chips: 0.20', 'PilotNet LIF, one chip: 0.05']
    """
    return tuple(_checked(fixture, hardware) for fixture in hardware.fixtures)


def _checked(fixture: Fixture, hardware: Hardware) -> Checked:
    parts = _parts(fixture)
    known = hardware.numbers("value")
    longest = max if fixture.quantity == "time of a step" else sum
    ends = []
    for end in ENDS:
        numbers = hardware.numbers(end)
        sums = [sum(amount * numbers.get(key, 0.0) for key, amount in part.items()) for part in parts]
        ends.append(float(longest(sums)))
    used = tuple(key for part in parts for key, amount in part.items() if amount and key in known)
    return Checked(fixture, Band(*ends), used)


def _parts(fixture: Fixture) -> tuple[Mapping[str, float], ...]:
    """What is added up, or of which the longest counts: how often each constant."""
    firing = min(fixture.spikes, fixture.neuron_updates)
    updates = {"neuron_update_inactive": fixture.neuron_updates - firing, "neuron_update_active": firing}
    operations = {"synaptic_operation": fixture.synaptic_operations}
    if fixture.quantity == "time of a step":
        parts = (operations, updates, {"step_minimum": 1.0})
        return tuple({f"times.{key}": amount for key, amount in part.items()} for part in parts)
    parts = (operations, updates, {"message": fixture.spikes})
    return tuple({f"energies.{key}": amount for key, amount in part.items()} for part in parts)
