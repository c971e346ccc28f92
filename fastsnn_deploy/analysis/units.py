"""Energies in a unit that people read."""

from __future__ import annotations

UNITS = ((1e12, "J"), (1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ"), (1.0, "pJ"))


def unit_of(pj: float) -> tuple[float, str]:
    """Picojoules of the largest unit that is not greater, and its name."""
    return next(((scale, unit) for scale, unit in UNITS if abs(pj) >= scale), UNITS[-1])


def energy(pj: float) -> str:
    """1,234,567 pJ as "1.23 µJ"."""
    scale, unit = unit_of(pj)
    return f"{pj / scale:,.3g} {unit}"
