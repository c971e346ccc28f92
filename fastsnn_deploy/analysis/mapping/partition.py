"""Which tile each layer is cut into: the one with the fewest cores, or as many cores as there are, evenly loaded.

Rules are those of the compiler that a profile names (`chip.cutting`); what they reproduce is in docs/mapping.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from fastsnn_deploy.analysis.chip import Chip
from fastsnn_deploy.analysis.mapping.grid import Grid, Shape, halves, powers, tile_sizes
from fastsnn_deploy.analysis.mapping.sites import Reader, Site, readers_of
from fastsnn_deploy.analysis.mapping.usage import Usage, limits_of, shares_axons, stored, usage_of, worst


@dataclass
class Partition:
    """Tiles of every layer that takes cores, in work. grids, used: by layer. over: layers that no tile brings within
    the limits."""

    sites: tuple[Site, ...]
    chip: Chip
    grids: dict[str, Grid] = field(default_factory=dict)
    used: dict[str, Usage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.readers = readers_of(self.sites)
        self.placed = tuple(site for site in self.sites if site.placed)

    @property
    def cores(self) -> int:
        """Cores of all layers."""
        return sum(grid.cores for grid in self.grids.values())

    @property
    def over(self) -> tuple[Site, ...]:
        """Layers with a core beyond a limit."""
        return tuple(site for site in self.placed if worst(self.used[site.name], self.chip)[1] > 1)

    def usage(self, site: Site, grid: Grid) -> Usage:
        """What the cores of a layer hold with these tiles; what reads it has its tiles."""
        return usage_of(site, grid, self.readers[site.name], self.grids, self.chip)

    def set(self, site: Site, grid: Grid) -> None:
        """Cut a layer."""
        self.grids[site.name] = grid
        self.used[site.name] = self.usage(site, grid)


def fewest_cores(sites: tuple[Site, ...], chip: Chip) -> Partition:
    """Every layer on as few cores as the limits allow; a layer that fits in no tile keeps the one that is least over.

    Readers come first: what they are cut into decides how long the lists of destinations are.
    """
    partition = Partition(sites, chip)
    for site in reversed(partition.placed):
        _cut(partition, site)
    return partition


def _cut(partition: Partition, site: Site) -> None:
    least, held = math.inf, partition.chip.usable_cores.value * partition.chip.most_chips
    for grid in candidates(site, partition.readers[site.name], partition.chip):
        if least < math.inf and grid.cores > held:
            break  # no board has so many cores, and what follows takes more
        used = partition.usage(site, grid)
        share = worst(used, partition.chip)[1]
        if share < least:
            least = share
            partition.grids[site.name], partition.used[site.name] = grid, used
        if share <= 1:
            break


def candidates(site: Site, readers: tuple[Reader, ...], chip: Chip) -> Iterator[Grid]:
    """Tiles in the order in which the compiler would take them; if none fits before lists are counted, the smallest."""
    if chip.cutting == "whole layers":
        yield Grid(site.map, site.map)
        return
    made = _along_width if chip.cutting == "width" else _along_every_axis
    none = True
    for grid in made(site, readers, chip):
        none = False
        yield grid
    if none:
        yield Grid(site.map, _smallest(site, chip))


def _smallest(site: Site, chip: Chip) -> Shape:
    channels, height, _ = site.map
    return (channels, height, 1) if chip.cutting == "width" and len(site.shape) > 1 else (1, 1, 1)


def _along_every_axis(site: Site, readers: tuple[Reader, ...], chip: Chip) -> Iterator[Grid]:
    """Columns in powers of two, rows and channels in halves, vectors in any number of even parts; fewest cores first.

    Of tiles with as many cores, those with the most channels come first, then those whose rows are cut into the
    greatest power of two that is no more than the square root of the cores that the neurons alone would need.
    """
    channels, height, width = site.map
    lengths = tile_sizes(channels) if len(site.shape) == 1 else halves(channels)
    needed = site.neurons * (chip.neurons_each if site.soft else 1)
    ratio = max(needed / chip.core.neurons.value, 1.0) if chip.core.neurons else 1.0
    wanted = math.floor(math.log2(ratio) / 2)
    grids = (Grid(site.map, (c, h, w)) for c in lengths for h in halves(height) for w in powers(width))

    def rank(grid: Grid) -> tuple[float, ...]:
        parts = grid.parts
        return math.prod(parts), parts[0], abs(math.log2(parts[1]) - wanted), parts[1]

    may_fit = _first_core(site, readers, chip)
    yield from (grid for grid in sorted(grids, key=rank) if may_fit(grid.tile))


def _along_width(site: Site, readers: tuple[Reader, ...], chip: Chip) -> Iterator[Grid]:
    """Maps: the widest power of two. Vectors: parts in proportion to what is over, then in halves."""
    channels, height, width = site.map
    if len(site.shape) > 1:
        grids = (Grid(site.map, (channels, height, columns)) for columns in powers(width))
    else:
        grids = (Grid(site.map, (length, 1, 1)) for length in _halved(site, readers, chip))
    may_fit = _first_core(site, readers, chip)
    yield from (grid for grid in grids if may_fit(grid.tile))


def _halved(site: Site, readers: tuple[Reader, ...], chip: Chip) -> Iterator[int]:
    channels = site.map[0]
    yield channels
    parts = math.ceil(worst(_stored(site, Grid(site.map, site.map), readers, chip), chip)[1])
    length = -(-channels // max(parts, 1))
    while length > 1:
        yield length
        length = -(-length // 2)
    yield 1


def _first_core(site: Site, readers: tuple[Reader, ...], chip: Chip) -> Callable[[Shape], bool]:
    """Whether the first core of a tile is within the limits, lists of destinations left out. No other core has more
    neurons than the first, so that what does not fit here fits nowhere."""
    groups = (chip.rows.groups if readers else chip.rows.groups_output).value
    shared = shares_axons(readers)
    limits = {key: limit.value for key, limit in limits_of(chip).items()}

    @cache
    def words(channels: int) -> int:
        return sum(connection.words(0, channels, chip.rows) for connection in site.connections)

    def fits(tile: Shape) -> bool:
        neurons = math.prod(tile) * (chip.neurons_each if site.soft else 1)
        if neurons > limits.get("neurons", neurons):
            return False
        rows = words(tile[0])
        total = neurons + rows + (tile[1] * tile[2] if shared else math.prod(tile)) + groups
        return rows <= limits.get("synapse_words", rows) and total <= limits.get("total_words", total)

    return fits


def _stored(site: Site, grid: Grid, readers: tuple[Reader, ...], chip: Chip) -> Usage:
    used = stored(site, grid, readers, chip)
    zero = np.zeros_like(used["neurons"])
    return {"axon_memory_words": zero, "dense_list_words": zero} | used


def balanced(sites: tuple[Site, ...], chip: Chip, cores: int) -> Partition:
    """The partition whose fullest core holds least, on at most `cores`: its layer is cut finer, as long as it helps.

    How full a core is: the greatest share that it holds of any limit. A cut that brings any layer beyond a limit, or
    that has no room, ends the search for its layer.
    """
    partition = fewest_cores(sites, chip)
    if partition.over:
        return partition
    ladders = {site.name: iter(_ladder(partition, site)) for site in partition.placed}
    fixed: set[str] = set()
    while len(fixed) < len(partition.placed):
        site = max(
            (each for each in partition.placed if each.name not in fixed),
            key=lambda each: worst(partition.used[each.name], chip)[1],
        )
        share = worst(partition.used[site.name], chip)[1]
        if share < max((worst(partition.used[name], chip)[1] for name in fixed), default=0.0):
            break  # the busiest core is one that cannot hold less
        finer = next((grid for grid in ladders[site.name] if _helps(partition, site, grid, share, cores)), None)
        if finer is None:
            fixed.add(site.name)
    return partition


def _ladder(partition: Partition, site: Site) -> Iterator[Grid]:
    """Finer and finer tiles: for each number of cores the one whose fullest core holds least."""
    chip, readers = partition.chip, partition.readers[site.name]
    best: dict[int, tuple[float, Grid]] = {}
    for grid in candidates(site, readers, chip):
        share = worst(_stored(site, grid, readers, chip), chip)[1]
        if grid.cores > partition.grids[site.name].cores and share < best.get(grid.cores, (math.inf,))[0]:
            best[grid.cores] = share, grid
    yield from (best[cores][1] for cores in sorted(best))


def _helps(partition: Partition, site: Site, grid: Grid, share: float, cores: int) -> bool:
    """Cut a layer so, if it has room and makes its fullest core less full and no other too full; otherwise undo it."""
    before = partition.grids[site.name]
    if partition.cores - before.cores + grid.cores > cores:
        return False
    touched = [site, *_sources(partition, site)]
    kept = [(each, partition.grids[each.name], partition.used[each.name]) for each in touched]
    partition.set(site, grid)
    for source in touched[1:]:
        partition.set(source, partition.grids[source.name])
    shares = [worst(partition.used[each.name], partition.chip)[1] for each in touched]
    if shares[0] < share and max(shares[1:], default=0.0) <= share:
        return True
    for each, old, used in kept:
        partition.grids[each.name], partition.used[each.name] = old, used
    return False


def _sources(partition: Partition, site: Site) -> list[Site]:
    by_name: Mapping[str, Site] = {each.name: each for each in partition.placed}
    names = {part.layer for connection in site.connections for part in connection.parts}
    return [by_name[name] for name in names if name in by_name]
