"""Where cores lie on the mesh, and how far messages go.

Layers follow each other along a snake over the routers of a chip, chip after chip; chips lie side by side in a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fastsnn_deploy.analysis.chip import Chip, CoreKind
from fastsnn_deploy.analysis.mapping.grid import Grid, Int64
from fastsnn_deploy.analysis.mapping.sites import Reader, Site
from fastsnn_deploy.analysis.mapping.usage import Usage


@dataclass(frozen=True, eq=False)
class Travel:
    """How far a message of each core of a layer goes, int64 [cores] each. destinations: cores that it goes to. crossed:
    links between routers, over all of them. between_chips: those between chips. neurons: of each core.

    The properties are the same for one message, means over the neurons of the layer.
    """

    neurons: Int64
    destinations: Int64
    crossed: Int64
    between_chips: Int64

    @property
    def destination_cores(self) -> float:
        """Cores that a message goes to."""
        return self._mean(self.destinations)

    @property
    def hops(self) -> float:
        """Links between routers that it crosses, over all its destinations."""
        return self._mean(self.crossed)

    @property
    def chip_links(self) -> float:
        """Links between chips."""
        return self._mean(self.between_chips)

    def _mean(self, each: Int64) -> float:
        return int(self.neurons @ each) / int(self.neurons.sum())


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
    """How far messages of a layer go. first: the first core of each layer."""
    grid = grids[site.name]
    totals = np.zeros((3, grid.cores), dtype=np.int64)
    for reader, connection, part in readers:
        source, target = connection.pairs(part, grid, grids[reader.name])
        ends = [routers(cores, chip) for cores in (source + first[site.name], target + first[reader.name])]
        columns, rows, chips = (np.abs(a - b) for a, b in zip(*ends, strict=True))
        for total, each in zip(totals, (np.ones_like(source), columns + rows, chips), strict=True):
            np.add.at(total, source, each)
    return Travel(grid.neurons, *totals)
