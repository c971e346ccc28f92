"""What an estimate of energy says: terms by layer, boundaries, constants that move it, rates at which it breaks even.

All energies are picojoules an image. `energy` computes them; nothing is computed here but sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fastsnn_deploy.analysis.hardware import Constant
from fastsnn_deploy.analysis.statistics import PerImage

TERMS = ("synaptic_operations", "neuron_updates_inactive", "neuron_updates_active", "messages", "hops")
"""Dynamic terms of the energy of a layer. Messages and hops belong to the layer that emits them."""

ENDS = ("low", "value", "high")
"""The numbers of a constant, and of a `Band`."""

BOUNDARIES = ("dynamic", "used cores", "used chips", "board")
"""What an energy holds, each more than the one before. The host is in none of them."""


@dataclass(frozen=True)
class Band:
    """The central value, and the ends when every constant sits at the end of its own band that makes it so."""

    low: float = 0.0
    value: float = 0.0
    high: float = 0.0

    def __add__(self, other: Band) -> Band:
        return Band(self.low + other.low, self.value + other.value, self.high + other.high)

    def to_dict(self) -> dict[str, float]:
        """low, value, high."""
        return {end: getattr(self, end) for end in ENDS}

    def times(self, factor: float) -> Band:
        """All three numbers times a factor."""
        return Band(self.low * factor, self.value * factor, self.high * factor)


def sum_bands(bands: Iterable[Band]) -> Band:
    """Sum of bands; low with low, high with high."""
    return sum(bands, Band())


@dataclass(frozen=True)
class LayerEnergy:
    """Dynamic energy of one layer by term; one that is not priced is absent.

    amounts: what was multiplied, by term and key of the constant: for one image.
    """

    name: str
    terms: Mapping[str, Band]
    amounts: Mapping[str, Mapping[str, float]]

    @property
    def total(self) -> Band:
        """Sum of all terms."""
        return sum_bands(self.terms.values())


@dataclass(frozen=True)
class Boundary:
    """Energy of an image with everything inside one boundary.

    name: one of `BOUNDARIES`. holds: what is inside, in words. power: static power inside, milliwatts. energy: dynamic
    and static, picojoules. edp: energy times mean latency, joule seconds. Each None where it is not known; `reason`
    then says why, and is empty otherwise. Energy and edp take the least time of an image, so both are at least that.
    """

    name: str
    holds: str
    power: Band | None
    energy: Band | None
    edp: Band | None
    reason: str = ""


@dataclass(frozen=True)
class Swing:
    """One bar of the tornado: the total in picojoules with one constant at its low and at its high end, all others at
    their values. key: such as "energies.message"."""

    key: str
    constant: Constant
    low: float
    high: float

    @property
    def width(self) -> float:
        """How far the constant moves the total."""
        return self.high - self.low


@dataclass(frozen=True)
class BreakEven:
    """A rate of images at which two energies of an image are equal.

    what: "static equals dynamic" (at lower rates static energy is the greater part), or "chip beats int8" (at higher
    rates an image takes less than 8-bit MACs and their memory take). boundary: whose static power. low, value, high:
    images a second with constants at the ends of their bands; None if no rate does it. reachable: whether the chip can
    take images at the rate `value`, by the least time of an image; None where that is not known. text: the same as a
    sentence.
    """

    what: str
    boundary: str
    low: float | None
    value: float | None
    high: float | None
    reachable: bool | None
    text: str


@dataclass(frozen=True)
class Energy:
    """Energy of a spiking network on one hardware profile, for one image.

    layers: dynamic energy by layer and term. boundaries: one for each of `BOUNDARIES`, "dynamic" first and always
    known. tornado: constants by how far each moves the total of boundary `tornado_of`, the furthest first. break_even:
    see `BreakEven`. by_image: dynamic energy of each image, all constants at their values; None where the run did not
    tell images apart. aggregate: synaptic operations times the aggregate constant, an estimate of its own that already
    holds everything. used: key and constant of every number that entered. warnings: what to know before quoting.
    """

    hardware: str
    layers: tuple[LayerEnergy, ...]
    boundaries: tuple[Boundary, ...]
    tornado: tuple[Swing, ...]
    tornado_of: str
    break_even: tuple[BreakEven, ...]
    by_image: PerImage | None
    aggregate: Band | None
    used: Mapping[str, Constant]
    warnings: tuple[str, ...]

    @property
    def terms(self) -> Mapping[str, Band]:
        """Dynamic terms summed over layers; one that is not priced is absent."""
        priced = [term for term in TERMS if any(term in layer.terms for layer in self.layers)]
        return {term: sum_bands(layer.terms.get(term, Band()) for layer in self.layers) for term in priced}

    @property
    def dynamic(self) -> Band:
        """All dynamic terms of all layers."""
        return sum_bands(layer.total for layer in self.layers)

    @property
    def widest(self) -> Boundary:
        """The last boundary whose energy is known."""
        return next(each for each in reversed(self.boundaries) if each.energy is not None)

    def __getitem__(self, boundary: str) -> Boundary:
        return next(each for each in self.boundaries if each.name == boundary)


@dataclass(frozen=True)
class AnnEnergy:
    """Energy of the conventional network on a profile with multiply-accumulates, for one image.

    name: "equal bits" (b-bit activations times w-bit weights, layer by layer), "int8" or "fp32". bits: the widths in
    words. dense: arithmetic of all MACs and additions, border-exact. with_padding: those on padding too. zero_skipping:
    only those that read an activation that is not zero; None where their number is not known. memory: traffic by the
    model of `baseline`; None where the layers of the network are not known.
    """

    name: str
    hardware: str
    bits: str
    dense: Band
    with_padding: Band
    zero_skipping: Band | None
    memory: Band | None

    @property
    def total(self) -> Band:
        """Arithmetic of all MACs, and memory where it is known."""
        return self.dense + (self.memory or Band())
