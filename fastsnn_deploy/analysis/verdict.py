"""Whether the spiking network takes less than the one without spikes, in plain sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastsnn_deploy.analysis.units import energy as shown

if TYPE_CHECKING:
    from fastsnn_deploy.analysis.result import Profile


def verdicts(profile: Profile) -> tuple[str, ...]:
    """One for each rival: dynamic energy on the chip, then everything inside the used chips, against its MACs."""
    chip = profile.energy
    lines = []
    for rival in profile.ann_energy:
        held = "MACs and memory" if rival.memory else "MACs alone"
        theirs = f"{shown(rival.total.value)} of {held} ({rival.name}: {rival.bits})"
        for boundary in (chip["dynamic"], chip["used chips"]):
            if boundary.energy is None or not rival.total.value:
                continue
            ours, ratio = boundary.energy, boundary.energy.value / rival.total.value
            sure = "" if ours.low > rival.total.high or ours.high < rival.total.low else "; their bands overlap"
            name = "dynamic energy" if boundary.name == "dynamic" else "energy with the used chips"
            result = (
                f"loses, {ratio:,.3g} times" if ratio > 1 else f"wins, {1 / max(ratio, 1e-300):,.3g} times less than"
            )
            lines.append(f"the spiking network {result} {theirs}: {name} {shown(ours.value)}{sure}")
    return tuple(lines)
