"""Networks of stock lava-dl NetX: a strictly sequential chain of layers with stock Lava neurons, and nothing else.

This is what unmodified lava-dl 0.6.0 loads and Lava 0.10.0 runs. Each layer with weights delays by one step: what
enters in step t leaves layer k (counting layers with weights from 1) in step t + k. Shapes are (C, H, W) or (N,),
arrays in PyTorch's orders; the NetX file stores the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph.summary import layer_table, totals_line
from fastsnn_deploy.tables import Result, Table, one_line, shape

Int64 = npt.NDArray[np.int64]
Pair = tuple[int, int]

WEIGHT_SHIFT = 6
"""Lava's LIF works in 1/64 of a weight: synaptic input, bias and threshold are shifted left by 6 (lif/models.py)."""


@dataclass(frozen=True)
class Lif:
    """Stock Lava LIF (NetX type CUBA), hard reset to zero.

    In 1/64 of a weight: u = decay(u, i_decay) + (synaptic input << 6); v = decay(v, v_decay) + u + (bias << 6); fires
    and resets to 0 iff v > threshold << 6 (strict). i_decay, v_decay: 0..4096, 4096 forgets everything.
    """

    threshold: int
    i_decay: int = 4096
    v_decay: int = 4096


@dataclass(frozen=True)
class Sdnn:
    """Stock Lava sigma-delta neuron (NetX type SDNN).

    threshold: smallest change of the activation that is sent, in activation units. sigma_output: the layer only
    accumulates and sends its sum (NetX `sigma_output`).
    """

    threshold: float = 0.0
    sigma_output: bool = False


Neuron = Lif | Sdnn


@dataclass(frozen=True, eq=False, kw_only=True)
class StockLayer:
    """shape: of the output. name: free text, kept in the file where stock lava-dl ignores it."""

    shape: tuple[int, ...]
    name: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class StockInput(StockLayer):
    """Where data enters. Without a neuron, messages go straight to the first layer with weights.

    With a Lif neuron the data are the neurons' biases, with an Sdnn neuron their activations. weight, bias: int64 [1]
    or None, slayer's transform weight * x + bias of raw data x, which stock Lava leaves to whoever feeds the data.
    """

    neuron: Neuron | None = None
    weight: Int64 | None = None
    bias: Int64 | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class StockConv(StockLayer):
    """weight: int64 [O, I / groups, kh, kw]; bias: int64 [O] or None; zero padding."""

    weight: Int64
    bias: Int64 | None
    neuron: Neuron
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class StockFlatten(StockLayer):
    """(C, H, W) -> (C * H * W,), in that order."""


@dataclass(frozen=True, eq=False, kw_only=True)
class StockDense(StockLayer):
    """weight: int64 [O, I]; bias: int64 [O] or None; delay: int64 [O] or [O, I], 0..62 steps, or None.

    neuron None: a non-leaky accumulator that never fires; its potential, in 1/64 of a weight, is the answer.
    """

    weight: Int64
    bias: Int64 | None
    neuron: Neuron | None = None
    delay: Int64 | None = None


@dataclass(frozen=True)
class StockNetwork(Result):
    """layers: in order, the first a StockInput. input_message_bits: 0 for binary input, else payload bits."""

    layers: tuple[StockLayer, ...]
    input_message_bits: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        ends = f"{shape(self.layers[0].shape)} -> {shape(self.layers[-1].shape)}" if self.layers else "empty"
        return one_line(f"StockNetwork({len(self.layers)} layers, {ends}, {self.totals()['parameters']:,} parameters)")

    def totals(self) -> dict[str, int]:
        """Neurons of all layers with weights, and weights stored."""
        weighted = [layer for layer in self.layers if isinstance(layer, (StockConv, StockDense))]
        neurons = sum(int(np.prod(layer.shape, dtype=np.int64)) for layer in weighted)
        return {"neurons": neurons, "parameters": sum(int(layer.weight.size) for layer in weighted)}

    def rows(self) -> tuple[dict[str, Any], ...]:
        """Plain values of each layer."""
        return tuple(_row(layer) for layer in self.layers)

    def report(self) -> tuple[Table | str, ...]:
        """A table of layers and the totals."""
        return layer_table(self.rows()), totals_line(self.totals())

    def to_dict(self) -> dict[str, Any]:
        """Layers, totals and metadata as plain values, without the weights."""
        plain = {"layers": list(self.rows()), "total": self.totals(), "input_message_bits": self.input_message_bits}
        return plain | {"metadata": dict(self.metadata)}


def _row(layer: StockLayer) -> dict[str, Any]:
    row: dict[str, Any] = {"layer": layer.name, "type": type(layer).__name__, "shape": list(layer.shape)}
    if isinstance(layer, (StockConv, StockDense)):
        row["parameters"] = int(layer.weight.size)
        row["weights"] = [int(layer.weight.min()), int(layer.weight.max())]
        row["nonzero"] = int(np.count_nonzero(layer.weight))
    return row
