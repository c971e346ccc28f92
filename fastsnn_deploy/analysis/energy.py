"""Counts times constants: energy for one image, each term apart, with the band of every constant.

E = sum over layers [ synaptic operations * e_synaptic_operation(type of connection)
                    + silent neuron-steps * e_inactive + firing neuron-steps * e_active
                    + messages * destination cores * e_message + messages * hops * e_hop ]
  + static power * step time * steps
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fastsnn_deploy.analysis.ann import AnnCounts
from fastsnn_deploy.analysis.counts import Counts, LayerCounts
from fastsnn_deploy.analysis.hardware import Constant, EnergyConstant, Hardware
from fastsnn_deploy.errors import InputError

TERMS = ("synaptic_operations", "neuron_updates_inactive", "neuron_updates_active", "messages", "hops")
"""Dynamic terms of the energy of a layer. Messages and hops belong to the layer that emits them."""


@dataclass(frozen=True)
class Band:
    """Picojoules: the central value, and the ends when every constant sits at the end of its own band."""

    low: float = 0.0
    value: float = 0.0
    high: float = 0.0

    def __add__(self, other: Band) -> Band:
        return Band(self.low + other.low, self.value + other.value, self.high + other.high)

    def __sub__(self, other: Band) -> Band:
        return Band(self.low - other.low, self.value - other.value, self.high - other.high)


@dataclass(frozen=True)
class Traffic:
    """What a placement on cores knows, by name of the emitting layer; both are means for one message.

    destination_cores: cores that a message goes to (1 where not given, a lower bound). hops: links between tiles
    that it crosses, over all its destinations (not counted where not given).
    """

    destination_cores: Mapping[str, float] = field(default_factory=dict)
    hops: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerEnergy:
    """Energy of one layer, picojoules an image, by term; one that is not priced is absent."""

    name: str
    terms: Mapping[str, Band]

    @property
    def total(self) -> Band:
        """Sum of all terms."""
        return sum_bands(self.terms.values())


@dataclass(frozen=True)
class Energy:
    """Energy of a spiking network on one hardware profile, picojoules an image.

    dynamic: sum over layers of the terms that are priced. static: static power times time, None where the time is not
    known; never inside `dynamic`. complete: everything that the profile has a constant for is priced. aggregate:
    synaptic operations times the aggregate constant, an estimate of its own that already holds everything. used: key
    and constant of every number that entered. warnings: what to know before quoting.
    """

    hardware: str
    layers: tuple[LayerEnergy, ...]
    static: Band | None
    complete: bool
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
    def known(self) -> Band:
        """Everything that is priced."""
        return self.dynamic + (self.static or Band())

    @property
    def total(self) -> Band | None:
        """Dynamic and static energy; None where a part of either is not known."""
        return self.known if self.static is not None and self.complete else None

    @property
    def sensitivity(self) -> Mapping[str, tuple[float, float]]:
        """`known` when the constants of one term go from low to high and all others keep their value."""
        terms = dict(self.terms) | ({"static": self.static} if self.static else {})
        centre = self.known.value
        return {
            name: (centre - band.value + band.low, centre - band.value + band.high)
            for name, band in terms.items()
            if band.high > 0
        }


@dataclass(frozen=True)
class AnnEnergy:
    """Arithmetic energy of the conventional network, picojoules an image, on a profile with multiply-accumulates.

    dense: all MACs and additions, border-exact. with_padding: those on padding too. zero_skipping: only those that
    read an activation that is not zero; None where their number is not known.
    """

    hardware: str
    dense: Band
    with_padding: Band
    zero_skipping: Band | None


def estimate(
    counts: Counts, hardware: Hardware, *, step_time_us: float | None = None, traffic: Traffic | None = None
) -> Energy:
    """Energy of a run, for one image of `counts`.

    step_time_us: microseconds a time step takes, for the static energy; the default is the fixed step of the
    profile, if it has one. Raises InputError if no image was counted or the step time is not positive.
    """
    _need_images(counts.images)
    if step_time_us is not None and not 0 < step_time_us < float("inf"):
        raise InputError(f"the step time is {step_time_us} µs, must be positive and finite")
    traffic = traffic or Traffic()
    _check_layers(counts, traffic)
    used: dict[str, Constant] = {}
    layers = tuple(_layer(layer, counts.images, hardware, traffic, used) for layer in counts.layers)
    static = _static(counts, hardware, step_time_us, used)
    aggregate = None
    constant = hardware.prices.aggregate_synaptic_operation
    if constant is not None:
        aggregate = _priced(counts.total("synaptic_operations") / counts.images, constant)
    warnings = tuple(_warnings(counts, hardware, traffic, static, used))
    complete = hardware.prices.hop is None or bool(traffic.hops)
    return Energy(hardware.name, layers, static, complete, aggregate, used, warnings)


def estimate_ann(counts: AnnCounts, hardware: Hardware) -> AnnEnergy:
    """Arithmetic energy of the conventional network, for one image of `counts`.

    Raises InputError if no image was counted or the profile has no `multiply_accumulate`.
    """
    _need_images(counts.images)
    multiply, add = hardware.prices.multiply_accumulate, hardware.prices.synaptic_operation
    if multiply is None:
        raise InputError(f"hardware profile '{hardware.name}' has no multiply_accumulate. Use horowitz45-int8")

    def priced(suffix: str) -> Band:
        macs, additions = (counts.total(f"{kind}{suffix}") / counts.images for kind in ("macs", "additions"))
        return _priced(macs, multiply) + _priced(additions, add)

    known = all(counts.known(f"{kind}_nonzero") is not None for kind in ("macs", "additions"))
    return AnnEnergy(hardware.name, priced(""), priced("_with_padding"), priced("_nonzero") if known else None)


def sum_bands(bands: Iterable[Band]) -> Band:
    """Sum of bands; low with low, high with high."""
    return sum(bands, Band())


def _priced(number: float, constant: Constant) -> Band:
    return Band(number * constant.low, number * constant.value, number * constant.high)


def _layer(
    layer: LayerCounts, images: int, hardware: Hardware, traffic: Traffic, used: dict[str, Constant]
) -> LayerEnergy:
    energies = hardware.prices
    operations = Band()
    for connection in layer.connections:
        key, constant = energies.of_synapse(connection.type)
        multiply = energies.multiply_accumulate
        if hardware.kind == "arithmetic" and multiply and connection.weighted and not connection.ternary:
            key, constant = "multiply_accumulate", multiply
        operations += _synaptic_input(connection.synaptic_operations / images, f"energies.{key}", constant, used)
    messages = layer.spikes / images
    amounts: tuple[tuple[str, str, EnergyConstant | None, float], ...] = (
        (
            "neuron_updates_inactive",
            "neuron_update_inactive",
            energies.neuron_update_inactive,
            layer.neuron_updates_inactive / images,
        ),
        (
            "neuron_updates_active",
            "neuron_update_active",
            energies.neuron_update_active,
            layer.neuron_updates_active / images,
        ),
        ("messages", "message", energies.message, messages * traffic.destination_cores.get(layer.name, 1)),
        ("hops", "hop", energies.hop if traffic.hops else None, messages * traffic.hops.get(layer.name, 0)),
    )
    terms = {"synaptic_operations": operations}
    for term, key, price, amount in amounts:
        if price is not None:
            terms[term] = _synaptic_input(amount, f"energies.{key}", price, used)
    return LayerEnergy(layer.name, terms)


def _synaptic_input(amount: float, key: str, constant: Constant | None, used: dict[str, Constant]) -> Band:
    if constant is None or amount == 0:
        return Band()
    used[key] = constant
    return _priced(amount, constant)


def _static(counts: Counts, hardware: Hardware, step_time_us: float | None, used: dict[str, Constant]) -> Band | None:
    power, step = hardware.power.static, hardware.times.step
    if power is None or (step is None and step_time_us is None):
        return None
    used["power.static"] = power
    if step_time_us is None and step is not None:
        used["times.step"] = step
        step_time_us = step.value / 1000
    assert step_time_us is not None
    # 1 mW for 1 us is 1 nJ = 1000 pJ
    return _priced(1000 * step_time_us * counts.steps / counts.images, power)


def cannot_send(counts: Counts, hardware: Hardware) -> str | None:
    """What the network sends and the chip cannot, in one sentence; None where there is nothing to say."""
    spikes = hardware.spikes
    if spikes is None or (spikes.signed and spikes.graded):
        return None
    lacking = {
        (False, False): "neither signed nor graded spikes", (False, True): "no signed spikes",
        (True, False): "no graded spikes",
    }[spikes.signed, spikes.graded]  # fmt: skip
    sent = []
    if not spikes.signed and (negative := counts.total("negative_spikes")):
        sent.append(f"{negative / counts.images:,.1f} negative spikes an image")
    graded = [layer.name for layer in counts.layers if layer.payload > layer.spikes]
    if not spikes.graded and graded:
        sent.append(f"payloads beyond 1 from {len(graded)} layers ({graded[0]}{' and others' if graded[1:] else ''})")
    ending = f"; this network sends {' and '.join(sent)}, priced as if it had" if sent else ", and none are sent here"
    return f"{hardware.title}: the chip has {lacking}{ending}"


def _warnings(
    counts: Counts, hardware: Hardware, traffic: Traffic, static: Band | None, used: Mapping[str, Constant]
) -> Iterable[str]:
    energies = hardware.prices
    if lacking := cannot_send(counts, hardware):
        yield lacking
    for status in ("inherited", "assumed", "scaled", "fitted"):
        keys = [key.split(".", 1)[1] for key, constant in used.items() if constant.status == status]
        if keys:
            yield f"{hardware.name}: not published but {status}: {', '.join(keys)}"
    if energies.neuron_update_inactive is None:
        yield "neuron updates are not priced: the profile has no constant for them"
    if energies.message is None:
        yield "messages are not priced: the profile has no constant for them"
    elif not traffic.destination_cores:
        yield "messages are priced at one destination core each, a lower bound: no placement on cores is known"
    if energies.hop is not None and not traffic.hops:
        yield "hops between tiles are excluded: no placement on cores is known"
    if static is None:
        reason = "the profile has no constant for it" if hardware.power.static is None else "latency is not modelled"
        yield f"static power is excluded: {reason}"
    if hardware.kind == "neuromorphic" and not all(c.ternary for c in counts.connections):
        yield "a graded message is priced as one binary spike for each synapse: no constant for payloads is published"
    undelivered = counts.total("undelivered_operations")
    if undelivered:
        yield f"the run was cut off with {undelivered} synaptic operations in flight, which are not priced"
    yield from hardware.caveats


def _check_layers(counts: Counts, traffic: Traffic) -> None:
    known = {layer.name for layer in counts.layers}
    unknown = sorted({*traffic.destination_cores, *traffic.hops} - known)
    if unknown:
        raise InputError(f"the placement names layers that do not exist: {', '.join(unknown)}")


def _need_images(images: int) -> None:
    if images < 1:
        raise InputError("no image was counted, so there is no energy for one. Profile at least one sample")
