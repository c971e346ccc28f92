"""Training that pays for synaptic operations: the one knob `sparsity`.

The loss grows by sparsity * operations / most, where `operations` are those of the spiking network that the quantised
model becomes, mean over images, and `most` is what it would do with every neuron at its ceiling. A neuron costs |count|
times its fan-out, as `analysis.operations` says, with fan-outs of the converted network. What settled unary neurons
take back on their way is not in it: nobody knows it without time.
"""

from __future__ import annotations

import copy
import operator
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.analysis.operations import Int64, fan_outs, of_image
from fastsnn_deploy.conversion.lower import lower
from fastsnn_deploy.conversion.trace import NOTHING, trace
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.ranges import ranges
from fastsnn_deploy.quantisation import QuantActivation, canonicalise
from fastsnn_deploy.quantisation.functional import round_half_up
from fastsnn_deploy.quantisation.layers import QuantInput
from fastsnn_deploy.quantisation.moves import Scale
from fastsnn_deploy.training.distributed import Group

KEEPS_COUNTS = (*NOTHING, nn.Flatten, Scale)
"""Modules behind which counts are the same, perhaps in another shape."""


class _Counts(nn.Module):
    """The counts of an activation, whose module stays where it is in the model."""

    def __init__(self, activation: QuantActivation) -> None:
        super().__init__()
        self.rule = activation.counts

    def forward(self, x: Tensor, values: Tensor) -> Tensor:
        return self.rule(x, values)


class _Relayed(nn.Module):
    """The counts of a relay, which passes sums on. scale: real value of one."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return round_half_up(x.float() / self.scale)


class _Price(nn.Module):
    """Counts [N, ...] -> mean operations of an image, float64. fan: int64 [neurons]. pixel: 0 or one spike each."""

    fan: Tensor

    def __init__(self, fan: Int64, pixel: bool) -> None:
        super().__init__()
        self.register_buffer("fan", torch.from_numpy(fan.astype(np.float64)), persistent=False)
        self.pixel = pixel

    def forward(self, counts: Tensor) -> Tensor:
        return _operations(counts, self.fan, self.pixel)


class _Operations(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, counts: Tensor, fan: Tensor) -> Tensor:
        ctx.save_for_backward(counts, fan)
        return counts.abs().sum(0).flatten().double() @ fan / len(counts)  # sums of counts are exact in float32

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        counts, fan = ctx.saved_tensors
        each = (gradients[0] * fan / len(counts)).to(counts.dtype)
        return counts.sign() * each.view(counts.shape[1:]), None


def _operations(counts: Tensor, fan: Tensor, pixel: bool) -> Tensor:
    if pixel:
        counts = (counts.detach() != 0).float()
    return _Operations.apply(counts.float(), fan)  # type: ignore[no-any-return, no-untyped-call]


@dataclass(frozen=True)
class Sender:
    """Neurons that an fx node of the quantised model stands for. fan: int64 [neurons]. most: of what one sends."""

    fan: Int64
    most: Int64
    pixel: bool
    scale: float


class Operations(nn.Module):
    """A quantised model that also says how many synaptic operations its spiking network makes; it shares all modules.

    model: calibrated. input_shape: of an image. most: operations of an image with every neuron at its ceiling.
    unseen: populations of the spiking network that no value of the model stands for (parts of very wide sums); their
    operations are not counted.

    Raises LoweringError if the model has no spiking form.
    """

    def __init__(self, model: nn.Module, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        canonical = canonicalise(model)
        graph = lower(trace(canonical, input_shape), allow_loss=True)
        senders, self.unseen = _senders(canonical, graph)
        self.most = int(sum(int(each.fan @ each.most) for each in senders.values()))
        device = next((value.device for value in canonical.state_dict().values()), torch.device("cpu"))
        self.model = _with_operations(canonical, senders).to(device)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Raw images -> (answer, mean operations of an image, float64)."""
        return cast("tuple[Tensor, Tensor]", self.model(images))


def _senders(model: fx.GraphModule, graph: SpikingGraph) -> tuple[dict[str, Sender], tuple[str, ...]]:
    """What the nodes of a model send, relays by their name in the graph; and who sends what no node stands for."""
    fans, pixels, spans = fan_outs(graph), of_image(graph), ranges(graph.nodes)
    found: dict[str, Sender] = {}
    left = dict(fans)

    def take(name: str, parts: list[str]) -> None:
        most = []
        for each in map(graph.__getitem__, parts):
            high = np.maximum(spans[each.name].high, -spans[each.name].low)
            most.append(np.repeat(np.ones_like(high) if name in pixels else high, each.size // len(high)))
        fan = np.concatenate([left.pop(part, np.zeros(graph[part].size, dtype=np.int64)) for part in parts])
        found[name] = Sender(fan, np.concatenate(most), parts[0] in pixels, getattr(graph[parts[0]], "scale", 1.0))

    for node in model.graph.nodes:
        own = node.name in graph.by_name and graph[node.name].spiking
        parts = [node.name] if own else [part for part in _parts(graph, node.name) if graph[part].spiking]
        if parts:
            take(node.name, parts)
        if (relay := f"{node.name}.relay") in left:
            take(relay, [relay])
    return found, tuple(left)


def _parts(graph: SpikingGraph, name: str) -> Iterator[str]:
    """Populations of an activation of several values side by side."""
    number = 0
    while (part := f"{name}.part{number}") in graph.by_name:
        yield part
        number += 1


def _with_operations(model: fx.GraphModule, senders: dict[str, Sender]) -> fx.GraphModule:
    """The model whose result is (answer, operations)."""
    edited = copy.deepcopy(model.graph)
    modules: dict[str, nn.Module] = {
        str(node.target): model.get_submodule(str(node.target)) for node in edited.nodes if node.op == "call_module"
    }
    counts: dict[fx.Node, fx.Node] = {}
    prices: list[fx.Node] = []

    def call(name: str, module: nn.Module, *sources: fx.Node) -> fx.Node:
        modules[f"operations_{name}"] = module
        return edited.call_module(f"operations_{name}", sources)

    for node in list(edited.nodes):
        if node.op == "output":
            break
        source = node.all_input_nodes[0] if node.all_input_nodes else None
        with edited.inserting_after(node):
            if (relay := senders.get(f"{node.name}.relay")) is not None and source is not None:
                relayed = call(f"{node.name}_relay_counts", _Relayed(relay.scale), source)
                with edited.inserting_after(relayed):
                    prices.append(call(f"{node.name}_relay", _Price(relay.fan, False), relayed))
        made = _counts_of(modules, node, counts, edited, call)
        if made is None:
            continue
        counts[node] = made
        if (sender := senders.get(node.name)) is not None:
            with edited.inserting_after(made):
                prices.append(call(node.name, _Price(sender.fan, sender.pixel), made))
    result = next(node for node in edited.nodes if node.op == "output")
    with edited.inserting_before(result):
        total = prices[0]
        for price in prices[1:]:
            total = edited.call_function(operator.add, (total, price))
    result.args = ((result.args[0], total),)
    edited.lint()
    return fx.GraphModule(modules, edited)


def _counts_of(
    modules: dict[str, nn.Module], node: fx.Node, counts: dict[fx.Node, fx.Node], edited: fx.Graph,
    call: Callable[..., fx.Node],
) -> fx.Node | None:  # fmt: skip
    """A new node with the counts that `node` holds as real values; None if they are no counts."""
    module = modules.get(str(node.target)) if node.op == "call_module" else None
    with edited.inserting_after(node):
        if isinstance(module, QuantInput):
            return node
        if isinstance(module, QuantActivation):
            return call(f"{node.name}_counts", _Counts(module), node.all_input_nodes[0], node)
        if not node.all_input_nodes or any(source not in counts for source in node.all_input_nodes):
            return None
        sources = [counts[source] for source in node.all_input_nodes]
        if node.target is torch.cat:
            return edited.call_function(torch.cat, (sources, 1))
        if isinstance(module, (nn.MaxPool2d, *KEEPS_COUNTS)):
            return sources[0] if isinstance(module, Scale) else edited.call_module(str(node.target), (sources[0],))
    return None


class Priced:
    """The forward pass of a training with or without a price on synaptic operations.

    model: what is trained, in evaluation mode; quantised and calibrated if sparsity is above 0. sparsity: the knob.
    input_shape: of an image. compiled: what makes it fast, as `torch.compile`.
    """

    def __init__(
        self, model: nn.Module, sparsity: float, input_shape: tuple[int, ...],
        compiled: Callable[[nn.Module], nn.Module] = lambda model: model,
    ) -> None:  # fmt: skip
        self.sparsity = sparsity
        self.counted = Operations(model, input_shape) if sparsity else None
        self.forward = compiled(model if self.counted is None else self.counted)
        self.spent: list[tuple[Tensor, int]] = []
        if self.counted is not None and self.counted.unseen:
            warnings.warn(
                f"synaptic operations of {', '.join(self.counted.unseen)} are not in the price: they are parts of sums "
                "that the quantised model does not have",
                UserWarning,
                stacklevel=2,
            )

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | float]:
        """(answer, what it costs): a scalar to add to the loss, 0.0 without a price."""
        if self.counted is None:
            return self.forward(images), 0.0
        answer, operations = self.forward(images)
        self.spent.append((operations.detach(), len(images)))
        return answer, (self.sparsity / self.counted.most * operations).float()

    def operations(self, group: Group) -> float | None:
        """Mean synaptic operations of an image since the last call, in all processes; None without a price."""
        if self.counted is None:
            return None
        sums = [sum(float(each) * n for each, n in self.spent), sum(n for _, n in self.spent)]
        self.spent = []
        total, images = group.sum(torch.tensor(sums, dtype=torch.float64)).tolist()
        return float(total / images)

    def line(self, group: Group) -> str:
        """What an epoch's line says of `operations`."""
        operations = self.operations(group)
        return "" if operations is None else f", {operations:,.0f} synaptic operations an image"
