"""Where each neuron is on SANA-FE's mesh, and which cores its messages go to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from fastsnn_deploy.analysis.mapping.grid import Int64, volume
from fastsnn_deploy.analysis.mapping.place import routers
from fastsnn_deploy.analysis.mapping.result import Mapping as CoreMapping
from fastsnn_deploy.analysis.sanafe.links import Links


@dataclass(frozen=True, eq=False)
class Place:
    """Cores of the neurons of a layer, int64 [neurons] each: tile, column * rows + row of its router; core, its number
    in the tile. outside: the neurons are no part of the chip."""

    tile: Int64
    core: Int64
    outside: bool = False


@dataclass(frozen=True, eq=False)
class Sent:
    """What one spike of each neuron of a layer takes, int64 [neurons]: messages, one to each core where it has a
    synapse, and hops, links between routers that these cross."""

    messages: Int64
    hops: Int64


def places_of(mapping: CoreMapping) -> dict[str, Place]:
    """The place of every layer. What enters from outside is on a further core of the tile where it is read first."""
    chip = mapping.hardware.limits
    found: dict[str, Place] = {}
    for layer in mapping.layers:
        cores = layer.first + layer.grid.tiles_of(np.arange(volume(layer.shape)))
        column, row, _ = routers(cores, chip)
        found[layer.name] = Place(column * chip.mesh.rows + row, cores % chip.usable_cores.value % chip.mesh.cores)
    for number, site in enumerate(site for site in mapping.sites if not site.placed):
        parts = ((each.name, part.layer) for each in mapping.sites for link in each.connections for part in link.parts)
        where = next((found[reader].tile[0] for reader, read in parts if read == site.name), 0)
        ones = np.ones(volume(site.shape), dtype=np.int64)
        found[site.name] = Place(where * ones, (chip.mesh.cores + number) * ones, True)
    return found


def sent_by(places: Mapping[str, Place], links: Iterable[Links], rows: int) -> dict[str, Sent]:
    """Messages and hops of a spike of every neuron. rows: of the mesh."""
    links = tuple(links)
    found = {}
    for name, place in places.items():
        ends = [np.zeros((3, 0), dtype=np.int64)]
        for each in (each for each in links if each.before == name):
            there = places[each.after]
            ends.append(np.stack([each.source, there.tile[each.target], there.core[each.target]]))
        source, tile, _ = np.unique(np.concatenate(ends, axis=1), axis=1)
        away = [np.abs(a - b) for a, b in zip(divmod(place.tile[source], rows), divmod(tile, rows), strict=True)]
        hops = np.zeros(len(place.tile), dtype=np.int64)
        np.add.at(hops, source, away[0] + away[1])
        found[name] = Sent(np.bincount(source, minlength=len(place.tile)), hops)
    return found
