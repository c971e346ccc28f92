"""The layers of a quantised model: each activation with the modules between it and the spikes it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.conversion.lower import lower
from fastsnn_deploy.conversion.names import names_of
from fastsnn_deploy.conversion.trace import trace
from fastsnn_deploy.graph import Concat, Population, SpikingGraph
from fastsnn_deploy.quantisation.layers import BATCH_NORMS, QUANT_WEIGHTED, QuantActivation, QuantLinear
from fastsnn_deploy.simulators import open_engine


@dataclass(frozen=True)
class Layer:
    """name: of its population (or concat of populations) in the spiking graph. end: of its activation in the quantised
    model's own graph.

    sources: names of the spiking nodes it reads, in graph order: activations, and relays, which pass on sums that no
    activation has rounded. names: of all spiking nodes, by those of the quantised model's nodes.

    parameters: names of what fine-tuning may change: weights, weight steps, biases, affine numbers of batch norm. A
    module that an earlier layer owns is not among them, nor is any activation's step.
    """

    name: str
    end: str
    sources: tuple[str, ...]
    parameters: tuple[str, ...]
    names: Mapping[str, str]


def find_layers(quantised: fx.GraphModule, graph: SpikingGraph) -> tuple[Layer, ...]:
    """All layers that end in an activation, in order. graph: what the canonical quantised model was converted to."""
    names = names_of(lower(trace(quantised, graph.input.shape)))
    layers = []
    owned: set[str] = set()
    for node in _activations(quantised):
        sources: dict[str, None] = {}
        modules: list[str] = []
        waiting = list(node.all_input_nodes)
        while waiting:
            inner = waiting.pop()
            if isinstance(_module(quantised, inner), QuantActivation):
                sources[names[inner.name]] = None
                continue
            if inner.op == "call_module":
                modules.append(str(inner.target))
            if (relay := _relay(names, inner)) is not None:
                sources[relay] = None
            else:
                waiting += inner.all_input_nodes
        own = tuple(name for path in sorted(modules) for name in _tunable(quantised, path) if name not in owned)
        owned.update(own)
        read = tuple(name for name in graph.by_name if name in sources)
        layers.append(Layer(names[node.name], node.name, read, own, names))
    return tuple(layers)


def proxy(quantised: fx.GraphModule, layer: Layer, images: Tensor, rates: Mapping[str, Tensor]) -> Tensor:
    """The layer's activation on the rates that its sources really had, float32 [N, *shape], differentiable.

    images: raw float32 [N, *input shape]. rates: net count times scale of every source, float32 [N, *shape].
    """
    values: dict[fx.Node, Tensor] = {}

    def value(node: fx.Node) -> Tensor:
        if (name := layer.names.get(node.name, "")) in rates:
            return rates[name]
        if node not in values:
            values[node] = compute(node)
        return values[node]

    def compute(node: fx.Node) -> Tensor:
        if node.op == "placeholder":
            return images
        module = _module(quantised, node)
        if module is None:
            terms = [value(source) for source in _operands(node)]
            return torch.cat(terms, 1) if node.target is torch.cat else terms[0] + terms[1]
        relay = _relay(layer.names, node)
        x = value(_operands(node)[0]) if relay is None else rates[relay]
        if relay is not None and isinstance(module, QuantLinear):
            x = x.flatten(1)
        result: Tensor = module(x)
        return result

    end = next(node for node in quantised.graph.nodes if node.name == layer.end)
    return compute(end)


def activation(quantised: fx.GraphModule, layer: Layer, images: Tensor) -> Tensor:
    """What the quantised model itself computes there: float32 [N, *shape], without gradient."""

    class Until(fx.Interpreter):
        found: Tensor

        def run_node(self, n: fx.Node) -> object:
            result = super().run_node(n)
            if n.name == layer.end:
                self.found = result
                raise _FoundError
            return result

    run = Until(quantised)
    with torch.no_grad():
        try:
            run.run(images)
        except _FoundError:
            return run.found
    raise KeyError(layer.end)


class _FoundError(Exception):
    """Ends an interpretation whose rest is not needed."""


def spike_rates(
    graph: SpikingGraph, names: tuple[str, ...], emitted: npt.NDArray[np.integer], engine: str, threads: int | None
) -> dict[str, Tensor]:
    """Net count times scale of nodes at the end of a run, float32 [N, *shape] each; simulates only what they need.

    names: populations, or concats of populations. emitted: as `graph.input.encode` gives them.
    """
    populations = tuple(dict.fromkeys(name for wanted in names for name in _populations(graph, wanted)))
    part = ancestors(graph, populations)
    opened = open_engine(part, engine, threads)
    finals: dict[str, list[npt.NDArray[np.int32]]] = {name: [] for name in populations}
    for start in range(0, len(emitted), opened.batch_size):  # the series of a larger batch would not be needed at once
        run = opened.run(emitted[start : start + opened.batch_size])
        for name in populations:
            # a network that never changed anything has no step at all
            silent = np.zeros(run.outputs[name].shape[1:], dtype=np.int32)
            finals[name].append(run.final(name).copy() if run.steps else silent)
    counts = {name: np.concatenate(parts) for name, parts in finals.items()}
    return {name: _rate(graph, name, counts) for name in names}


def ancestors(graph: SpikingGraph, outputs: tuple[str, ...]) -> SpikingGraph:
    """The part of a graph that `outputs`, populations or readouts, depend on."""
    needed = set(outputs)
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    nodes = tuple(node for node in graph.nodes if node.name in needed)
    return SpikingGraph(nodes, outputs, graph.schedule, graph.metadata)


def _populations(graph: SpikingGraph, name: str) -> Iterator[str]:
    node = graph[name]
    if isinstance(node, Concat):
        for source in node.inputs:
            yield from _populations(graph, source)
    else:
        yield name


def _rate(graph: SpikingGraph, name: str, counts: Mapping[str, npt.NDArray[np.int32]]) -> Tensor:
    node = graph[name]
    if isinstance(node, Concat):
        return torch.cat([_rate(graph, source, counts) for source in node.inputs], 1)
    assert isinstance(node, Population)
    return torch.from_numpy((counts[name] * node.scale).astype(np.float32))


def _activations(quantised: fx.GraphModule) -> Iterator[fx.Node]:
    return (node for node in quantised.graph.nodes if isinstance(_module(quantised, node), QuantActivation))


def _module(quantised: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return quantised.get_submodule(str(node.target)) if node.op == "call_module" else None


def _relay(names: Mapping[str, str], node: fx.Node) -> str | None:
    """Name of the relay population that passes the sums which `node` reads."""
    return names.get(f"{node.name}.relay")


def _operands(node: fx.Node) -> list[fx.Node]:
    arguments = node.args[0] if node.target is torch.cat else node.args
    return [each for each in arguments if isinstance(each, fx.Node)]  # type: ignore[union-attr]


def _tunable(quantised: fx.GraphModule, path: str) -> Iterator[str]:
    module = quantised.get_submodule(path)
    if isinstance(module, (*QUANT_WEIGHTED, *BATCH_NORMS)):
        yield from (f"{path}.{name}" for name, _ in module.named_parameters(recurse=False))
