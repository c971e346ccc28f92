"""Builds the Lava processes of a spiking graph. Imports Lava, so only the job imports this.

Maps are (W, H, C) in Lava and (C, H, W) in the graph; vectors are (N,) in both. The channel is Lava's last axis.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from fastsnn_deploy.backends.lava.processes.accumulator import Accumulator
from fastsnn_deploy.backends.lava.processes.clock import Clock
from fastsnn_deploy.backends.lava.processes.max_pool import EventMaxPool
from fastsnn_deploy.backends.lava.processes.recorder import Recorder
from fastsnn_deploy.backends.lava.processes.relay import Relay
from fastsnn_deploy.backends.lava.processes.signed_if import SignedIF
from fastsnn_deploy.backends.lava.processes.source import ImageSource
from fastsnn_deploy.backends.lava.synapses import Wire, connect_synapse, join
from fastsnn_deploy.backends.lava.timing import Timing
from fastsnn_deploy.graph import Concat, Flatten, Input, MaxPool2d, Node, Population, Readout, SpikingGraph, Synapse


class Network:
    """The processes of a graph, connected.

    folder: holds `images.npy` and `progress.npy`, receives one file for each recorded series.
    spikes, potentials: names of the nodes to record. models: 'fast' or 'stock'.
    starts: of the frames of a stream; rows: of what enters step by step: see `ImageSource`.
    root: one of the processes; running it runs all.
    """

    def __init__(
        self,
        graph: SpikingGraph,
        timing: Timing,
        folder: Path,
        *,
        spikes: Collection[str],
        potentials: Collection[str],
        models: str,
        starts: tuple[int, ...] = (),
        rows: int = 0,
    ) -> None:
        self.graph = graph
        self.timing = timing
        self.folder = folder
        self.models = models
        self.starts, self.rows = starts, rows
        self.numbers = {node.name: index for index, node in enumerate(graph.nodes)}
        self.wires: dict[str, list[Wire]] = {}
        self.root: Any = None
        for node in graph.nodes:
            ports = self._build(node)
            for kind, names in (("spikes", spikes), ("potentials", potentials)):
                if node.name in names:
                    self._record(node, kind, ports[kind])

    def _build(self, node: Node) -> dict[str, Any]:
        """The process of a node; returns the ports that can be recorded. Synapses are built with their population."""
        return {} if isinstance(node, Synapse) else BUILD[type(node)](self, node)

    def _readout(self, node: Readout) -> dict[str, Any]:
        readout = Accumulator(shape=_lava(node.shape), bias=_int32(node.bias), **self._bias(node))
        self._connect_input(node, readout.a_in)
        return {"potentials": readout.v_out}

    def _flatten(self, node: Flatten) -> dict[str, Any]:
        self.wires[node.name] = [_flat(wire) for wire in self._source(node, 0)]
        return {}

    def _input(self, node: Input) -> dict[str, Any]:
        injection = self.graph.schedule.input_injection
        self.root = ImageSource(
            shape=_lava(node.shape),
            images=str(self.folder / "images.npy"),
            progress=str(self.folder / "progress.npy"),
            parts=injection.window,
            steps=injection.steps,
            clock=self._clock(node),
            starts=self.starts,
            rows=self.rows,
        )
        return {"spikes": self._emit(node, self.root.s_out)}

    def _population(self, node: Population) -> dict[str, Any]:
        schedule = self.graph.schedule
        held = schedule.stop == "window" or schedule.start_delay > 0
        neurons = SignedIF(
            shape=_lava(node.shape),
            threshold=_int32(node.threshold),
            initial=_int32(node.initial),
            bias=_int32(node.bias),
            floor=node.floor,
            ceiling=node.ceiling,
            min_spike=node.min_spike,
            max_spike=node.max_spike,
            fire_start=self.graph.depths[node.name] - self.timing.offsets[node.name] if held else 0,
            fire_steps=schedule.duration if schedule.stop == "window" else None,
            **self._bias(node),
        )
        self._connect_input(node, neurons.a_in)
        return {"spikes": self._emit(node, neurons.s_out), "potentials": neurons.v_out}

    def _max_pool(self, node: MaxPool2d) -> dict[str, Any]:
        source = self.graph[node.inputs[0]]
        pool = EventMaxPool(
            shape=_lava(source.shape),
            output_shape=_lava(node.shape),
            kernel=node.kernel[::-1],
            stride=node.stride[::-1],
            padding=node.padding[::-1],
            dilation=node.dilation[::-1],
            clock=self._clock(node),
        )
        join(self._late(self._source(node, 0), source.shape, node.delay - 1), pool.s_in)
        return {"spikes": self._emit(node, pool.s_out)}

    def _concat(self, node: Concat) -> dict[str, Any]:
        """One relay for each arm, which places it among all channels; the reader's input port adds them."""
        wires: list[Wire] = []
        first = 0
        for index, name in enumerate(node.inputs):
            shape = self.graph[name].shape
            arm = self._source(node, index)
            wires += self._relay(arm, shape, node.delays[index], channels=node.channels, first=first)
            first += shape[0]
        self.wires[node.name] = wires
        return {}

    def _connect_input(self, node: Node, port: Any) -> None:
        for name in node.inputs:
            synapse = self.graph[name]
            assert isinstance(synapse, Synapse)  # a rule of the graph
            shape = self.graph[synapse.inputs[0]].shape
            wires = self._late(self._source(synapse, 0), shape, synapse.delay - 1)
            connect_synapse(synapse, shape, wires, port, self.models)

    def _source(self, node: Node, index: int) -> list[Wire]:
        return self.wires[node.inputs[index]]

    def _late(self, wires: list[Wire], shape: tuple[int, ...], lag: int) -> list[Wire]:
        """The same spikes `lag` steps later."""
        return self._relay(wires, shape, lag, channels=shape[0], first=0) if lag else wires

    def _relay(self, wires: list[Wire], shape: tuple[int, ...], delay: int, *, channels: int, first: int) -> list[Wire]:
        relay = Relay(shape=_lava(shape), delay=delay, channels=channels, first=first)
        join(wires, relay.s_in)
        return [lambda: relay.s_out]

    def _emit(self, node: Node, port: Any) -> Any:
        self.wires[node.name] = [lambda: port]
        return port

    def _clock(self, node: Node) -> Clock:
        timing = self.timing
        return Clock(timing.period, timing.offsets[node.name], timing.steps, timing.images)

    def _bias(self, node: Node) -> dict[str, Any]:
        injection = self.graph.schedule.bias_injection
        return {
            "clock": self._clock(node),
            "bias_start": self.graph.bias_start(node) - self.timing.offsets[node.name],
            "bias_parts": injection.window,
            "bias_steps": injection.steps,
        }

    def _record(self, node: Node, kind: str, port: Any) -> None:
        file = series_file(self.folder, kind, self.numbers[node.name])
        shape = _lava(node.shape)
        series = (self.timing.images, self.timing.steps, *shape)
        open_memmap(file, mode="w+", dtype=np.int32, shape=series)  # type: ignore[no-untyped-call]
        port.connect(Recorder(shape=shape, file=str(file), clock=self._clock(node)).a_in)


BUILD: dict[type[Node], Callable[[Network, Any], dict[str, Any]]] = {
    Input: Network._input, Population: Network._population, Readout: Network._readout, MaxPool2d: Network._max_pool,
    Flatten: Network._flatten, Concat: Network._concat,
}  # fmt: skip
"""How each type of node is built."""


def series_file(folder: Path, kind: str, number: int) -> Path:
    """Where the series of the node with that number is recorded."""
    return folder / f"{kind}-{number}.npy"


def _lava(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[::-1]


def _int32(values: Any) -> Any:
    return np.asarray(values, dtype=np.int32)


def _flat(wire: Wire) -> Wire:
    """(W, H, C) -> a vector in C, H, W order."""

    def flattened() -> Any:
        port = wire()
        return port if len(port.shape) == 1 else port.transpose([2, 1, 0]).flatten()

    return flattened
