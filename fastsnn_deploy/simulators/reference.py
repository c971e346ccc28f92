"""The reference simulator: plain NumPy, integers, one time step after another. It defines what a graph does.

In step t every node, in topological order, sees the spikes that its sources emitted `delay` steps ago:
a population adds their synaptic input and its share of the bias, emits by its rule, and resets by subtraction;
a max pool adds spikes to its counts and emits the change of their maximum; a readout only adds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import Concat, Flatten, Input, MaxPool2d, Node, Population, Readout, SpikingGraph, Synapse
from fastsnn_deploy.graph.arithmetic import per_channel
from fastsnn_deploy.graph.integer_network import route
from fastsnn_deploy.graph.run import Run

Int64 = npt.NDArray[np.int64]


@dataclass
class _State:
    """Series of one node, a list with one array [N, *shape] per step, and its state variables."""

    spikes: list[Int64] = field(default_factory=list)
    counts: list[Int64] = field(default_factory=list)
    potentials: list[Int64] = field(default_factory=list)
    potential: Int64 | int = 0
    count: Int64 | int = 0
    incoming: Int64 | int = 0
    changed: bool = False


def simulate(graph: SpikingGraph, images: Any, steps: int | None = None) -> Run:
    """Run `graph` on a batch until nothing is in flight, or for exactly `steps` steps.

    images: raw or Encoded (`SpikingGraph.encode`); N may be 0.
    """
    simulation = Simulation(graph, np.asarray(graph.encode(images)))
    while simulation.time < steps if steps is not None else not simulation.quiet():
        simulation.step()
        if steps is None and simulation.time > simulation.longest:
            raise AssertionError(f"not settled after {simulation.longest} steps: the settling theorem is violated")
    return simulation.run()


class Simulation:
    """A run that can be advanced step by step; `simulate` and `stream` drive it."""

    def __init__(self, graph: SpikingGraph, emitted: Int64) -> None:
        self.graph = graph
        self.emitted = emitted.astype(np.int64)
        self.batch = len(emitted)
        self.time = 0
        self.last_change = np.full(self.batch, -1, dtype=np.int64)
        self.states = {node.name: _State() for node in graph.nodes}
        for node in graph.populations:
            initial = per_channel(node.initial, len(node.shape))
            self.states[node.name].potential = np.broadcast_to(initial, (self.batch, *node.shape)).copy()
            self.states[node.name].count = np.zeros((self.batch, *node.shape), dtype=np.int64)
        self.last_injection = max(graph.depths.values()) + graph.schedule.duration
        self.longest_delay = max(graph.depths.values()) + 1
        # each population on a path needs at most one step a count once its inputs rest (semantics: L * Z)
        self.longest = self.last_injection + 10_000 + sum(p.ceiling - p.floor for p in graph.populations)

    def quiet(self) -> bool:
        """No injection is to come and no spike is in flight."""
        if self.time <= self.last_injection:
            return False
        return self.time - 1 - int(self.last_change.max(initial=-1)) > self.longest_delay

    def step(self) -> None:
        """Advance every node by one time step."""
        for node in self.graph.nodes:
            self._advance(node, self.states[node.name])
        self.time += 1

    def _spikes(self, name: str, delay: int) -> Int64:
        """What a source emitted `delay` steps ago; zero before the run began."""
        series = self.states[name].spikes
        past = self.time - delay
        return series[past] if past >= 0 else np.zeros((self.batch, *self.graph[name].shape), dtype=np.int64)

    def _advance(self, node: Node, state: _State) -> None:
        if isinstance(node, Input):
            self._emit(state, self.injected())
        elif isinstance(node, Synapse):
            spikes = self._spikes(node.inputs[0], node.delay)
            empty = np.zeros((self.batch, *node.shape), dtype=np.int64)
            state.incoming = node.apply(spikes) if spikes.any() else empty
        elif isinstance(node, Population):
            self._fire(node, state)
        elif isinstance(node, Readout):
            synaptic_input = self._synaptic_input(node)
            state.potential = state.potential + synaptic_input
            state.potentials.append(np.asarray(state.potential))
            self._note_change(synaptic_input)
        elif isinstance(node, MaxPool2d):
            spikes = self._spikes(node.inputs[0], node.delay)
            before = state.count
            state.incoming = state.incoming + spikes  # running count of every input neuron
            state.count = node.apply(np.asarray(state.incoming))
            state.counts.append(state.count)
            self._emit(state, state.count - before)
        elif isinstance(node, Flatten):
            state.spikes.append(route(node, [self._spikes(node.inputs[0], 0)]))
        elif isinstance(node, Concat):
            arms = [self._spikes(name, delay) for name, delay in zip(node.inputs, node.delays, strict=True)]
            state.spikes.append(route(node, arms))

    def injected(self) -> Int64:
        """What the input emits in this step: int64 [N, *input shape]."""
        return self.graph.schedule.input_injection.share(self.emitted, self.time)

    def _synaptic_input(self, node: Population | Readout) -> Int64:
        """Synaptic input that arrives in this step, bias included: int64 [N, *shape]."""
        bias = self.graph.schedule.bias_injection.share(node.bias, self.time - self.graph.bias_start(node))
        total = np.zeros((self.batch, *node.shape), dtype=np.int64) + per_channel(bias, len(node.shape))
        for name in node.inputs:
            total += self.states[name].incoming
        return total

    def _fire(self, node: Population, state: _State) -> None:
        potential = np.asarray(state.potential) + self._synaptic_input(node)
        count = np.asarray(state.count)
        spikes = node.emit(potential, count)
        if not self.graph.fires(node, self.time):
            spikes = np.zeros_like(spikes)
        state.potential = potential - per_channel(node.threshold, len(node.shape)) * spikes
        state.count = count + spikes
        state.potentials.append(state.potential)
        state.counts.append(state.count)
        self._emit(state, spikes)

    def _emit(self, state: _State, spikes: Int64) -> None:
        state.spikes.append(spikes)
        self._note_change(spikes)

    def _note_change(self, values: Int64) -> None:
        self.last_change[values.any(axis=tuple(range(1, values.ndim)))] = self.time

    def run(self) -> Run:
        """All series so far."""

        def series(key: str, kinds: tuple[type[Node], ...]) -> dict[str, npt.NDArray[np.int32]]:
            empty = (0, self.batch)
            return {
                node.name: np.asarray(getattr(self.states[node.name], key), dtype=np.int32)
                if self.time
                else np.zeros((*empty, *node.shape), dtype=np.int32)
                for node in self.graph.nodes
                if isinstance(node, kinds)
            }

        return Run(
            steps=self.time,
            spikes=series("spikes", (Input, Population, MaxPool2d)),
            counts=series("counts", (Population, MaxPool2d)),
            potentials=series("potentials", (Population, Readout)),
            settle_steps=self.last_change + 1,
        )
