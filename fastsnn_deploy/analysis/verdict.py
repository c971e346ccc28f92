"""Whether the spiking network takes less than the one without spikes, in plain sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastsnn_deploy.analysis.energies import AnnEnergy, Boundary
from fastsnn_deploy.analysis.units import energy as shown
from fastsnn_deploy.analysis.units import number

if TYPE_CHECKING:
    from fastsnn_deploy.analysis.result import Profile


def verdicts(profile: Profile) -> tuple[str, ...]:
    """One for each rival: dynamic energy on the chip, then everything inside the used chips, against its MACs."""
    lines = []
    for rival in profile.ann_energy:
        if not rival.total.value:
            continue
        known = (profile.energy[name] for name in ("dynamic", "used chips"))
        compared = [_compared(each, rival) for each in known if each.energy is not None]
        ratio = profile.energy.dynamic.value / rival.total.value
        result = "loses to" if ratio > 1 else "takes less than"
        held = "MACs and memory" if rival.memory else "MACs, without their memory"
        lines.append(
            f"the spiking network {result} the one without spikes at {rival.bits}{' (fp32)' * (rival.name == 'fp32')}, "
            f"{shown(rival.total.value)} of {held}: {', '.join(compared)}"
        )
    return tuple(lines)


def _compared(boundary: Boundary, rival: AnnEnergy) -> str:
    ours, theirs = boundary.energy, rival.total
    assert ours is not None
    apart = ours.low > theirs.high or ours.high < theirs.low
    name = "dynamic" if boundary.name == "dynamic" else f"with {boundary.name}"
    return f"{shown(ours.value)} {name}, {number(ours.value / theirs.value)} times{'' if apart else ' (bands overlap)'}"
