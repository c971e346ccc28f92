"""Numbers as people read them."""

from __future__ import annotations

UNITS = ((1e12, "J"), (1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ"), (1.0, "pJ"))


def unit_of(pj: float) -> tuple[float, str]:
    """Picojoules of the largest unit that is not greater, and its name."""
    return next(((scale, unit) for scale, unit in UNITS if abs(pj) >= scale), UNITS[-1])


def energy(pj: float) -> str:
    """1,234,567 pJ as "1.23 µJ"."""
    scale, unit = unit_of(pj)
    return f"{number(pj / scale)} {unit}"


def number(value: float) -> str:
    """Three digits: 17,412 and 0.00123, no powers of ten but for the very small."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
