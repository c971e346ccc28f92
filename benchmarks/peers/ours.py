"""Our engine: runs every image until it has settled, which gives the quantised network's integers."""

from __future__ import annotations

import copy
import dataclasses

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import Node, Population, Readout, Schedule, SpikingGraph
from fastsnn_deploy.simulators import open_engine
from peers.base import Contender, Int64, NotAvailableError, Options, Values, contender

RECORDED_NEURONS = 3_000_000
"""Of all images together that are recorded in one run: a few GB for some tens of steps."""


@contender("ours")
class Ours(Contender):
    """fastsnn_deploy.simulators, by default "cpu"."""

    title = "fastsnn-deploy (settled)"
    semantics = "integer network"

    def __init__(self, graph: SpikingGraph, steps: int, options: Options) -> None:
        super().__init__(graph, steps, options)
        try:
            self.engine = open_engine(graph, options.engine, options.threads)
        except InputError as error:
            raise NotAvailableError(str(error)) from error

    def on(self, engine: str) -> Ours:
        """The same simulation on another engine."""
        other = copy.copy(self)
        other.engine = open_engine(self.graph, engine, self.options.threads)
        return other

    def run(self, emitted: Int64) -> object:
        return self.run_for(emitted, None)

    def run_for(self, emitted: Int64, steps: int | None) -> list[int]:
        """Steps that each batch took; `steps` fixes them, None runs until all images of a batch have settled."""
        size = self.engine.batch_size
        batches = (emitted[first : first + size] for first in range(0, len(emitted), size))
        return [self.engine.run(batch, steps).steps for batch in batches]

    def values(self, emitted: Int64) -> Values:
        last = {}
        for nodes in self._groups(len(emitted)):
            run = self.engine.run(emitted, record=[node.name for node in nodes])
            for node in nodes:
                series = run.recorded[node.name]
                kept = series.potentials if isinstance(node, Readout) else series.counts
                assert kept is not None
                last[node.name] = kept[-1].copy()
        return last

    def _groups(self, images: int) -> list[list[Node]]:
        """Populations and readouts, as many together as have room for the records of all their steps."""
        groups: list[list[Node]] = [[]]
        for node in self.graph.nodes:
            if isinstance(node, (Population, Readout)):
                if images * sum(other.size for other in (*groups[-1], node)) > RECORDED_NEURONS and groups[-1]:
                    groups.append([])
                groups[-1].append(node)
        return groups

    def details(self) -> dict[str, object]:
        return {"engine": self.options.engine, "threads": self.options.threads, "batch": self.engine.batch_size}


@contender("ours-window")
class OursWindow(Ours):
    """The same engine on the published schedule: every layer fires for T steps, as long as the peers simulate it."""

    title = "fastsnn-deploy (T steps)"
    semantics = None  # `simulate.check_ours` compares it with the reference, step by step the same rule

    def __init__(self, graph: SpikingGraph, steps: int, options: Options) -> None:
        schedule = Schedule(window=steps, input="spread", bias="spread", stop="window")
        super().__init__(dataclasses.replace(graph, schedule=schedule), steps, options)
