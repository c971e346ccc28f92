"""Comparing integers: how many were compared, how many differ, and where the first difference is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import MaxPool2d, Node, Population, Readout, SpikingGraph
from fastsnn_deploy.graph.run import Run

Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Difference:
    """The first differing integer. position: (row, column) in a map, () in a vector; step: None without time."""

    layer: str
    module: str
    quantity: str
    image: int
    channel: int
    position: tuple[int, ...]
    step: int | None
    expected: int
    found: int

    def __str__(self) -> str:
        where = f"layer '{self.layer}'" + (f" (module {self.module})" if self.module else "")
        place = f", position {self.position}" if self.position else ""
        time = "" if self.step is None else f", step {self.step}"
        return (
            f"{where}, {self.quantity}: image {self.image}, channel {self.channel}{place}{time}: "
            f"expected {self.expected}, found {self.found}"
        )


@dataclass(frozen=True)
class Differences:
    """Integers compared so far. Adds up with +, keeping the first difference."""

    compared: int = 0
    differing: int = 0
    first: Difference | None = None

    def __add__(self, other: Differences) -> Differences:
        return Differences(self.compared + other.compared, self.differing + other.differing, self.first or other.first)

    def __str__(self) -> str:
        """`exact: K integers compared, 0 differ`, or how many differ and the first one."""
        if self.exact:
            return f"exact: {self.compared:,} integers compared, 0 differ"
        return f"NOT EXACT: {self.compared:,} integers compared, {self.differing:,} differ; first: {self.first}"

    @property
    def exact(self) -> bool:
        """True if nothing differs."""
        return self.differing == 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `first` in words."""
        first = None if self.first is None else str(self.first)
        return {"compared": self.compared, "differing": self.differing, "first": first}

    def shifted(self, images: int) -> Differences:
        """The same comparison with image numbers raised by `images`, for results of a later batch."""
        return self if self.first is None else replace(self, first=replace(self.first, image=self.first.image + images))


def compare_settled(graph: SpikingGraph, expected: Mapping[str, Ints], found: Callable[[str], Ints]) -> Differences:
    """The integer network's values against the settled values of every population, max pool and readout.

    expected: [N, *shape] by node name, from `integer_values`; found: the same of a node, as `Run.final`.
    """
    total = Differences()
    for node in settling(graph):
        quantity = "potential" if isinstance(node, Readout) else "settled count"
        total += compare(graph, node.name, quantity, expected[node.name], found(node.name), timed=False)
    return total


def settling(graph: SpikingGraph) -> tuple[Node, ...]:
    """What has a settled value: populations, max pools and readouts, in order."""
    return tuple(node for node in graph.nodes if isinstance(node, (Population, MaxPool2d, Readout)))


def compare_runs(graph: SpikingGraph, expected: Run, found: Run) -> Differences:
    """Two runs of equal length, step by step: every spike, and every count and potential that both recorded.

    Layers are compared in topological order; in the first that differs, the earliest step is named.
    """
    total = Differences()
    quantities = (
        ("spikes", expected.spikes, found.spikes),
        ("count", expected.counts, found.counts),
        ("potential", expected.potentials, found.potentials),
    )
    for node in graph.nodes:
        for quantity, ours, theirs in quantities:
            if node.name in ours and node.name in theirs:
                total += compare(graph, node.name, quantity, ours[node.name], theirs[node.name], timed=True)
    return total


def compare(graph: SpikingGraph, name: str, quantity: str, expected: Ints, found: Ints, timed: bool) -> Differences:
    """One layer. Arrays are [N, *shape], or [T, N, *shape] if `timed`. Raises ValueError if shapes differ."""
    if expected.shape != found.shape:
        raise ValueError(f"layer '{name}': expected an array of shape {expected.shape}, found {found.shape}")
    unequal = expected != found
    if not unequal.any():
        return Differences(expected.size)
    index = tuple(int(i) for i in np.argwhere(unequal)[0])
    step, (image, channel, *position) = (index[0], index[1:]) if timed else (None, index)
    first = Difference(
        layer=name, module=graph[name].module, quantity=quantity, image=image, channel=channel,
        position=tuple(position), step=step, expected=int(expected[index]), found=int(found[index]),
    )  # fmt: skip
    return Differences(expected.size, int(unequal.sum()), first)
