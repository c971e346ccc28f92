"""Proof that a network taken from another project counts what its own code counts, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.quantisation.layers import QuantActivation, QuantInput, switch_quantisers
from fastsnn_deploy.quantisation.others.base import Taken
from fastsnn_deploy.quantisation.structure import module_at

EDGE = 1e-5
"""Distance to the next rounding edge, in steps, below which float32 parameters may decide: the std of an image goes
into the first weights in float32."""


@dataclass
class Counts:
    """compared: counts in all. differing: those that are not the official ones. edges: of these, how many lie within
    EDGE of a rounding edge. ties: values that lie on one exactly. first: path where one differs that does not.
    """

    compared: int = 0
    differing: int = 0
    edges: int = 0
    ties: int = 0
    first: str = ""

    def __str__(self) -> str:
        near = f", {self.edges} of them on a rounding edge" if self.differing else ""
        return f"{self.differing:,} of {self.compared:,} counts differ{near}"


class Run(nn.Module):
    """A module that is run in a way of its own: for as many steps as its rate is read after."""

    def __init__(self, module: nn.Module, run: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.module, self.run = module, run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.module, x)


def official_counts(
    official: nn.Module, activations: Mapping[str, Taken], images: Tensor, dtype: torch.dtype = torch.float64
) -> tuple[dict[str, list[Tensor]], Tensor]:
    """What the official code counts and answers: by path, one tensor for each call.

    official: as its project made it, in evaluation mode; it is copied. images: normalised as its project does, float64.
    """
    alone, found = copy.deepcopy(official).to("cpu", dtype).eval(), dict[str, list[Tensor]]()
    for path, taken in activations.items():
        if taken.run is not None:
            parent, _, name = path.rpartition(".")
            setattr(alone.get_submodule(parent), name, Run(alone.get_submodule(path), taken.run))

    def keep(path: str, taken: Taken) -> Any:
        def hook(module: nn.Module, arguments: Any, result: Tensor) -> None:
            found.setdefault(path, []).append((result.double() / taken.top * taken.levels).round())

        return hook

    for path, taken in activations.items():
        alone.get_submodule(path).register_forward_hook(keep(path, taken))
    with torch.no_grad():
        answer = alone(images.to(dtype, copy=True))
    return found, answer


def compare(
    quantised: fx.GraphModule,
    activations: Mapping[str, Taken],
    values: Mapping[str, Tensor],
    emitted: Tensor,
    official: Mapping[str, list[Tensor]],
    chained: bool = False,
) -> tuple[Counts, Tensor]:
    """Counts of a taken network against official ones, layer by layer, in float64; and its answer.

    values: float64 weights by target, for those that float32 does not hold. emitted: what the input emits, float64.
    chained: each layer reads our own counts, else the official ones, so that none answers for those before it.
    """
    alone = copy.deepcopy(quantised).double().eval()
    switch_quantisers(alone, on=False)
    for target, exact in values.items():
        layer: Any = alone.get_submodule(target)
        layer.weight.data = exact.double()
    run = _Run(alone, activations, official, chained)
    with torch.no_grad():
        answer = run.run(emitted)
    return run.counts, answer


class _Run(fx.Interpreter):
    def __init__(
        self, module: fx.GraphModule, activations: Mapping[str, Taken], official: Mapping[str, list[Tensor]],
        chained: bool,
    ) -> None:  # fmt: skip
        super().__init__(module)
        self.quantised, self.activations, self.chained = module, activations, chained
        self.waiting = {path: list(calls) for path, calls in official.items()}
        self.pooled: dict[fx.Node, str] = {}
        self.counts = Counts()

    def run_node(self, n: fx.Node) -> Any:
        module = module_at(self.quantised, n)
        if isinstance(module, QuantInput):
            return self.env[n.all_input_nodes[0]] * module.scale
        if isinstance(module, nn.MaxPool2d) and n.all_input_nodes[0] in self.pooled:
            path = self.pooled[n.all_input_nodes[0]]
            taken, made = self.activations[path], super().run_node(n)
            return self._settled(path, taken, (made / taken.top * taken.levels).round(), None)
        if not isinstance(module, QuantActivation):
            return super().run_node(n)
        x, path = self.env[n.all_input_nodes[0]], n.meta.get("module", "")
        if path not in self.activations:
            step = module.step_in_use().double()
            return (x / step + 0.5).floor().clamp(module.low, module.high) * step
        taken = self.activations[path]
        position = x / taken.top * taken.levels + 0.5
        count = position.floor().clamp(0, taken.levels)
        if self.waiting[path][0].shape != x.shape:  # it stood behind the pool that follows
            self.pooled[n] = path
            return count * (taken.top / taken.levels)
        return self._settled(path, taken, count, position)

    def _settled(self, path: str, taken: Taken, count: Tensor, position: Tensor | None) -> Tensor:
        wanted, found = self.waiting[path].pop(0), self.counts
        wrong = count != wanted
        found.compared += count.numel()
        found.differing += int(wrong.sum())
        if position is not None:
            away = (position - position.round()).abs()
            found.edges += int((wrong & (away <= EDGE)).sum())
            inside = (position >= 0.5) & (position <= taken.levels + 0.5)
            found.ties += int(((away == 0) & inside).sum())
        if not found.first and found.differing > found.edges:
            found.first = path
        return (count if self.chained else wanted) * (taken.top / taken.levels)
