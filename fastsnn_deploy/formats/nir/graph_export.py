"""A spiking graph in NIR primitives, each of which means what NIR says it means.

What NIR has no primitive for is left out, never approximated: there the graph is cut, with an `Output` that holds what
the missing operation reads and an `Input` that takes what it makes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats.nir.weights import dense_kernel, square_kernel
from fastsnn_deploy.graph import (
    Concat,
    Conv2d,
    Flatten,
    Identity,
    Input,
    Linear,
    Node,
    Population,
    Readout,
    SpikingGraph,
    SumPool2d,
    Synapse,
)
from fastsnn_deploy.graph.arithmetic import per_channel

Float32 = npt.NDArray[np.float32]

INPUT, OUTPUT = "input", "output"


@dataclass(frozen=True)
class Arm:
    """A NIR node that emits some channels of a source, of `shape`. Concat makes one source of several arms."""

    name: str
    shape: tuple[int, ...]


def unique_name(name: str, taken: Collection[str]) -> str:
    """A name like `name` that is an identifier (HDF5 paths and PyTorch modules need that) and not in `taken`."""
    plain = re.sub(r"[^0-9A-Za-z_]", "_", name)
    plain = plain if re.match(r"[A-Za-z]", plain) else f"n{plain}"
    candidate, number = plain, 1
    while candidate in taken:
        candidate, number = f"{plain}_{number}", number + 1
    return candidate


def to_nir(graph: SpikingGraph) -> nir.NIRGraph:
    """The NIR graph, without metadata; float32 parameters, `nir`'s own type check not applied."""
    return _Builder(graph).build()


def bias_home(graph: SpikingGraph, node: Population | Readout) -> str | None:
    """Name of the synapse whose NIR node carries the bias of `node`; None if no node into it has a bias."""
    homes = (name for name in node.inputs if isinstance(graph[name], (Conv2d, Linear)))
    return next(homes, None)


def has_primitive(node: Node) -> bool:
    """NIR has primitives that say what `node` does, up to the fields that the loss report lists."""
    return type(node) in FORMS


class _Builder:
    def __init__(self, graph: SpikingGraph) -> None:
        self.graph = graph
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.arms: dict[str, list[Arm]] = {}
        """What each of our nodes became; several arms are channels of a source, or terms of a synaptic input."""
        self.biases = {
            home: node for node in graph.nodes if isinstance(node, (Population, Readout))
            if (home := bias_home(graph, node)) is not None
        }  # fmt: skip

    def build(self) -> nir.NIRGraph:
        for node in self.graph.nodes:
            self.arms[node.name] = self._convert(node)
        for name in self.graph.outputs:
            (arm,) = self.arms[name]
            self._add(OUTPUT, nir.Output({"output": np.array(arm.shape)}), arm)
        return nir.NIRGraph(nodes=self.nodes, edges=self.edges, metadata={}, type_check=False)

    def _add(self, name: str, node: nir.NIRNode, *sources: Arm, shape: tuple[int, ...] = ()) -> Arm:
        arm = Arm(unique_name(name, self.nodes), shape)
        self.nodes[arm.name] = node
        self.edges += [(source.name, arm.name) for source in sources]
        return arm

    def _convert(self, node: Node) -> list[Arm]:
        sources = [arm for name in node.inputs for arm in self.arms[name]]
        return FORMS.get(type(node), _Builder._cut)(self, node, sources)

    def _image(self, node: Input, sources: list[Arm]) -> list[Arm]:
        return [self._add(INPUT, nir.Input({"input": np.array(node.shape)}), shape=node.shape)]

    def _concat(self, node: Concat, sources: list[Arm]) -> list[Arm]:
        return sources

    def _neurons(self, node: Population | Readout, sources: list[Arm]) -> list[Arm]:
        if isinstance(node, Population) and not node.settles:
            raise InputError(
                f"population '{node.name}': the loss report does not describe {node.neurons} neurons. Use others"
            )
        return [self._add(node.name, _neuron(node), *sources, shape=node.shape)]

    def _flattens(self, node: Node, sources: list[Arm]) -> list[Arm]:
        return [self._flatten(node, source) for source in sources]

    def _flatten(self, node: Node, source: Arm) -> Arm:
        shape = (int(np.prod(source.shape)),)
        return self._add(node.name, nir.Flatten({"input": np.array(source.shape)}, 0, -1), source, shape=shape)

    def _cut(self, node: Node, sources: list[Arm]) -> list[Arm]:
        for source in sources:
            self._add(f"{node.name}_reads", nir.Output({"output": np.array(source.shape)}), source)
        return [self._add(f"{node.name}_makes", nir.Input({"input": np.array(node.shape)}), shape=node.shape)]

    def _sum_pool(self, node: SumPool2d, sources: list[Arm]) -> list[Arm]:
        return self._scale(node, [self._pool(node, source) for source in sources])

    def _scale(self, node: Synapse, sources: list[Arm]) -> list[Arm]:
        if len(sources) > 1:  # NIR cannot put the synaptic inputs of several arms side by side, but it can add them
            return self._dense(_diagonal(node), sources)
        weight = per_channel(node.effective_weight, len(node.shape))
        scale = np.broadcast_to(weight, node.shape).astype(np.float32)
        return [self._add(f"{node.name}_scale", nir.Scale(scale), sources[0], shape=node.shape)]

    def _dense(self, node: Conv2d | Linear, sources: list[Arm]) -> list[Arm]:
        """One NIR node for each arm of the source; the neuron they lead to adds them up."""
        weight = node.effective_weight
        if isinstance(node, Conv2d):
            weight = dense_kernel(weight, node.groups)
        bias, made, start = self._bias(node), [], 0
        for source in sources:
            part = weight[:, start : start + source.shape[0]]
            make = _conv(node, part, bias, source) if isinstance(node, Conv2d) else _affine(part, bias)
            made.append(self._add(node.name, make, source, shape=node.shape))
            start += source.shape[0]
            bias = np.zeros_like(bias)
        return made

    def _bias(self, node: Synapse) -> Float32:
        """Bias for each step such that `window` steps add up to ours."""
        reader = self.biases.get(node.name)
        total = np.zeros(node.channels) if reader is None else reader.bias / self.graph.schedule.window
        return np.asarray(total, dtype=np.float32)

    def _pool(self, node: SumPool2d, source: Arm) -> Arm:
        pool = nir.SumPool2d(np.array(node.kernel), np.array(node.stride), np.array(node.padding))
        return self._add(node.name, pool, source, shape=(source.shape[0], *node.shape[1:]))


FORMS: dict[type[Node], Callable[[_Builder, Any, list[Arm]], list[Arm]]] = {
    Input: _Builder._image, Concat: _Builder._concat, Flatten: _Builder._flattens, Population: _Builder._neurons,
    Readout: _Builder._neurons, Conv2d: _Builder._dense, Linear: _Builder._dense, SumPool2d: _Builder._sum_pool,
    Identity: _Builder._scale,
}  # fmt: skip
"""How node types are written; there are no primitives for others."""


def _diagonal(node: Synapse) -> Conv2d | Linear:
    """One weight per channel as a matrix, which can be split by columns."""
    common: dict[str, Any] = {"name": node.name, "shape": node.shape, "exponent": node.exponent}
    weight = np.diag(node.weight)
    if len(node.shape) == 1:
        return Linear(**common, weight=weight)
    return Conv2d(**common, weight=weight[..., None, None])


def _conv(node: Conv2d, weight: npt.NDArray[np.int64], bias: Float32, source: Arm) -> nir.NIRNode:
    weight, padding = square_kernel(weight, node.padding, node.dilation)
    return nir.Conv2d(
        input_shape=source.shape[1:],
        weight=weight.astype(np.float32),
        stride=node.stride,
        padding=padding,
        dilation=node.dilation,
        groups=1,
        bias=bias,
    )


def _affine(weight: npt.NDArray[np.int64], bias: Float32) -> nir.NIRNode:
    # always Affine: several readers know no Linear
    return nir.Affine(weight=weight.astype(np.float32), bias=bias)


def _neuron(node: Population | Readout) -> nir.NIRNode:
    ones: Any = np.ones(node.shape, dtype=np.float32)
    if isinstance(node, Readout):
        return nir.I(r=ones)
    # NIR fires for v > threshold, we for v >= threshold; the same for integers
    threshold = per_channel(node.threshold, len(node.shape)) - np.float32(0.5)
    return nir.IF(r=ones, v_threshold=ones * threshold.astype(np.float32), v_reset=0 * ones)
