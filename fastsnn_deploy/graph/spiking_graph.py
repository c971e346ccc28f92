"""The integer spiking graph: the one intermediate representation between lowering and every target."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

from fastsnn_deploy.errors import GraphError, InputError, Problem
from fastsnn_deploy.graph.encoded import Encoded
from fastsnn_deploy.graph.node import Node
from fastsnn_deploy.graph.nodes import Input, Population
from fastsnn_deploy.graph.ranges import Range, ranges
from fastsnn_deploy.graph.schedule import Schedule
from fastsnn_deploy.graph.spike_trains import SpikeTrains
from fastsnn_deploy.graph.summary import headline, layer_rows, layer_table, totals, totals_line
from fastsnn_deploy.graph.synapses import Synapse
from fastsnn_deploy.tables import Result, Table


@dataclass(frozen=True)
class SpikingGraph(Result):
    """A directed acyclic graph of spiking nodes, valid by construction.

    nodes: in an order in which every node follows its inputs (any order is accepted and sorted, keeping the given
    order where possible). outputs: names of the readouts or populations whose values are the answer.
    metadata: free text about the network (name, source, accuracy), never read by a computation; `ann` says what the
    network computes without spikes, for profiles.
    Raises GraphError listing every broken rule (`validate.RULES`).
    """

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    schedule: Schedule = field(default_factory=Schedule)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from fastsnn_deploy.graph.validate import problems_of

        object.__setattr__(self, "nodes", _sorted(tuple(self.nodes)))
        object.__setattr__(self, "outputs", tuple(self.outputs))
        problems = problems_of(self)
        if problems:
            raise GraphError("the spiking graph is not valid", problems)

    def __hash__(self) -> int:
        return hash((tuple(node.name for node in self.nodes), self.outputs))

    def __repr__(self) -> str:
        return headline(self)

    def report(self) -> tuple[Table | str, ...]:
        """A table of layers, how far `convert` found it to agree with its quantised model, and the totals."""
        agreement = filter(None, (self.metadata.get("agreement"),))
        return layer_table(layer_rows(self)), *agreement, totals_line(totals(self))

    def to_dict(self) -> dict[str, Any]:
        """Layers, totals, schedule and metadata as plain values; weights are not among them (`save` writes those)."""
        return {
            "outputs": list(self.outputs),
            "schedule": dataclasses.asdict(self.schedule),
            "layers": list(layer_rows(self)),
            "total": totals(self),
            "metadata": dict(self.metadata),
        }

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        """Node of each name."""
        return {node.name: node for node in self.nodes}

    def __getitem__(self, name: str) -> Node:
        return self.by_name[name]

    @cached_property
    def input(self) -> Input:
        """The one input of the graph."""
        return next(node for node in self.nodes if isinstance(node, Input))

    @overload
    def encode(self, images: SpikeTrains) -> SpikeTrains: ...
    @overload
    def encode(self, images: Any) -> Encoded: ...
    def encode(self, images: Any) -> Encoded | SpikeTrains:
        """Raw images as the input emits them; see `Input.encode`. What is encoded already is handed back.

        Args:
            images: uint8 0..255 or floats in units of the data (0..1 for pictures), NCHW or one image, NumPy or torch.

        Returns:
            int64 [N, *input shape]; of SpikeTrains these.

        Raises:
            InputError: as `Input.encode`; and SpikeTrains for a network that stops after its window, or that takes the
                whole image in every step: spikes enter once, and for as long as they do.
        """
        encoded: Encoded | SpikeTrains = self.input.encode(images)
        if isinstance(encoded, SpikeTrains) and (self.schedule.stop == "window" or self.schedule.repeats != 1):
            raise InputError(
                "the network stops after its window, and events enter for as long as they do. Convert it with schedule "
                "'settle' (export without --schedule window)"
            )
        return encoded

    @cached_property
    def ranges(self) -> Mapping[str, Range]:
        """How far each node can go in total, as `ranges.ranges` says."""
        return ranges(self.nodes, self.schedule.gain, self.schedule.repeats)

    @property
    def synapses(self) -> tuple[Synapse, ...]:
        """All synapses in order."""
        return tuple(node for node in self.nodes if isinstance(node, Synapse))

    @property
    def populations(self) -> tuple[Population, ...]:
        """All populations in order."""
        return tuple(node for node in self.nodes if isinstance(node, Population))

    @cached_property
    def depths(self) -> Mapping[str, int]:
        """Step from which on a node takes part: the last of its first spikes can arrive (input: 0; one a synapse and
        max pool), and a population has waited for its start delay."""
        depths: dict[str, int] = {}
        for node in self.nodes:
            arrivals = [depths[name] + delay for name, delay in zip(node.inputs, node.edge_delays, strict=True)]
            depths[node.name] = max(arrivals, default=0) + self.wait(node)
        return depths

    def fires(self, node: Node, step: int) -> bool:
        """Whether the schedule lets a population fire in a step."""
        since = step - self.depths[node.name]
        if self.schedule.stop == "window":
            return 0 <= since < self.schedule.duration
        return not self.schedule.start_delay or since >= 0

    def wait(self, node: Node) -> int:
        """Steps from the first synaptic input of a node until it may fire: the start delay of a population, else 0."""
        return self.schedule.start_delay if isinstance(node, Population) else 0

    def arrival(self, node: Node) -> int:
        """Step in which the last of a node's first spikes can arrive."""
        return self.depths[node.name] - self.wait(node)

    def bias_start(self, node: Node) -> int:
        """Step in which the bias of a population or readout begins to enter."""
        return 0 if self.schedule.bias == "initial" else self.arrival(node)

    @property
    def depth(self) -> int:
        """D: steps from the input to the last readout or output population."""
        return max(self.depths[name] for name in self.outputs)


def _sorted(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Stable topological order. Raises GraphError for duplicate names, unknown inputs and cycles."""
    names = [node.name for node in nodes]
    problems = [Problem(f"node '{name}'", "its name is used twice") for name in _duplicates(names)]
    known = set(names)
    for node in nodes:
        problems += [
            Problem(f"node '{node.name}'", f"reads '{name}', which does not exist")
            for name in node.inputs
            if name not in known
        ]
    if problems:
        raise GraphError("the spiking graph is not valid", problems)
    done: dict[str, Node] = {}
    waiting = list(nodes)
    while waiting:
        # the first ready node, so that an order that is already topological stays as it is
        ready = next((i for i, node in enumerate(waiting) if all(name in done for name in node.inputs)), None)
        if ready is None:
            cycle = ", ".join(f"'{node.name}'" for node in waiting)
            fix = "Recurrent networks need not settle: remove the loop"
            raise GraphError("the spiking graph is not valid", [Problem("graph", f"has a cycle among {cycle}", fix)])
        node = waiting.pop(ready)
        done[node.name] = node
    return tuple(done.values())


def _duplicates(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return sorted({name for name in names if name in seen or seen.add(name)})  # type: ignore[func-returns-value]
