"""The integer spiking graph: the one intermediate representation between lowering and every target."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from fastsnn_deploy.errors import GraphError, Problem
from fastsnn_deploy.graph.node import Node
from fastsnn_deploy.graph.nodes import Concat, Input, MaxPool2d, Population, Readout
from fastsnn_deploy.graph.synapses import Synapse


@dataclass(frozen=True)
class Schedule:
    """How input and bias are spread over time. It changes spikes and steps, never a settled count.

    window: T0, the injection window in steps, the same for the whole network (2**bits - 1).
    input: "once" (one graded spike in step 0) or "spread" (T0 even parts, one a step).
    bias: "wave" (all in the step in which the first synaptic input can arrive), "spread" (T0 even parts from that step
    on), or "initial" (in step 0).
    stop: "settled" (populations fire until nothing changes any more) or "window" (each fires only in the T0 steps
    from its depth on, as published for Fast-SNN: such a network need not reach the integer network's answer).
    """

    window: int = 1
    input: Literal["once", "spread"] = "once"
    bias: Literal["wave", "spread", "initial"] = "wave"
    stop: Literal["settled", "window"] = "settled"


@dataclass(frozen=True)
class SpikingGraph:
    """A directed acyclic graph of spiking nodes, valid by construction.

    nodes: in an order in which every node follows its inputs (any order is accepted and sorted, keeping the given
    order where possible). outputs: names of the readouts or populations whose values are the answer.
    metadata: free text about the network (name, source, accuracy), never read by a computation.
    Raises GraphError listing every broken rule (`validate.RULES`).
    """

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    schedule: Schedule = Schedule()
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
        """Step in which the last of a node's first spikes can arrive (input: 0); one a synapse and max pool."""
        depths: dict[str, int] = {}
        for node in self.nodes:
            arrivals = [depths[name] + delay for name, delay in zip(node.inputs, edge_delays(node), strict=True)]
            depths[node.name] = max(arrivals, default=0)
        return depths

    def fires(self, node: Node, step: int) -> bool:
        """Whether the schedule lets a population fire in a step."""
        return self.schedule.stop == "settled" or 0 <= step - self.depths[node.name] < self.schedule.window

    @property
    def depth(self) -> int:
        """D: steps from the input to the last readout or output population."""
        return max(self.depths[name] for name in self.outputs)


def edge_delays(node: Node) -> tuple[int, ...]:
    """Delay in steps of each of the node's inputs."""
    if isinstance(node, (Synapse, MaxPool2d)):
        return (node.delay,) * len(node.inputs)
    if isinstance(node, Concat):
        return node.delays
    return (0,) * len(node.inputs)


def balanced(graph: SpikingGraph) -> SpikingGraph:
    """The same graph with delays chosen so that all arms into a population, readout or concat arrive together.

    A delay is lengthened, never shortened. Balanced arms avoid negative spikes that early partial sums cause.
    """
    depths: dict[str, int] = {}
    nodes: dict[str, Node] = dict(graph.by_name)
    for node in graph.nodes:
        inputs = [nodes[name] for name in node.inputs]
        if isinstance(node, Concat):
            target = max(depths[name] for name in node.inputs)
            nodes[node.name] = dataclasses.replace(node, delays=tuple(target - depths[name] for name in node.inputs))
            depths[node.name] = target
            continue
        arrivals = [depths[name] + delay for name, delay in zip(node.inputs, edge_delays(node), strict=True)]
        depths[node.name] = max(arrivals, default=0)
        if isinstance(node, (Population, Readout)):
            for synapse, arrival in zip(inputs, arrivals, strict=True):
                if isinstance(synapse, Synapse) and arrival < depths[node.name]:
                    lag = depths[node.name] - arrival
                    nodes[synapse.name] = dataclasses.replace(synapse, delay=synapse.delay + lag)
                    depths[synapse.name] += lag
    return dataclasses.replace(graph, nodes=tuple(nodes[node.name] for node in graph.nodes))


def with_code(graph: SpikingGraph, code: str) -> SpikingGraph:
    """The same graph with every population using emission rule `code`."""
    nodes = (dataclasses.replace(n, code=code) if isinstance(n, Population) else n for n in graph.nodes)
    return dataclasses.replace(graph, nodes=tuple(nodes))


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
