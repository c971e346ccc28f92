"""Rates of images at which two energies of an image are equal."""

from __future__ import annotations

from collections.abc import Iterator

from fastsnn_deploy.analysis.energies import AnnEnergy, Band, Boundary, BreakEven
from fastsnn_deploy.analysis.units import number

Rates = tuple[float | None, float | None, float | None]


def break_even(boundaries: tuple[Boundary, ...], rival: AnnEnergy | None, fastest: float | None) -> Iterator[BreakEven]:
    """For each boundary with static power. fastest: images a second that the chip can take, if that is known."""
    dynamic = boundaries[0].energy
    assert dynamic is not None
    for boundary in boundaries[1:]:
        if boundary.power is None or not dynamic.value:
            continue
        name = boundary.name
        equal = f"static power of {name} takes as much as everything dynamic"
        yield _at(
            "static equals dynamic", name, _rates(boundary.power, dynamic), fastest, equal, "fewer", "static energy"
        )
        if rival is None:
            continue
        theirs, ratio = (
            rival.total,
            number(dynamic.value / rival.total.value) if rival.total.value else "infinitely many",
        )
        saved = Band(theirs.low - dynamic.high, theirs.value - dynamic.value, theirs.high - dynamic.low)
        rates = _rates(boundary.power, saved)
        if rates[1] is None:
            text = f"8-bit MACs and their memory take less at every rate: dynamic energy alone is {ratio} times theirs"
            yield BreakEven("chip beats int8", name, *rates, None, text)
        else:
            equal = f"the chip with {name} takes as much as 8-bit MACs and their memory"
            yield _at("chip beats int8", name, rates, fastest, equal, "more", "the chip")


def _rates(power: Band, energy: Band) -> Rates:
    """Images a second at which milliwatts take so many picojoules an image; None where no rate does."""
    pairs = ((power.low, energy.high), (power.value, energy.value), (power.high, energy.low))
    low, value, high = (1e9 * milliwatts / picojoules if picojoules > 0 else None for milliwatts, picojoules in pairs)
    return low, value, high


def _at(
    what: str, boundary: str, rates: Rates, fastest: float | None, equal: str, beyond: str, favoured: str
) -> BreakEven:
    low, value, high = rates
    assert value is not None
    ends = f"{'no rate' if low is None else number(low)} to {'no rate' if high is None else number(high)}"
    limit = "" if fastest is None else f"; the chip takes at most {number(fastest)}"
    text = f"{equal} at {number(value)} images a second ({ends}), {beyond} favour {favoured}{limit}"
    return BreakEven(what, boundary, low, value, high, None if fastest is None else value <= fastest, text)
