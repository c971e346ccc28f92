"""A sequential spiking graph as a chain of real-valued ReLU layers, in counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import LoweringError, Problem
from fastsnn_deploy.graph import Conv2d, Flatten, Input, Linear, Node, Population, Readout, SpikingGraph, Synapse
from fastsnn_deploy.graph.synapses.conv2d import windows

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stage:
    """One synapse with the population or readout it feeds.

    synapse: as Conv2d or Linear, for its geometry. weight: float64, shaped like the synapse's, counts (or for the
    readout charge) for one count of the source. bias: float64 [C], in the same unit. flatten: whether the source is
    flattened first. node: the population or readout.
    """

    node: Population | Readout
    synapse: Conv2d | Linear
    weight: Float64
    bias: Float64
    flatten: bool

    @property
    def is_readout(self) -> bool:
        """Whether this is the last stage, which has no ReLU."""
        return isinstance(self.node, Readout)

    def apply(self, weight: Float64, x: Float64) -> Float64:
        """The synapse's linear map with other weights: float64 [N, *source shape] -> [N, *node shape]."""
        if self.flatten:
            x = x.reshape(len(x), -1)
        synapse = self.synapse
        if isinstance(synapse, Linear):
            return np.asarray(x @ weight.T)
        view = windows(x, synapse.kernel, synapse.stride, synapse.padding, synapse.dilation)  # type: ignore[arg-type]
        outputs, per_group, kh, kw = weight.shape
        batch, (_, height, width) = len(x), synapse.shape
        columns = view.transpose(0, 2, 3, 1, 4, 5).reshape(batch, height * width, synapse.groups, per_group * kh * kw)
        kernels = weight.reshape(synapse.groups, outputs // synapse.groups, -1)
        charge = np.matmul(columns.transpose(0, 2, 1, 3), kernels.transpose(0, 2, 1))
        return np.asarray(charge.transpose(0, 1, 3, 2).reshape(batch, *synapse.shape))

    def real(self, x: Float64) -> Float64:
        """The real-valued layer: ReLU of weights and bias, without rounding and without a ceiling."""
        value = self.apply(self.weight, x) + self.bias.reshape(-1, *(1,) * (len(self.node.shape) - 1))
        return value if self.is_readout else np.maximum(value, 0.0)


def stages_of(graph: SpikingGraph) -> tuple[Stage, ...]:
    """The chain of stages from the input to the readout. Raises LoweringError with every node that does not fit."""
    problems = [problem for node in graph.nodes for problem in _problems(graph, node)]
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    problems += [
        Problem(f"'{name}'", f"is read by {count} nodes; only chains can be sigma-delta networks")
        for name, count in readers.items()
        if count > 1
    ]
    if len(graph.outputs) != 1 or not isinstance(graph[graph.outputs[0]], Readout):
        problems.append(Problem("graph", f"has the outputs {list(graph.outputs)}, must have one readout"))
    if problems:
        raise LoweringError("the graph has no sigma-delta form", problems)
    return tuple(_stage(graph, node) for node in graph.nodes if isinstance(node, (Population, Readout)))


def _problems(graph: SpikingGraph, node: Node) -> list[Problem]:
    at = f"{type(node).__name__} '{node.name}'" + (f" (module {node.module})" if node.module else "")
    if isinstance(node, (Population, Readout)) and len(node.inputs) != 1:
        return [Problem(at, f"adds {len(node.inputs)} synapses; stock NetX has no residual connections")]
    if isinstance(node, Population) and node.floor < 0:
        return [Problem(at, f"has counts down to {node.floor}; the sigma-delta neuron has a ReLU")]
    if isinstance(node, Synapse):
        primitive = node.as_primitive()
        if not isinstance(primitive, (Conv2d, Linear)) or primitive.shape != node.shape:
            return [Problem(at, "is neither a convolution nor a dense layer for stock NetX")]
    elif not isinstance(node, (Input, Flatten, Population, Readout)):
        return [Problem(at, "has no sigma-delta form in stock NetX", "Use strided convolutions or average pooling")]
    return []


def _stage(graph: SpikingGraph, node: Population | Readout) -> Stage:
    synapse = graph[node.inputs[0]]
    assert isinstance(synapse, Synapse)
    primitive = synapse.as_primitive()
    assert isinstance(primitive, (Conv2d, Linear))
    threshold, bias = np.ones(node.channels), node.bias.astype(np.float64)
    if isinstance(node, Population):
        threshold = node.threshold.astype(np.float64)
        # initial = threshold // 2 only rounds; what it holds beyond that is a bias
        bias += node.initial - node.threshold // 2
    weight = primitive.effective_weight / threshold.reshape(-1, *(1,) * (primitive.weight.ndim - 1))
    flatten = isinstance(graph[synapse.inputs[0]], Flatten)
    return Stage(node, primitive, weight, bias / threshold, flatten)
