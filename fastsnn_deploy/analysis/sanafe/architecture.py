"""The chip of a hardware profile as an architecture of SANA-FE: a mesh, and the cores that the network takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from fastsnn_deploy.analysis.hardware import Hardware
from fastsnn_deploy.analysis.mapping.result import Mapping as CoreMapping
from fastsnn_deploy.analysis.sanafe.layout import Place
from fastsnn_deploy.errors import InputError, Problem

UNIT = 1024
"""Neurons that one unit of SANA-FE's LIF, and one of its accumulators, holds."""


@dataclass(frozen=True)
class Prices:
    """What a layer takes in SANA-FE, in pJ. synapse: an operation that arrives. access: a neuron in every step. spike:
    what a firing one takes beyond that. message: one that is sent. hop: one over a link."""

    synapse: float
    access: float
    spike: float
    message: float
    hop: float


def prices_of(mapping: CoreMapping) -> dict[str, Prices]:
    """Prices of every layer, at the values of the profile; what it has no constant for costs nothing.

    Raises InputError naming every layer whose synapses have several prices: SANA-FE's files have one for all synapses
    of a neuron.
    """
    energies, found, problems = mapping.hardware.prices, {}, []
    message, hop, silent, firing = (
        0.0 if constant is None else constant.value
        for constant in (
            energies.message, energies.hop, energies.neuron_update_inactive, energies.neuron_update_active
        )
    )  # fmt: skip
    taken = {layer.name: int(layer.used["neurons"].sum()) / layer.grid.neurons.sum() for layer in mapping.layers}
    for site in mapping.sites:
        several = {each.type: energies.of_synapse(each.type)[1].value for each in site.connections}
        if len(set(several.values())) > 1:
            listed = ", ".join(f"{name} {price:g} pJ" for name, price in several.items())
            problems.append(Problem(site.name, f"its synapses have several prices ({listed})"))
        each, used = next(iter(several.values()), 0.0), taken.get(site.name)
        access, spike = (0.0, 0.0) if used is None else (used * silent, firing - silent)
        found[site.name] = Prices(each, access, spike, message, hop)
    if problems:
        raise InputError(
            "SANA-FE's files have one price for all synapses of a neuron. Take a profile without prices by type, such "
            "as loihi2",
            problems,
        )
    return found


def architecture(
    mapping: CoreMapping, places: Mapping[str, Place], prices: Mapping[str, Prices], computed: Mapping[str, object]
) -> str:
    """The architecture file. computed: layers of LIF neurons; the others replay spikes."""
    hardware, mesh = mapping.hardware, mapping.hardware.limits.mesh
    tiles = 1 + max(int(place.tile.max()) for place in places.values())
    hop = max((each.hop for each in prices.values()), default=0.0)
    lines = [
        "architecture:",
        "  name: chip",
        "  attributes:",
        "    topology: mesh",
        f"    width: {mesh.columns * mapping.chips}",
        f"    height: {mesh.rows}",
        "    link_buffer_size: 16",
        "    sync_model: fixed",
        f"    latency_sync: {_seconds(hardware, 'step') or _seconds(hardware, 'step_minimum') or 0.0}",
        "  tile:",
    ]
    held = dict(_held(places))
    for tile in range(tiles):
        lines += [f"    - name: tile{tile}", "      attributes:"]
        for direction in ("north", "east", "south", "west"):
            lines.append(f"        energy_{direction}_hop: {_joules(hop)}")
            lines.append(f"        latency_{direction}_hop: {_seconds(hardware, 'hop') or 0.0}")
        lines.append("      core:")
        cores = 1 + max((core for at, core in held if at == tile), default=0)
        for core in range(cores):
            name, neurons = held.get((tile, core), ("", 1))
            lines += _core(core, neurons, prices.get(name), name in computed, hardware)
    return "\n".join(lines) + "\n"


def _held(places: Mapping[str, Place]) -> Iterator[tuple[tuple[int, int], tuple[str, int]]]:
    """The layer of each core that is taken, and how many of its neurons."""
    for name, place in places.items():
        cores, numbers = np.unique(np.stack([place.tile, place.core]), axis=1, return_counts=True)
        for (tile, core), number in zip(cores.T.tolist(), numbers.tolist(), strict=True):
            yield (tile, core), (name, number)


def _core(number: int, neurons: int, prices: Prices | None, computed: bool, hardware: Hardware) -> list[str]:
    """One core; None for one that nothing is on."""
    prices = prices or Prices(0.0, 0.0, 0.0, 0.0, 0.0)
    keys = ("neuron_update_inactive", "neuron_update_active", "synaptic_operation")
    silent, firing, synapse = (_seconds(hardware, key) or 0.0 for key in keys)
    units, soma = -(-neurons // UNIT), "leaky_integrate_fire" if computed else "input"
    return [
        f"        - name: core{number}",
        f"          attributes: {{buffer_position: soma, buffer_inside_unit: false, max_neurons_supported: {neurons}}}",
        "          axon_in: [{name: in, attributes: {energy_message_in: 0.0, latency_message_in: 0.0}}]",
        "          synapse:",
        "            - name: synapse",
        f"              attributes: {{model: current_based, energy_process_spike: {_joules(prices.synapse)}, "
        f"latency_process_spike: {synapse}}}",
        "          dendrite:",
        f'            - name: "dendrite[0..{units - 1}]"',
        "              attributes: {model: accumulator, energy_update: 0.0, latency_update: 0.0}",
        "          soma:",
        f'            - name: "soma[0..{(units if computed else neurons) - 1}]"',
        f"              attributes: {{model: {soma}, energy_access_neuron: {_joules(prices.access)}, "
        f"energy_update_neuron: 0.0, energy_spike_out: {_joules(prices.spike)}, latency_access_neuron: {silent}, "
        f"latency_update_neuron: 0.0, latency_spike_out: {max(firing - silent, 0.0)}}}",
        "          axon_out:",
        "            - name: out",
        f"              attributes: {{energy_message_out: {_joules(prices.message)}, latency_message_out: 0.0}}",
    ]


def _seconds(hardware: Hardware, key: str) -> float | None:
    """A time of the profile; None where it has none."""
    constant = getattr(hardware.times, key)
    return None if constant is None else constant.value * 1e-9


def _joules(picojoules: float) -> str:
    return f"{picojoules * 1e-12:.9g}"
