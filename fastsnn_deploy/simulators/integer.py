"""The answers of the integer network, faster than its definition: a few images by float64 products in PyTorch, which
need no preparation, whole data sets by an engine, in one product a synapse."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from fastsnn_deploy.graph import (
    Concat,
    Conv2d,
    ConvTranspose2d,
    Encoded,
    Flatten,
    Identity,
    Input,
    Linear,
    MaxPool2d,
    Node,
    Population,
    Readout,
    SpikingGraph,
    Synapse,
)
from fastsnn_deploy.graph.images import ImageReader
from fastsnn_deploy.graph.integer_network import logits
from fastsnn_deploy.graph.synapses.base import blocks
from fastsnn_deploy.graph.synapses.conv_transpose2d import channels_swapped
from fastsnn_deploy.passes.one_pass import one_pass
from fastsnn_deploy.simulators import open_engine

Progress = Callable[[int, int], None]

FEW = 200
"""Images that are through the float64 products before an engine is prepared."""


class IntegerNetwork:
    """A graph's integer network, batch by batch. engine: the name of the one that computes it (`passes.one_pass`); None
    for float64 products, which also stand in for an engine where the image enters several times."""

    def __init__(self, graph: SpikingGraph, engine: str | None = "cpu", threads: int | None = None) -> None:
        self.graph = graph
        single = None if engine is None else one_pass(graph)
        self.engine = None if single is None or engine is None else open_engine(single, engine, threads)

    @property
    def batch_size(self) -> int:
        """Images at a time that keep the processor busy."""
        return 50 if self.engine is None else self.engine.batch_size

    def answers(self, levels: Any) -> npt.NDArray[np.int64]:
        """The integers of the first output, int64 [B, *shape]. levels: a batch, raw or Encoded."""
        emitted, name = self.graph.encode(levels), self.graph.outputs[0]
        if self.engine is None:
            return layer_values(self.graph, emitted, (name,))[name]
        values = self.engine.run(np.asarray(emitted)).outputs[name]
        return (values[-1] if len(values) else np.zeros(values.shape[1:])).astype(np.int64)


def integer_logits(
    graph: SpikingGraph,
    levels: ImageReader | npt.NDArray[np.generic],
    batch: int | None = None,
    progress: Progress | None = None,
) -> npt.NDArray[np.float64]:
    """Real-valued answers of the integer network, float64 [N, *output shape]: its integers times their scale."""
    outputs = integer_outputs(graph, levels, batch, progress)
    return np.asarray(logits(graph, {graph.outputs[0]: outputs}))


def integer_outputs(
    graph: SpikingGraph,
    levels: ImageReader | npt.NDArray[np.generic],
    batch: int | None = None,
    progress: Progress | None = None,
) -> npt.NDArray[np.int64]:
    """The integers of the first output, int64 [N, *shape], as `integer_values` defines them.

    levels: images [N, *input shape], raw or Encoded. Every way is exact: a valid graph keeps every partial sum within
    24 bits.
    """
    network = IntegerNetwork(graph, "cpu" if len(levels) > FEW else None)
    size, parts = batch or network.batch_size, []
    for start in range(0, len(levels), size):
        parts.append(network.answers(levels[start : start + size]))
        if progress is not None:
            progress(min(start + size, len(levels)), len(levels))
    return np.concatenate(parts) if parts else np.zeros((0, *graph[graph.outputs[0]].shape), dtype=np.int64)


def layer_values(graph: SpikingGraph, emitted: Encoded, names: Collection[str]) -> dict[str, npt.NDArray[np.int64]]:
    """The integers of some nodes of the integer network, int64 [N, *shape] by name."""
    with torch.no_grad():
        return _values(graph, emitted, names)


def _values(
    graph: SpikingGraph, emitted: npt.NDArray[np.int64], wanted: Collection[str]
) -> dict[str, npt.NDArray[np.int64]]:
    emitted = emitted * graph.schedule.repeats
    values: dict[str, Tensor] = {}
    found: dict[str, npt.NDArray[np.int64]] = {}
    readers = {name: sum(name in node.inputs for node in graph.nodes) for name in graph.by_name}
    for node in graph.nodes:
        inputs = [values[name] for name in node.inputs]
        values[node.name] = torch.from_numpy(emitted).double() if isinstance(node, Input) else _value(node, inputs)
        if node.name in wanted:
            found[node.name] = values[node.name].to(torch.int64).numpy()
        for name in node.inputs:  # what nobody reads any more goes
            readers[name] -= 1
            if not readers[name]:
                del values[name]
    return found


def _value(node: Node, inputs: list[Tensor]) -> Tensor:
    if isinstance(node, Synapse):
        form = node if type(node) in SYNAPTIC_INPUT else node.as_primitive()
        return SYNAPTIC_INPUT[type(form)](form, inputs[0])
    if isinstance(node, MaxPool2d):
        return F.max_pool2d(inputs[0], node.kernel, node.stride, node.padding, node.dilation, node.ceil_mode)
    if isinstance(node, Flatten):
        return inputs[0].flatten(1)
    if isinstance(node, Concat):
        return torch.cat(inputs, 1)
    assert isinstance(node, (Population, Readout))
    total = torch.stack(inputs).sum(0) + _per_channel(node.bias, node)
    if isinstance(node, Readout):
        return total
    # integers from here: a quotient in floating point could round up to the next count
    potential = total.to(torch.int64) + _per_channel(node.initial, node)
    count = torch.div(potential, _per_channel(node.threshold, node), rounding_mode="floor")
    return count.clamp(node.floor, node.ceiling).double()


def _per_channel(values: npt.NDArray[np.int64], node: Node) -> Tensor:
    """One integer a channel, int64 [C, 1, ...], to go with batches of the node's shape."""
    return torch.tensor(values).view(-1, *(1,) * (len(node.shape) - 1))


def _weight(synapse: Synapse) -> Tensor:
    return torch.from_numpy(synapse.effective_weight).double()


def _identity(synapse: Identity, spikes: Tensor) -> Tensor:
    return spikes * _weight(synapse).view(-1, *(1,) * (spikes.dim() - 2))


def _linear(synapse: Linear, spikes: Tensor) -> Tensor:
    """Some outputs at a time: a classifier that holds a pool may have 100 million weights."""
    parts = [F.linear(spikes, torch.tensor(synapse.weight[rows]).double()) for rows in blocks(synapse.weight)]
    return torch.cat(parts, 1) * torch.exp2(torch.tensor(synapse.exponent).double())


def _conv(synapse: Conv2d, spikes: Tensor) -> Tensor:
    weight = _weight(synapse)
    return F.conv2d(spikes, weight, None, synapse.stride, synapse.padding, synapse.dilation, synapse.groups)


def _conv_transpose(synapse: ConvTranspose2d, spikes: Tensor) -> Tensor:
    return F.conv_transpose2d(
        spikes, channels_swapped(_weight(synapse), synapse.groups), None, synapse.stride, synapse.padding,
        synapse.output_padding, synapse.groups, synapse.dilation,
    )  # fmt: skip


SYNAPTIC_INPUT: dict[type[Synapse], Callable[[Any, Tensor], Tensor]] = {
    Linear: _linear, Conv2d: _conv, ConvTranspose2d: _conv_transpose, Identity: _identity
}  # fmt: skip
"""Synaptic input, float64, of synapse types: synapse and spikes. Others have a primitive form."""
