"""Counts times constants: energy for one image, by term and by boundary, with the band of every constant.

dynamic = sum over layers [ synaptic operations * e_synaptic_operation(type of connection)
                          + silent neuron-steps * e_inactive + firing neuron-steps * e_active
                          + messages to destination cores * e_message + links that they cross * e_hop ]
static  = power inside the boundary * least time of an image

Everything is a function of one number for each constant, so that bands and the tornado are the same function at other
numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.breakeven import break_even
from fastsnn_deploy.analysis.counts import ConnectionCounts, Counts, LayerCounts
from fastsnn_deploy.analysis.energies import (
    BOUNDARIES,
    ENDS,
    TERMS,
    AnnEnergy,
    Band,
    Boundary,
    Energy,
    LayerEnergy,
    Swing,
)
from fastsnn_deploy.analysis.hardware import Constant, Hardware, Numbers
from fastsnn_deploy.analysis.mapping.result import Mapping as CoreMapping
from fastsnn_deploy.analysis.mapping.time import Load
from fastsnn_deploy.analysis.statistics import PerImage
from fastsnn_deploy.errors import InputError

Amounts = dict[str, dict[str, Any]]
"""What is multiplied, by term and key of the constant: numbers, or arrays of one for each image."""

TORNADO = "used chips"
"""Boundary whose total the tornado is of, where it is known."""


@dataclass(frozen=True, eq=False)
class Traffic:
    """Where the messages of each layer went, by its name, int64 [N] for N images. messages: spikes times the cores that
    each goes to. hops: links between routers that they crossed. A layer that is absent sends from outside the chip: its
    spikes are one message each, and its neurons take nothing there."""

    messages: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    hops: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Placed:
    """A network on a chip that holds it. load: what the images put on each core. latency_steps: steps from an image to
    its answer, where that is not what the image occupies the chip for: of a network that takes one in every step."""

    mapping: CoreMapping
    load: Load
    traffic: Traffic
    latency_steps: int | None = None


def estimate(
    counts: Counts,
    hardware: Hardware,
    *,
    placed: Placed | None = None,
    unplaced: str = "no mapping to cores is known",
    step_time_us: float | None = None,
    rival: AnnEnergy | None = None,
) -> Energy:
    """Energy of a run, for one image of `counts`.

    placed: the network on its cores; without it, messages go to one core each, hops and static energy are not priced,
    and `unplaced` says why. step_time_us: microseconds that a time step takes, as measured; default: the least time of
    the run, or the fixed step of the profile. rival: what the break-even compares with. Raises InputError if no image
    was counted or the step time is not positive.
    """
    need_images(counts.images)
    if step_time_us is not None and not 0 < step_time_us < float("inf"):
        raise InputError(f"the step time is {step_time_us} µs, must be positive and finite")
    case = _Case(counts, hardware, placed, unplaced, step_time_us)
    boundaries = tuple(case.boundary(name) for name in BOUNDARIES)
    known = [each.name for each in boundaries if each.energy is not None]
    of = TORNADO if TORNADO in known else "dynamic"
    used, least = case.used(known[-1]), case.image_ns(case.numbers["value"])
    aggregate = None
    if (constant := hardware.prices.aggregate_synaptic_operation) is not None:
        number = counts.total("synaptic_operations") / counts.images
        aggregate = Band(*(number * getattr(constant, end) for end in ENDS))
    return Energy(
        hardware=hardware.name,
        layers=tuple(case.layer(layer) for layer in counts.layers),
        boundaries=boundaries,
        tornado=tuple(sorted(case.swings(of), key=lambda swing: -swing.width)),
        tornado_of=of,
        break_even=tuple(break_even(boundaries, rival, 1e9 / least if least else None)),
        by_image=case.by_image(),
        aggregate=aggregate,
        used=used,
        warnings=tuple(_warnings(counts, hardware, placed, boundaries, used)),
    )


class _Case:
    """One estimate. `numbers` stands for one number a constant everywhere."""

    def __init__(
        self, counts: Counts, hardware: Hardware, placed: Placed | None, unplaced: str, step_time_us: float | None
    ) -> None:
        self.counts, self.hardware, self.placed = counts, hardware, placed
        self.unplaced, self.step_time_us = unplaced, step_time_us
        self.numbers = {end: hardware.numbers(end) for end in ENDS}
        self.constants = dict(hardware.constants())
        self.traffic, images = placed.traffic if placed else Traffic(), counts.images
        self.each = {layer.name: 1.0 for layer in counts.layers}  # neurons of the chip for each
        if placed:  # two on some chips, and none outside
            taken = {layer.name: int(layer.used["neurons"].sum()) for layer in placed.mapping.layers}
            self.each = {
                layer.name: taken[layer.name] / layer.neurons for layer in counts.layers if layer.name in taken
            }
        self.amounts = {
            layer.name: self._amounts(
                layer, lambda each: each.synaptic_operations / images, layer.spikes / images,
                layer.neuron_updates / images, _mean(self.traffic.messages, layer, images),
                _mean(self.traffic.hops, layer, images),
            )
            for layer in counts.layers
        }  # fmt: skip

    def layer(self, layer: LayerCounts) -> LayerEnergy:
        amounts = self.amounts[layer.name]
        terms = {term: self.band(partial(_priced, keys)) for term, keys in amounts.items()}
        return LayerEnergy(layer.name, terms, amounts)

    def band(self, function: Callable[[Numbers], float]) -> Band:
        return Band(*(function(self.numbers[end]) for end in ENDS))

    def dynamic(self, numbers: Numbers) -> float:
        return float(sum(_priced(keys, numbers) for terms in self.amounts.values() for keys in terms.values()))

    def by_image(self) -> PerImage | None:
        """Dynamic energy of each image."""
        counts, traffic = self.counts, self.traffic
        total = np.zeros(counts.images)
        for layer in counts.layers:
            parts = [each.by_image for each in layer.connections] + ([layer.by_image] if layer.sends else [])
            if counts.by_image is None or None in parts:
                return None
            amounts = self._amounts(
                layer, lambda each: each.by_image.values if each.by_image else 0.0,
                layer.by_image.values if layer.by_image else 0, layer.neurons * counts.by_image.values,
                traffic.messages.get(layer.name), traffic.hops.get(layer.name),
            )  # fmt: skip
            total = total + sum(_priced(keys, self.numbers["value"]) for keys in amounts.values())
        return PerImage(total)

    def _amounts(
        self, layer: LayerCounts, operations: Callable[[ConnectionCounts], Any], spikes: Any, updates: Any,
        messages: Any, hops: Any,
    ) -> Amounts:  # fmt: skip
        """Numbers of one layer by term and constant; of one image, or arrays of one for each. messages, hops: None
        where the layer has no place on the chip."""
        prices, arithmetic = self.hardware.prices, self.hardware.kind == "arithmetic"
        found: Amounts = {"synaptic_operations": {}}
        for connection in layer.connections:
            key, _ = prices.of_synapse(connection.type)
            if arithmetic and prices.multiply_accumulate and connection.weighted and not connection.ternary:
                key = "multiply_accumulate"
            keys = found["synaptic_operations"]
            keys[f"energies.{key}"] = keys.get(f"energies.{key}", 0) + operations(connection)
        if prices.neuron_update_inactive is not None and layer.name in self.each:
            inactive = self.each[layer.name] * updates - spikes
            found["neuron_updates_inactive"] = {"energies.neuron_update_inactive": inactive}
            found["neuron_updates_active"] = {"energies.neuron_update_active": spikes}
        if prices.message is not None:
            found["messages"] = {"energies.message": spikes if messages is None else messages}
        if prices.hop is not None and hops is not None:
            found["hops"] = {"energies.hop": hops}
        return {term: found[term] for term in TERMS if term in found}

    # --- time and static power ---------------------------------------------------------------------------------------

    def image_ns(self, numbers: Numbers) -> float:
        """What an image occupies the chip for, at least; 0 where that is not known."""
        if self.step_time_us is not None:
            return 1000 * self.step_time_us * self.counts.steps / self.counts.images
        return self.placed.load.image_ns(numbers) if self.placed else 0.0

    def latency_ns(self, numbers: Numbers) -> float:
        steps = self.counts.steps / self.counts.images
        later = self.placed.latency_steps if self.placed else None
        return self.image_ns(numbers) * (1.0 if later is None else later / steps)

    def power(self, name: str) -> tuple[str, float, str]:
        """Key of the static power inside a boundary, how many times it is there, and in words."""
        if name == "dynamic" or self.placed is None:
            return "", 0.0, "what cores and mesh do"
        mapping, chip = self.placed.mapping, self.hardware.limits
        chips = f"{mapping.chips:,} chip{'s' if mapping.chips > 1 else ''}"
        if name == "used cores":
            return (
                "power.static",
                mapping.cores / chip.cores.value,
                f"and static power of the {mapping.cores:,} used cores",
            )
        if name == "used chips":
            return "power.static", mapping.chips, f"and static power of {chips}, used cores and others"
        board = next((each for each in chip.boards if each.name == mapping.board), None)
        if board is None:
            return "power.board", mapping.chips, f"and {chips} with their share of a board: none has so many"
        return "power.board", board.chips, f"and the board {board.name}, {board.chips} chips"

    def boundary(self, name: str) -> Boundary:
        key, times, holds = self.power(name)
        if name != "dynamic" and (reason := self._unknown(key)):
            return Boundary(name, holds if self.placed else f"and static power: {name}", None, None, None, reason)
        power = None if name == "dynamic" else self.band(lambda numbers: times * numbers[key])
        timed = self.placed is not None and self.image_ns(self.numbers["value"]) > 0
        edp = self.band(lambda at: 1e-21 * self.total(name, at) * self.latency_ns(at)) if timed else None
        reason = "" if timed else self.unplaced if self.placed is None else "the profile has no times"
        return Boundary(name, holds, power, self.band(lambda at: self.total(name, at)), edp, reason)

    def _unknown(self, key: str) -> str:
        if self.placed is None:
            return self.unplaced
        if key not in self.constants:
            return "the profile has no constant for it"
        return "" if self.image_ns(self.numbers["value"]) > 0 else "the profile has no times"

    def total(self, name: str, numbers: Numbers) -> float:
        key, times, _ = self.power(name)
        # 1 mW for 1 ns is 1 pJ
        static = times * numbers[key] * self.image_ns(numbers) if key else 0.0
        return self.dynamic(numbers) + static

    # --- what moves it -----------------------------------------------------------------------------------------------

    def used(self, boundary: str) -> dict[str, Constant]:
        """Constants that enter the energy of any boundary up to this one."""
        keys = {key for terms in self.amounts.values() for each in terms.values() for key, n in each.items() if n}
        if boundary != "dynamic":
            keys |= {self.power(name)[0] for name in BOUNDARIES[1 : BOUNDARIES.index(boundary) + 1]} & set(
                self.constants
            )
            if self.step_time_us is None and self.placed:
                keys |= self.placed.load.keys(self.numbers["value"])
        return {key: constant for key, constant in self.constants.items() if key in keys}

    def swings(self, boundary: str) -> Iterator[Swing]:
        middle = self.numbers["value"]
        for key, constant in self.used(boundary).items():
            low, high = (self.total(boundary, {**middle, key: getattr(constant, end)}) for end in ("low", "high"))
            yield Swing(key, constant, low, high)


def _priced(amounts: Mapping[str, Any], numbers: Numbers) -> Any:
    return sum(amount * numbers[key] for key, amount in amounts.items())


def _mean(traffic: Mapping[str, npt.NDArray[np.int64]], layer: LayerCounts, images: int) -> float | None:
    return None if layer.name not in traffic else int(traffic[layer.name].sum()) / images


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
    counts: Counts, hardware: Hardware, placed: Placed | None, boundaries: Iterable[Boundary],
    used: Mapping[str, Constant],
) -> Iterable[str]:  # fmt: skip
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
    elif placed is None:
        yield "messages are priced at one destination core each, a lower bound: no placement on cores is known"
    elif any(layer.sends and layer.name not in placed.traffic.messages for layer in counts.layers):
        yield "what enters from outside the chip is one message a spike, without hops and neurons: a lower bound"
    if energies.hop is not None and placed is None:
        yield "hops between tiles are excluded: no placement on cores is known"
    for boundary in boundaries:
        if boundary.energy is None:
            yield f"static power of {boundary.name} is excluded: {boundary.reason}"
    if hardware.kind == "neuromorphic" and not all(c.ternary for c in counts.connections):
        yield "a graded message is priced as one binary spike for each synapse: no constant for payloads is published"
    undelivered = counts.total("undelivered_operations")
    if undelivered:
        yield f"the run was cut off with {undelivered} synaptic operations in flight, which are not priced"
    yield from hardware.caveats


def need_images(images: int) -> None:
    """Raise InputError for none."""
    if images < 1:
        raise InputError("no image was counted, so there is no energy for one. Profile at least one sample")
