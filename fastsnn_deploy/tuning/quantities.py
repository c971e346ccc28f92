"""What a budget can bound, in one table: a quantity, its units, and what measures it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from fastsnn_deploy.analysis.energies import BOUNDARIES
from fastsnn_deploy.analysis.mapping.result import Mapping as CoreMapping
from fastsnn_deploy.analysis.result import Profile
from fastsnn_deploy.analysis.units import energy, number
from fastsnn_deploy.tables import percent

STAGES = ("mapping", "profile", "accuracy")
"""What is measured one after the other, the cheapest first: what fails early is not measured further."""

COUNTED = {"": Fraction(1), "k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9)}
WHOLE = {"": Fraction(1)}
TIMES = {"ns": Fraction(1), "us": Fraction(10**3), "µs": Fraction(10**3), "ms": Fraction(10**6), "s": Fraction(10**9)}
ENERGIES = {
    "pJ": Fraction(1), "nJ": Fraction(10**3), "uJ": Fraction(10**6), "µJ": Fraction(10**6), "mJ": Fraction(10**9),
    "J": Fraction(10**12),
}  # fmt: skip


@dataclass(frozen=True)
class Quantity:
    """One number of a network on a chip.

    units: by name, how many of the base unit (nanoseconds, picojoules, 1) each is; "" where none is needed. bound: a
    budget bounds it from above ("most") or from below ("least"). stage: one of `STAGES`. of: the number in what that
    stage gives, None where it is not known. show: the number for people; difference: one between two of them.
    """

    name: str
    about: str
    units: Mapping[str, Fraction]
    bound: Literal["most", "least"]
    stage: str
    of: Callable[[Any], float | None]
    show: Callable[[float], str]
    difference: Callable[[float], str] | None = None

    def better(self, first: float, second: float) -> bool:
        """Whether the first of two numbers is the one to have."""
        return first < second if self.bound == "most" else first > second

    def apart(self, first: float, second: float) -> str:
        """How far two numbers lie apart, for people."""
        return (self.difference or self.show)(abs(first - second))


def _time(nanoseconds: float) -> str:
    scale, unit = next(((s, u) for s, u in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")) if nanoseconds >= s), (1.0, "ns"))
    return f"{number(nanoseconds / scale)} {unit}"


def _latency(which: str) -> Callable[[Profile], float | None]:
    """Of a network with a fixed number of steps all images take the same."""

    def of(profile: Profile) -> float | None:
        if profile.timing is None:
            return None
        bands = profile.timing.latencies
        return bands.get(which, next(iter(bands.values()))).value

    return of


def _energy(boundary: str) -> Callable[[Profile], float | None]:
    def of(profile: Profile) -> float | None:
        found = profile.energy[boundary].energy
        return None if found is None else found.value

    return of


def _steps(profile: Profile) -> float:
    run = profile.evaluation
    return float(run.latency or run.steps or run.mean_settle_steps)


def _mean(key: str) -> Callable[[Profile], float]:
    return lambda profile: profile.counts.total(key) / profile.counts.images


def _throughput(profile: Profile) -> float | None:
    return None if profile.timing is None else profile.timing.images_per_second


def _cores(mapping: CoreMapping) -> float:
    return mapping.cores


def _chips(mapping: CoreMapping) -> float:
    return mapping.chips


_DYNAMIC, _USED_CORES, _USED_CHIPS, _BOARD = BOUNDARIES

QUANTITIES = {
    each.name: each
    for each in (
        Quantity("cores", "cores that the mapping takes", WHOLE, "most", "mapping", _cores, number),
        Quantity("chips", "chips that hold them", WHOLE, "most", "mapping", _chips, number),
        Quantity("steps", "time steps until an answer has settled, mean", WHOLE, "most", "profile", _steps, number),
        Quantity(
            "latency", "least time until an answer has settled, mean", TIMES, "most", "profile", _latency("mean"), _time
        ),
        Quantity("latency.p99", "of all but 1 % of the images", TIMES, "most", "profile", _latency("p99"), _time),
        Quantity("latency.max", "of the slowest image", TIMES, "most", "profile", _latency("max"), _time),
        Quantity(
            "throughput", "images a second, at most", {"/s": Fraction(1)}, "least", "profile", _throughput,
            lambda value: f"{number(value)} /s",
        ),
        Quantity(
            "operations", "synaptic operations of an image", COUNTED, "most", "profile", _mean("synaptic_operations"),
            number,
        ),
        Quantity("spikes", "spikes of an image", COUNTED, "most", "profile", _mean("spikes"), number),
        Quantity(
            "energy", "of an image, with static power of used chips", ENERGIES, "most", "profile",
            _energy(_USED_CHIPS), energy,
        ),
        Quantity(
            "energy.dynamic", "what cores do for an image alone", ENERGIES, "most", "profile", _energy(_DYNAMIC), energy
        ),
        Quantity(
            "energy.cores", "with static power of used cores", ENERGIES, "most", "profile", _energy(_USED_CORES), energy
        ),
        Quantity("energy.board", "with that of the board", ENERGIES, "most", "profile", _energy(_BOARD), energy),
        Quantity(
            "accuracy", "share of images that are right", {"%": Fraction(1, 100)}, "least", "accuracy",
            lambda value: float(value), percent, lambda value: f"{100 * value:.2f} points",
        ),
    )
}  # fmt: skip
"""Every quantity by name."""
