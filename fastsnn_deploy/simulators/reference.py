"""The reference simulator: plain NumPy, integers, one time step after another. It defines what a graph does.

In step t every node, in topological order, sees the spikes that its sources emitted `delay` steps ago:
a population adds their synaptic input and its share of the bias, emits by its rule, and resets by subtraction;
a max pool adds spikes to its counts and emits the change of their maximum; a readout only adds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import Concat, Flatten, Input, MaxPool2d, Node, Population, Readout, SpikingGraph, Synapse
from fastsnn_deploy.graph.arithmetic import per_channel
from fastsnn_deploy.graph.integer_network import answer_scales
from fastsnn_deploy.graph.node import NODE_TYPES
from fastsnn_deploy.graph.run import Run
from fastsnn_deploy.graph.spike_trains import Emitted, SpikeTrains, entering

Int64 = npt.NDArray[np.int64]

SYNAPSES = tuple(kind for kind in NODE_TYPES.values() if issubclass(kind, Synapse))


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

    images: raw or Encoded (`SpikingGraph.encode`), or SpikeTrains; N may be 0.
    """
    return finished(Simulation(graph, graph.encode(images)), steps)


def finished(simulation: Simulation, steps: int | None = None) -> Run:
    """Advance until nothing is in flight, or to exactly `steps` steps."""
    while simulation.time < steps if steps is not None else not simulation.quiet():
        simulation.step()
        if steps is None and simulation.time > simulation.longest:
            raise AssertionError(f"not settled after {simulation.longest} steps: the settling theorem is violated")
    return simulation.run()


class Simulation:
    """A run that can be advanced step by step; `simulate` and `stream` drive it."""

    def __init__(self, graph: SpikingGraph, emitted: Emitted) -> None:
        self.graph = graph
        plain = emitted if isinstance(emitted, SpikeTrains) else np.asarray(emitted, dtype=np.int64)
        steps, self.injected_in = entering(plain, graph.schedule.input_injection)
        self.batch = len(emitted)
        self.time = 0
        self.last_change = np.full(self.batch, -1, dtype=np.int64)
        self.states = {node.name: _State() for node in graph.nodes}
        for node in graph.populations:
            initial = per_channel(node.initial, len(node.shape))
            self.states[node.name].potential = np.broadcast_to(initial, (self.batch, *node.shape)).copy()
            self.states[node.name].count = np.zeros((self.batch, *node.shape), dtype=np.int64)
        self.last_injection = max(graph.depths.values()) + max(graph.schedule.duration, steps)
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
            ADVANCE[type(node)](self, node, self.states[node.name])
        self.time += 1

    def spikes(self, name: str, delay: int) -> Int64:
        """What a source emitted `delay` steps ago; zero before the run began."""
        series = self.states[name].spikes
        past = self.time - delay
        return series[past] if past >= 0 else np.zeros((self.batch, *self.graph[name].shape), dtype=np.int64)

    def injected(self) -> Int64:
        """What the input emits in this step: int64 [N, *input shape]."""
        return self.injected_in(self.time)

    def arriving(self, node: Population | Readout) -> Int64:
        """Synaptic input that arrives in this step, bias included: int64 [N, *shape]."""
        bias = self.graph.schedule.bias_injection.share(node.bias, self.time - self.graph.bias_start(node))
        total = np.zeros((self.batch, *node.shape), dtype=np.int64) + per_channel(bias, len(node.shape))
        for name in node.inputs:
            total += self.states[name].incoming
        return total

    def emit(self, state: _State, spikes: Int64) -> None:
        state.spikes.append(spikes)
        self.note_change(spikes)

    def note_change(self, values: Int64) -> None:
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
            scales=answer_scales(self.graph),
        )


Advance = Callable[[Simulation, Any, _State], None]

ADVANCE: dict[type[Node], Advance] = {}
"""One step of each type of node."""


def advances(*types: type[Node]) -> Callable[[Advance], Advance]:
    """Register what nodes of a type do in one step: advance(simulation, node, state)."""

    def decorator(rule: Advance) -> Advance:
        ADVANCE.update(dict.fromkeys(types, rule))
        return rule

    return decorator


@advances(Input)
def _send(simulation: Simulation, node: Input, state: _State) -> None:
    simulation.emit(state, simulation.injected())


@advances(*SYNAPSES)
def _deliver(simulation: Simulation, node: Synapse, state: _State) -> None:
    spikes = simulation.spikes(node.inputs[0], node.delay)
    empty = np.zeros((simulation.batch, *node.shape), dtype=np.int64)
    state.incoming = node.apply(spikes) if spikes.any() else empty


@advances(Population)
def _fire(simulation: Simulation, node: Population, state: _State) -> None:
    potential, count = np.asarray(state.potential) + simulation.arriving(node), np.asarray(state.count)
    fires = simulation.graph.fires(node, simulation.time)
    spikes = node.emit(potential, count) if fires else np.zeros_like(potential)
    state.potential = potential - per_channel(node.threshold, len(node.shape)) * spikes
    state.count = count + spikes
    state.potentials.append(state.potential)
    state.counts.append(state.count)
    simulation.emit(state, spikes)


@advances(Readout)
def _read(simulation: Simulation, node: Readout, state: _State) -> None:
    arriving = simulation.arriving(node)
    state.potential = state.potential + arriving
    state.potentials.append(np.asarray(state.potential))
    simulation.note_change(arriving)


@advances(MaxPool2d)
def _pool(simulation: Simulation, node: MaxPool2d, state: _State) -> None:
    before = state.count
    state.incoming = state.incoming + simulation.spikes(node.inputs[0], node.delay)  # net count of every input neuron
    state.count = node.apply(np.asarray(state.incoming))
    state.counts.append(state.count)
    simulation.emit(state, state.count - before)


@advances(Flatten, Concat)
def _route(simulation: Simulation, node: Node, state: _State) -> None:
    arms = [simulation.spikes(name, delay) for name, delay in zip(node.inputs, node.edge_delays, strict=True)]
    state.spikes.append(node.value(*arms))
