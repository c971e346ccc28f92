"""What each core of a layer holds, in the units of a chip's limits, and which cores its spikes go to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from fastsnn_deploy.analysis.chip import Chip, Limit
from fastsnn_deploy.analysis.mapping.grid import Grid, Int64, over
from fastsnn_deploy.analysis.mapping.kinds.base import power_of_two
from fastsnn_deploy.analysis.mapping.sites import Reader, Site

Usage = Mapping[str, Int64]
"""Each resource of `chip.CoreLimits` by name, int64 [cores]."""

Grids = Mapping[str, Grid]

RESOURCES = {
    "neurons": "neurons",
    "synapse_words": "SynMem",
    "axon_map_words": "AxonMap",
    "axon_memory_words": "AxonMem",
    "dense_list_words": "lists to dense layers",
    "total_words": "total",
    "input_axons": "axons read",
}
"""Every resource with its heading; those of the compiler's table have its names."""


def usage_of(site: Site, grid: Grid, readers: Iterable[Reader], grids: Grids, chip: Chip) -> Usage:
    """What each core of a layer holds.

    readers: what reads the layer. grids: tiles of the layers among them that take cores.
    """
    readers = tuple(readers)
    if chip.cutting == "whole layers":
        return _whole(site)
    used = stored(site, grid, readers, chip)
    shared, dense = (destinations(grid, readers, grids, only) for only in (True, False))
    entries = chip.rows.entries.value
    shared_words, dense_words = -(-axons(grid, readers) * shared // entries), -(-used["neurons"] * dense // entries)
    if chip.core.dense_list_words is None:  # a chip that keeps one kind of list
        shared_words, dense_words = -(-used["neurons"] * (shared + dense) // entries), np.zeros_like(dense)
    used["axon_memory_words"], used["dense_list_words"] = shared_words, dense_words
    used["total_words"] = used["total_words"] + shared_words
    return used


def stored(site: Site, grid: Grid, readers: tuple[Reader, ...], chip: Chip) -> dict[str, Int64]:
    """What does not depend on the tiles of other layers; lists of destinations are not in the total."""
    rows = (connection.tile_words(grid, chip.rows) for connection in site.connections)
    channels = sum(rows, np.zeros(grid.parts[0], dtype=np.int64))
    ones = (np.ones(grid.parts[axis], dtype=np.int64) for axis in (1, 2))
    groups = (chip.rows.groups if readers else chip.rows.groups_output).value
    used = {
        "neurons": grid.neurons * (chip.neurons_each if site.soft else 1),
        "synapse_words": over(channels, *ones),
        "axon_map_words": axons(grid, readers),
    }
    used["total_words"] = np.asarray(groups + np.sum(list(used.values()), axis=0, dtype=np.int64))
    if chip.core.input_axons is not None:
        reads = (connection.read_by(grid) for connection in site.connections)
        used["input_axons"] = sum(reads, np.zeros(grid.cores, dtype=np.int64))
    return used


def _whole(site: Site) -> Usage:
    """A layer on one core that addresses neurons and weights by bits of their coordinates.

    Source: sinabs, backend/dynapcnn/dynapcnn_layer.py, memory_summary.
    """
    channels, height, width = site.map
    used = dict.fromkeys((key for key in RESOURCES if key != "input_axons"), 0)
    used["neurons"] = channels * power_of_two(height) * power_of_two(width)
    used["synapse_words"] = sum(connection.whole_words() for connection in site.connections)
    used["total_words"] = used["neurons"] + used["synapse_words"]
    return {key: np.array([number]) for key, number in used.items()}


def axons(grid: Grid, readers: tuple[Reader, ...]) -> Int64:
    """Axons of each core: one a position if all that reads the layer shares its weights, else one a neuron."""
    return grid.positions if shares_axons(readers) else grid.neurons


def shares_axons(readers: tuple[Reader, ...]) -> bool:
    """Whether something reads the layer, and all that does shares its weights."""
    return bool(readers) and all(connection.shared for _, connection, _ in readers)


def destinations(grid: Grid, readers: Iterable[Reader], grids: Grids, shared: bool | None = None) -> Int64:
    """Cores that each core sends its spikes to, int64 [cores]; one that reads by two connections counts twice.

    shared: only readers that share their weights, or only those that do not.
    """
    number = np.zeros(grid.cores, dtype=np.int64)
    for site, connection, part in readers:
        if shared is None or connection.shared == shared:
            first, _ = connection.pairs(part, grid, grids[site.name])
            number += np.bincount(first, minlength=grid.cores)
    return number


def limits_of(chip: Chip) -> dict[str, Limit]:
    """The limits of a core that the profile states, by resource."""
    return dict(chip.core.given())


def worst(used: Usage, chip: Chip) -> tuple[str, float]:
    """The resource of which a core holds the greatest share of its limit, and that share."""
    shares = {key: float(used[key].max()) / limit.value for key, limit in limits_of(chip).items()}
    if not shares:
        return "", 0.0
    key = max(shares, key=lambda each: shares[each])
    return key, shares[key]
