"""Each layer of a quantised model beside the float network and the integers: what is lost, and what of it here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx

from fastsnn_deploy.analysis.comparison.places import Place
from fastsnn_deploy.quantisation.layers import quantisers_off

SATURATED = 0.5
"""Share of its values that clip in a channel that counts as saturated."""


@dataclass(frozen=True)
class LayerLoss:
    """One layer on N images.

    layer, module: as in `Place`. bits: of its activation, None for an answer. weight_bits: of the layers with weights
    that drive it. cosine, error: of the quantised values against the float ones; the error is a norm of differences as
    a share of the norm of float values. local_error: the same where the layer reads exact float values, so that only
    its own weights and grid err. loss: share of what the answers lose that goes if this layer alone does not round;
    None where it was not tried. clipped: share of values beyond the grid. channels, dead_channels: channels that are 0
    on every image; lost_channels: those of them that the float network uses. dead_neurons: share of neurons that are
    always 0. saturated_channels: of which at least half of the values clip. worst_channel: the one with the greatest
    squared error, and worst_error its error. levels, levels_used: greatest number of values but 0 that its grid has,
    and how many occurred. counts_differing: share of the integer network's counts that are not the quantised model's.
    file_differing: share of the file's that are not those of the integer network made from the model; None where the
    file is that network.
    """

    layer: str
    module: str
    bits: int | None
    weight_bits: tuple[int, ...]
    cosine: float
    error: float
    local_error: float
    loss: float | None
    clipped: float
    channels: int
    dead_channels: int
    lost_channels: int
    dead_neurons: float
    saturated_channels: int
    worst_channel: int
    worst_error: float
    levels: int | None
    levels_used: int | None
    counts_differing: float | None
    file_differing: float | None


class ValuesAt(fx.Interpreter):
    """Runs a model and keeps what some nodes give, and what enters them.

    exact: values by node that are handed on in place of the model's own, so that each place answers for itself alone.
    """

    def __init__(self, model: fx.GraphModule, nodes: Iterable[str], exact: Mapping[str, Tensor] | None = None) -> None:
        super().__init__(model)
        self.wanted, self.exact = frozenset(nodes), exact
        self.given: dict[str, Tensor] = {}
        self.entered: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.name not in self.wanted:
            return result
        self.given[n.name] = result
        self.entered[n.name] = self.env[n.all_input_nodes[0]]
        return result if self.exact is None else self.exact[n.name]


class LayerTally:
    """Sums of one place over batches of images."""

    def __init__(self, model: fx.GraphModule, place: Place) -> None:
        self.model, self.place = model, place
        self.activation: Any = model.get_submodule(place.activation) if place.activation else None
        self.sums: dict[str, Tensor] = {}
        self.seen = torch.zeros(0, dtype=torch.bool)
        self.alive, self.float_alive = torch.zeros(0), torch.zeros(0)
        self.images = self.values = self.differing = self.file_differing = 0

    def add(
        self, wanted: Tensor, found: Tensor, alone: Tensor, entered: Tensor,
        integers: npt.NDArray[np.int64] | None, in_file: npt.NDArray[np.int64] | None,
    ) -> None:  # fmt: skip
        """A batch [N, ...]: float values, quantised ones, those from exact inputs, what enters, counts."""
        self.images += len(wanted)
        self.values += wanted.numel()
        products = {
            "float": wanted * wanted, "found": found * found, "both": wanted * found, "error": (found - wanted) ** 2,
            "local": (alone - wanted) ** 2,
        }  # fmt: skip
        if self.activation is not None:
            x = entered / self.activation.step_in_use()
            beyond = x >= self.activation.high + 0.5
            products["clipped"] = beyond | (x < self.activation.low - 0.5) if self.activation.signed else beyond
            counts = (found / self.activation.step_in_use()).round().to(torch.int64)
            self._count(counts, integers)
        for name, product in products.items():
            by_channel = product.transpose(0, 1).flatten(1).sum(1, dtype=torch.float64)
            self.sums[name] = self.sums.get(name, torch.zeros(())) + by_channel
        self.alive = _most(self.alive, found)
        self.float_alive = _most(self.float_alive, wanted)
        if integers is not None and in_file is not None:
            self.file_differing += int((integers != in_file).sum())

    def _count(self, counts: Tensor, integers: npt.NDArray[np.int64] | None) -> None:
        levels = self.activation.high - self.activation.low + 1
        if not len(self.seen):
            self.seen = torch.zeros(levels, dtype=torch.bool)
        self.seen |= torch.bincount((counts - self.activation.low).flatten(), minlength=levels) > 0
        if integers is not None:
            self.differing += int((torch.from_numpy(integers).view(counts.shape) != counts).sum())

    def result(self, loss: float | None, integers: bool, in_file: bool) -> LayerLoss:
        """What was found. integers, in_file: whether counts of the network, and of the file, were known."""
        activation, sums, total = self.activation, self.sums, {name: float(s.sum()) for name, s in self.sums.items()}
        channels, per_channel = len(sums["error"]), self.values / max(len(sums["error"]), 1)
        clipped = sums.get("clipped", torch.zeros(channels))
        dead, alive = _by_channel(self.alive) == 0, _by_channel(self.float_alive) > 0
        worst = int(sums["error"].argmax())
        return LayerLoss(
            layer=self.place.layer,
            module=self.place.module,
            bits=None if activation is None else activation.bits,
            weight_bits=tuple(_layer(self.model, path).weight_bits for path in self.place.weights),
            cosine=total["both"] / _or_one(math.sqrt(total["float"] * total["found"])),
            error=math.sqrt(total["error"] / _or_one(total["float"])),
            local_error=math.sqrt(total["local"] / _or_one(total["float"])),
            loss=loss,
            clipped=float(clipped.sum()) / max(self.values, 1),
            channels=channels,
            dead_channels=int(dead.sum()),
            lost_channels=int((dead & alive).sum()),
            dead_neurons=float((self.alive == 0).double().mean()),
            saturated_channels=int((clipped >= SATURATED * per_channel).sum()),
            worst_channel=worst,
            worst_error=math.sqrt(float(sums["error"][worst]) / _or_one(float(sums["float"][worst]))),
            levels=None if activation is None else activation.high - activation.low,
            levels_used=None if activation is None else int(self.seen.sum()) - int(self.seen[-activation.low]),
            counts_differing=self.differing / self.values if integers and activation is not None else None,
            file_differing=self.file_differing / self.values if integers and in_file else None,
        )


@dataclass(frozen=True)
class BatchValues:
    """Of one batch, by node: float values, quantised ones, those from exact inputs, and what enters each activation."""

    wanted: Mapping[str, Tensor]
    found: Mapping[str, Tensor]
    alone: Mapping[str, Tensor]
    entered: Mapping[str, Tensor]


def values_of(model: fx.GraphModule, reference: fx.GraphModule, nodes: Iterable[str], raw: Tensor) -> BatchValues:
    """Run a batch of raw images three times. reference: of the same calls; its quantisers are off in here."""
    nodes = tuple(nodes)
    with torch.no_grad():
        with quantisers_off(reference):
            exact = ValuesAt(reference, nodes)
            exact.run(raw)
        chained, alone = ValuesAt(model, nodes), ValuesAt(model, nodes, exact.given)
        chained.run(raw)
        alone.run(raw)
    return BatchValues(exact.given, chained.given, alone.given, chained.entered)


def _layer(model: fx.GraphModule, path: str) -> Any:
    return model.get_submodule(path)


def _most(before: Tensor, values: Tensor) -> Tensor:
    """Largest magnitude of each neuron so far."""
    largest = values.abs().amax(0)
    return torch.maximum(before, largest) if before.numel() else largest


def _by_channel(neurons: Tensor) -> Tensor:
    return neurons.flatten(1).amax(1) if neurons.dim() > 1 else neurons


def _or_one(value: float) -> float:
    return value if value > 0 else 1.0
