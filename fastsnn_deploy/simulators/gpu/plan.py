"""Everything about a graph that does not depend on the images: tensors on the device and the order of releases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from fastsnn_deploy.graph import Identity, Population, Readout, SpikingGraph, Synapse
from fastsnn_deploy.simulators.engine import Int64
from fastsnn_deploy.simulators.gpu.kernels import FusedConv, Kernels, fuse
from fastsnn_deploy.simulators.gpu.neurons import Cell, make_cell
from fastsnn_deploy.simulators.gpu.payloads import payloads
from fastsnn_deploy.simulators.gpu.synaptic_inputs import IdentitySynapticInput, SynapticInput, make_synaptic_input


@dataclass(frozen=True)
class Bias:
    """Bias of one population or readout. start: global step of the first share. shares: int32 [T, C], T may be 0."""

    start: int
    shares: torch.Tensor

    @property
    def end(self) -> int:
        """Global step after the last share."""
        return self.start + len(self.shares)


@dataclass(frozen=True)
class Plan:
    """A graph on a device.

    payloads: greatest |spike| of each channel of each spike source. synaptic inputs: by synapse; joined: synapses whose
    synaptic input is in that of another; fused: the synapses that the convolution kernel takes; cells: by population;
    biases: by population and readout; released: by node, the sources that nobody reads after it. kernels: the Triton
    kernels, or None where they cannot run.
    """

    graph: SpikingGraph
    device: torch.device
    payloads: Mapping[str, Int64]
    synaptic_inputs: Mapping[str, SynapticInput]
    joined: frozenset[str]
    cells: Mapping[str, Cell]
    fused: Mapping[str, FusedConv]
    biases: Mapping[str, Bias]
    released: Mapping[str, tuple[str, ...]]
    kernels: Kernels | None


def make_plan(graph: SpikingGraph, device: torch.device, kernels: Kernels | None) -> Plan:
    """Move a graph to a device."""
    sent = payloads(graph)
    synapses = graph.synapses if kernels is not None else ()
    forms = {s.name: fuse(s, sent[s.inputs[0]], device) for s in synapses}
    synaptic_inputs = {s.name: make_synaptic_input(s, sent[s.inputs[0]], device) for s in graph.synapses}
    joined = _join_identities(graph, synaptic_inputs)
    return Plan(
        graph=graph,
        device=device,
        payloads=sent,
        synaptic_inputs=synaptic_inputs,
        joined=joined,
        fused={name: form for name, form in forms.items() if form is not None},
        cells={p.name: make_cell(p, sent[p.name], device) for p in graph.populations},
        biases={n.name: _bias(graph, n, device) for n in graph.nodes if isinstance(n, (Population, Readout))},
        released=_releases(graph),
        kernels=kernels,
    )


def _join_identities(graph: SpikingGraph, synaptic_inputs: Mapping[str, SynapticInput]) -> frozenset[str]:
    """Let the first of several identities from one source with one delay into one node bring the synaptic input of all.

    The two parts of a shortcut are such. Returns the others, which then have nothing to bring.
    """
    first: dict[tuple[str, str, int], IdentitySynapticInput] = {}
    joined: set[str] = set()
    for node in graph.nodes:
        for name in node.inputs if isinstance(node, (Population, Readout)) else ():
            arm, form = graph[name], synaptic_inputs[name]
            if not (isinstance(arm, Identity) and isinstance(form, IdentitySynapticInput)):
                continue
            if sum(name in other.inputs for other in graph.nodes) > 1:
                continue
            one = first.setdefault((node.name, arm.inputs[0], arm.delay), form)
            if one is not form:
                one.weight = one.weight + form.weight
                joined.add(name)
    return frozenset(joined)


def _bias(graph: SpikingGraph, node: Population | Readout, device: torch.device) -> Bias:
    start, injection = graph.bias_start(node), graph.schedule.bias_injection
    rows = [injection.share(node.bias, step) for step in range(injection.steps)] if node.bias.any() else []
    shares = np.asarray(rows, dtype=np.int32).reshape(-1, node.channels)
    return Bias(start, torch.from_numpy(shares).to(device))


def _releases(graph: SpikingGraph) -> Mapping[str, tuple[str, ...]]:
    """Sources by the node that reads them last; a synapse reads when its population does."""
    last: dict[str, str] = {}
    for node in graph.nodes:
        if isinstance(node, Synapse):
            continue
        for name in node.inputs:
            source = graph[name]
            last[source.inputs[0] if isinstance(source, Synapse) else name] = node.name
    released: dict[str, list[str]] = {}
    for source_name, reader in last.items():
        released.setdefault(reader, []).append(source_name)
    return {reader: tuple(names) for reader, names in released.items()}
