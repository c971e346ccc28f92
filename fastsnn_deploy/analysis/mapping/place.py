"""Where cores lie on the mesh, and how far messages go.

Layers follow each other along a snake over the routers of a chip, chip after chip; chips lie side by side in a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.chip import Chip, CoreKind
from fastsnn_deploy.analysis.mapping.grid import Grid, Int64
from fastsnn_deploy.analysis.mapping.sites import Reader, Site
from fastsnn_deploy.analysis.mapping.usage import Usage

Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Travel:
    """How far a spike of each neuron of a layer goes, int32 [neurons] each. destinations: cores where the neuron has a
    synapse; each gets one message. crossed: links between routers, over all of them. between_chips: those between
    chips.

    The properties are means over the neurons.
    """

    destinations: Int32
    crossed: Int32
    between_chips: Int32

    @property
    def destination_cores(self) -> float:
        """Cores that a spike goes to."""
        return float(self.destinations.mean())

    @property
    def hops(self) -> float:
        """Links between routers that it crosses, over all its destinations."""
        return float(self.crossed.mean())

    @property
    def chip_links(self) -> float:
        """Links between chips."""
        return float(self.between_chips.mean())


def placed_in_order(sites: tuple[Site, ...], grids: Mapping[str, Grid]) -> dict[str, int]:
    """The first core of each layer when layers follow each other."""
    first, found = 0, {}
    for site in sites:
        found[site.name] = first
        first += grids[site.name].cores
    return found


def first_cores(
    sites: tuple[Site, ...], used: Mapping[str, Usage], grids: Mapping[str, Grid], chip: Chip
) -> dict[str, int]:
    """The first core of each layer: in order, or on chips of unlike cores on one that holds the layer."""
    if not chip.kinds:
        return placed_in_order(sites, grids)
    found = matched(sites, used, chip)
    after = chip.cores.value
    for site in sites:  # what finds no core is counted behind the chip, and reported
        if site.name not in found:
            found[site.name] = after
            after += 1
    return found


def matched(sites: tuple[Site, ...], used: Mapping[str, Usage], chip: Chip) -> dict[str, int]:
    """Cores of a chip of unlike cores for as many layers as possible, no two on one (augmenting paths)."""
    rooms = [kind for kind in chip.kinds for _ in range(kind.cores)]
    taken: dict[int, str] = {}

    def place(name: str, seen: set[int]) -> bool:
        for core, room in enumerate(rooms):
            if core in seen or not holds(room, used[name]):
                continue
            seen.add(core)
            if core not in taken or place(taken[core], seen):
                taken[core] = name
                return True
        return False

    for site in sites:
        place(site.name, set())
    return {name: core for core, name in taken.items()}


def holds(room: CoreKind, used: Usage) -> bool:
    """Whether a whole layer has room on a core."""
    return int(used["neurons"][0]) <= room.neurons and int(used["synapse_words"][0]) <= room.synapse_words


def routers(cores: Int64, chip: Chip) -> tuple[Int64, Int64, Int64]:
    """(column, row, chip) of the router of each core; columns go on from chip to chip."""
    number, inside = np.divmod(cores, chip.usable_cores.value)
    row, column = np.divmod(inside // chip.mesh.cores, chip.mesh.columns)
    column = np.where(row % 2, chip.mesh.columns - 1 - column, column)
    return column + number * chip.mesh.columns, row, number


def travel(
    site: Site, readers: tuple[Reader, ...], grids: Mapping[str, Grid], first: Mapping[str, int], chip: Chip
) -> Travel:
    """How far spikes of a layer go. first: the first core of each layer."""
    grid = grids[site.name]
    mine = routers(first[site.name] + np.arange(grid.cores), chip)
    core = grid.tiles_of(np.arange(site.neurons))
    totals = np.zeros((3, site.neurons), dtype=np.int32)
    by_layer: dict[str, list[Iterator[Int64]]] = {}
    for reader, connection, part in readers:
        by_layer.setdefault(reader.name, []).append(connection.read_by_tiles(part, grid.shape, grids[reader.name]))
    for name, reads in by_layer.items():
        for number, parts in enumerate(zip(*reads, strict=True)):  # one that reads by two connections gets one message
            reached = parts[0] if len(parts) == 1 else np.unique(np.concatenate(parts))
            there = routers(np.array([first[name] + number]), chip)
            columns, rows, chips = (np.abs(a - b) for a, b in zip(mine, there, strict=True))
            for total, each in zip(totals, (np.ones_like(columns), columns + rows, chips), strict=True):
                total[reached] += each[core[reached]].astype(np.int32)
    return Travel(*totals)
