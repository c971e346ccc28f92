"""`map_cores`: the door to the mapper."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fastsnn_deploy.analysis.hardware import Hardware, load_hardware
from fastsnn_deploy.analysis.mapping.checks import misplaced, violations_of
from fastsnn_deploy.analysis.mapping.file import fitting, read
from fastsnn_deploy.analysis.mapping.fixes import MOST_NEURONS, other_chips, other_neurons, with_fixes
from fastsnn_deploy.analysis.mapping.partition import Partition, balanced, fewest_cores
from fastsnn_deploy.analysis.mapping.place import first_cores, travel
from fastsnn_deploy.analysis.mapping.result import LayerMapping, Mapping
from fastsnn_deploy.analysis.mapping.sites import Site, sites_of
from fastsnn_deploy.errors import InputError, known_name, whole_number, wrong_type

if TYPE_CHECKING:
    from fastsnn_deploy.formats.base import Network

OBJECTIVES = ("cores", "balance")
"""Fewest cores, or the least full fullest core."""


def map_cores(
    network: Network | str | Path,
    hardware: Hardware | str = "loihi2",
    *,
    objective: Literal["cores", "balance"] = "cores",
    cores: int | None = None,
    host_input: bool = False,
    mapping: str | Path | None = None,
    suggest: bool = True,
) -> Mapping:
    """Put a network on the cores of a chip, as its compiler would: will it fit, which layer does not, by how much.

    No images are needed. What the rules reproduce of Intel's own tables is in docs/mapping.md.

    Args:
        network: What `convert` or `read` gives, or a file: of any target, also a stock NetX file of another program.
        hardware: A hardware profile with limits of a chip, its name, or the path of a .yaml file.
        objective: "cores": as few as the limits allow. "balance": the fullest core as little full as `cores` allow, or
            as the chips that the fewest cores would take.
        cores: Cores that the network may take.
        host_input: Input neurons run outside the chip, as with lava-dl's `skip_layers=1`. An input without neurons
            never takes cores.
        mapping: A file that `Mapping.save` wrote, perhaps edited: its tiles and places are taken and checked.
        suggest: Look for what would make each violation fit, and map that; not for networks of more than two million
            neurons.

    Returns:
        Tiles, cores and how full they are, layer by layer; violations with what would make them fit. A network that
        does not fit is a result, not an error.

    Raises:
        InputError: an unknown or unfit profile, a wrong option, or a mapping file that is not of this network.

    Example:
        >>> import fastsnn_deploy as fd
        >>> found = fd.map_cores("model.net", "loihi2")
        >>> found.fits, found.chips
        (True, 1)
    """
    from fastsnn_deploy.formats import as_network

    for name, value in (("host_input", host_input), ("suggest", suggest)):
        if not isinstance(value, bool):
            raise wrong_type(name, value, "True or False")
    known_name("objective", objective, OBJECTIVES)
    most = None if cores is None else whole_number("cores", cores, 1)
    chosen = hardware if isinstance(hardware, Hardware) else load_hardware(hardware)
    found = as_network(network)
    sites = sites_of(found)
    if host_input:
        sites = (dataclasses.replace(sites[0], placed=False), *sites[1:])
    if mapping is None:
        partition = _partition(sites, chosen, objective, most)
        first = first_cores(partition.placed, partition.used, partition.grids, chosen.limits)
    else:
        partition, first, objective = _given(sites, chosen, mapping)
    violations = violations_of(partition, chosen, most)
    if mapping is not None:
        violations += tuple(misplaced(partition, chosen, first))
    fixes: tuple[str, ...] = ()
    if suggest and violations:
        fixes = _without_file(sites, chosen, most) if mapping is not None else ()
        if not fixes and sum(site.neurons for site in sites) > MOST_NEURONS:
            fixes = (f"nothing was tried to make it fit: the network has more than {MOST_NEURONS:,} neurons",)
        elif not fixes:  # the network itself does not fit
            violations = with_fixes(violations, sites, chosen, most)
            neurons = any(violation.of_neurons for violation in violations)
            fixes = (*(other_neurons(found, chosen, most) if neurons else ()), *other_chips(sites, chosen, most))
    return Mapping(chosen, objective, tuple(_layers(partition, first)), violations, fixes, sites)


def mapping_for(network: Network, hardware: Hardware, mapping: Mapping | str | Path | None) -> Mapping:
    """The mapping that a caller gives, or the one with the fewest cores.

    mapping: what `map_cores` gave, a file of it, or None.
    Raises InputError unless it is of this network, on this chip.
    """
    if mapping is not None and not isinstance(mapping, (Mapping, str, Path)):
        raise wrong_type("mapping", mapping, "what fd.map_cores gives, or the path of a mapping.json")
    if not isinstance(mapping, Mapping):
        return map_cores(network, hardware, mapping=mapping, suggest=False)
    if mapping.hardware != hardware:
        raise InputError(f"the mapping is for '{mapping.hardware.name}', not '{hardware.name}'. Map it to this one")
    ours, theirs = ([(each.name, each.shape) for each in sites] for sites in (sites_of(network), mapping.sites))
    if ours != theirs:
        raise InputError("the mapping is of a network with other layers. Map this one")
    return mapping


def _without_file(sites: tuple[Site, ...], hardware: Hardware, most: int | None) -> tuple[str, ...]:
    fresh = fewest_cores(sites, hardware.limits)
    if violations_of(fresh, hardware, most):
        return ()
    return (f"without this mapping file: the network fits, on {fresh.cores:,} cores",)


def _partition(sites: tuple[Site, ...], hardware: Hardware, objective: str, most: int | None) -> Partition:
    chip = hardware.limits
    least = fewest_cores(sites, chip)
    if objective == "cores":
        return least
    usable = chip.usable_cores.value
    return balanced(sites, chip, most or usable * -(-least.cores // usable))


def _given(
    sites: tuple[Site, ...], hardware: Hardware, path: str | Path
) -> tuple[Partition, dict[str, int], Literal["cores", "balance"]]:
    partition = Partition(sites, hardware.limits)
    file = read(path)
    entries = fitting(file, path, partition.placed, whole=hardware.limits.cutting == "whole layers")
    for site in reversed(partition.placed):
        partition.set(site, entries[site.name].grid)
    return partition, {name: entry.first for name, entry in entries.items()}, file.objective


def _layers(partition: Partition, first: dict[str, int]) -> list[LayerMapping]:
    made: list[LayerMapping] = []
    for site in partition.placed:
        far = travel(site, partition.readers[site.name], partition.grids, first, partition.chip)
        grid, used = partition.grids[site.name], partition.used[site.name]
        made.append(LayerMapping(site.name, site.module, site.type, site.shape, grid, first[site.name], used, far))
    return made
