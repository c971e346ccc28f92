"""Networks of memoryless LIF, the thermometer code above all, as NIR files without loss.

A stock LIF with full decay fires iff synaptic input + bias > threshold. NIR's Threshold behind Conv2d or Affine says
just that. Readers that lack Threshold get LIF with a time constant of one step, or IF started from rest in every step.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import nir
import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.formats.hdf5 import HDF5_ERRORS
from fastsnn_deploy.formats.nir.file import difference, pack, read_graph, save, unpack
from fastsnn_deploy.formats.nir.graph_export import INPUT, OUTPUT
from fastsnn_deploy.formats.nir.network_metadata import arrays_of, from_plain, plain
from fastsnn_deploy.formats.nir.report import Loss, LossReport
from fastsnn_deploy.formats.nir.weights import dense_kernel, exact_float32, square_kernel
from fastsnn_deploy.lava_dl.compare import difference as network_difference
from fastsnn_deploy.lava_dl.limits import CURRENT_MAX, DECAY_UNITY, FLOAT32_EXACT
from fastsnn_deploy.lava_dl.network import (
    Lif,
    StockConv,
    StockDense,
    StockFlatten,
    StockInput,
    StockLayer,
    StockNetwork,
)
from fastsnn_deploy.lava_dl.rules import check
from fastsnn_deploy.reading import reason_of

KIND = "thermometer"

Neuron = Literal["threshold", "lif", "if"]

STEP = 1e-4
"""Seconds of a time step in snnTorch's NIR import, where it is fixed."""


def export_thermometer(
    network: StockNetwork, path: str | Path, *, neuron: Neuron = "threshold", step: float = STEP
) -> LossReport:
    """Write a network of memoryless LIF to `path` as NIR, and `path` + '.loss.json'. Each is whole or not there.

    Each frame passes through the whole NIR graph at once: NIR's edges take no time, while layer k of the stock network
    answers k steps after a frame. neuron: 'threshold' is exact by NIR's definition; 'lif' is for readers that
    lack Threshold and simulate with a time step of `step` seconds (their tau); 'if' is for readers whose state is reset
    before every frame. A last layer that cannot fire ends the graph without a neuron: its Affine is the answer.

    The report is empty unless something can differ: synaptic inputs beyond Lava's 2**17 or float32's 2**24, an
    accumulating readout, the conditions of 'lif' and 'if'. `import_thermometer(path)` gives the network back, which is
    checked before it is there. Raises InputError listing every layer that is not memoryless LIF or has no NIR form,
    and when a file cannot be written.
    """
    check(network)
    _require_form(network)
    target = Path(path)
    builder = _Builder(network, neuron, step)
    graph = builder.build()
    options = {"neuron": neuron, "step": step}
    graph.metadata.update(pack(KIND, {"network": plain(network), "options": options}, arrays_of(network)))

    save(graph, target, lambda copy: network_difference(network, import_thermometer(copy)))
    report = LossReport(target.name, nir.version, tuple(builder.losses))
    report.write(target)
    return report


def import_thermometer(path: str | Path) -> StockNetwork:
    """Read a network that `export_thermometer` wrote, from the metadata, and check it against the NIR nodes.

    Raises InputError for other files (`import_nir` reads those that map on stock LIF), and when nodes and metadata
    disagree because another program has changed one of them.
    """
    file = read_graph(path)
    try:
        found = unpack(file, KIND)
        if found is None:
            raise InputError("holds no stock network of ours in its metadata. Use `import_nir`")
        network = from_plain(found[0]["network"], found[1])
        check(network)
        _require_form(network)
        changed = difference(file, _Builder(network, **found[0]["options"]).build())
    except InputError as error:
        raise InputError(f"{path}: {error.message}", error.problems) from error
    except HDF5_ERRORS as error:
        raise InputError(f"{path}: the metadata are damaged ({reason_of(error)})") from error
    if changed:
        raise InputError(f"{path}: NIR nodes and metadata disagree in {changed}. Export the network again")
    return network


def _require_form(network: StockNetwork) -> None:
    problems = [
        Problem(f"layer {index}" + (f" ('{layer.name}')" if layer.name else ""), what)
        for index, layer in enumerate(network.layers)
        for what in _form_problems(layer, last=index == len(network.layers) - 1)
    ]
    if problems:
        raise InputError("the network has no exact NIR form", problems)


def _form_problems(layer: StockLayer, *, last: bool) -> Iterator[str]:
    neuron = getattr(layer, "neuron", None)
    if isinstance(neuron, Lif):
        if (neuron.i_decay, neuron.v_decay) != (DECAY_UNITY, DECAY_UNITY):
            yield f"remembers: decays {neuron.i_decay} and {neuron.v_decay}, must be {DECAY_UNITY}"
        if not last and abs(neuron.threshold) >= FLOAT32_EXACT // 2:
            yield f"threshold {neuron.threshold} + 0.5 is not a float32"
    elif neuron is not None:
        yield f"has a neuron of type {type(neuron).__name__}, NIR has no sigma-delta neuron"
    if isinstance(layer, StockDense):
        if layer.neuron is None and not last:
            yield "is an accumulator, but not the last layer"
        if layer.delay is not None and layer.delay.any():
            yield "has delays in steps; NIR's Delay is in seconds"
    for name in ("weight", "bias"):
        values = getattr(layer, name, None)
        if values is not None and exact_float32(values) is None:
            yield f"{name} reaches {np.abs(values).max()}, beyond 2**24: not a float32"


class _Builder:
    """Builds the NIR graph and notes on the way how large each synaptic input can become."""

    def __init__(self, network: StockNetwork, neuron: Neuron, step: float) -> None:
        if neuron not in ("threshold", "lif", "if") or not 0 < step < np.inf:
            raise InputError(f"neuron '{neuron}' must be 'threshold', 'lif' or 'if', and step {step} positive")
        self.network, self.neuron, self.step = network, neuron, step
        self.nodes: dict[str, nir.NIRNode] = {}
        self.losses: list[Loss] = []
        # stock Lava makes every message of a network with binary input 0 or 1
        bits = network.input_message_bits
        self.low: int = -(2**bits) if bits else 0
        self.high: int = 2**bits

    def build(self) -> nir.NIRGraph:
        for index, layer in enumerate(self.network.layers):
            self._layer(index, layer, last=index == len(self.network.layers) - 1)
        self._add(OUTPUT, nir.Output({"output": np.array(self.network.layers[-1].shape)}))
        names = list(self.nodes)
        return nir.NIRGraph(self.nodes, list(pairwise(names)), metadata={}, type_check=False)

    def _add(self, name: str, node: nir.NIRNode) -> None:
        self.nodes[name] = node

    def _layer(self, index: int, layer: StockLayer, *, last: bool) -> None:
        if isinstance(layer, StockInput):
            self._add(INPUT, nir.Input({"input": np.array(layer.shape)}))
            reach = None
        elif isinstance(layer, StockFlatten):
            shape = np.array(self.network.layers[index - 1].shape)
            self._add(f"flatten_{index}", nir.Flatten({"input": shape}, 0, -1))
            return
        else:
            assert isinstance(layer, (StockConv, StockDense))
            reach = self._reach(layer)
            self._note_reach(layer, reach[0])
            self._add(f"{'conv' if isinstance(layer, StockConv) else 'dense'}_{index}", self._weights(index, layer))
        neuron = layer.neuron
        if neuron is None and reach is not None:
            how = "gives the answer of one frame, the stock accumulator adds up those of all steps"
            self.losses.append(Loss(layer.name, "", "accumulator", "sum over all steps", how, True))
        if isinstance(neuron, Lif) and not (last and reach is not None and reach[1] <= neuron.threshold):
            self._add(f"neuron_{index}", self._neuron(neuron, layer))
            self.low, self.high = 0, 1

    def _reach(self, layer: StockConv | StockDense) -> tuple[int, int]:
        """(bound of synaptic input and of synaptic input plus bias in magnitude, greatest synaptic input plus bias),
        over all neurons."""
        weight = layer.weight.reshape(len(layer.weight), -1).astype(np.int64)
        ends = np.stack([weight * self.low, weight * self.high])
        bias = np.zeros(len(weight), dtype=np.int64) if layer.bias is None else layer.bias
        # a tap that reads padding adds 0
        low, high = np.minimum(ends.min(0), 0).sum(1), np.maximum(ends.max(0), 0).sum(1)
        least, greatest = (low + np.minimum(bias, 0)).min(), (high + np.maximum(bias, 0)).max()
        return int(max(-least, greatest)), int((high + bias).max())

    def _note_reach(self, layer: StockLayer, reach: int) -> None:
        for field, limit, how in (
            ("wrap", CURRENT_MAX, "does not wrap or saturate synaptic input beyond 2**17 as Lava does"),
            ("float32", FLOAT32_EXACT, "may round sums beyond 2**24 in float32"),
        ):
            if reach > limit:
                self.losses.append(Loss(layer.name, "", field, f"synaptic input of up to {reach}", how, True))

    def _weights(self, index: int, layer: StockConv | StockDense) -> nir.NIRNode:
        bias = np.zeros(layer.shape[0], dtype=np.int64) if layer.bias is None else layer.bias
        if isinstance(layer, StockDense):
            return nir.Affine(weight=layer.weight.astype(np.float32), bias=bias.astype(np.float32))
        weight, padding = square_kernel(dense_kernel(layer.weight, layer.groups), layer.padding, layer.dilation)
        if weight.shape[2] != weight.shape[3]:
            how = (
                "must read the file with nir.read(path, type_check=False): the check of nir 1.0.8 errs for this kernel"
            )
            self.losses.append(Loss(layer.name, "", "kernel_check", f"kernel {weight.shape[2:]}", how, False))
        return nir.Conv2d(
            input_shape=self.network.layers[index - 1].shape[1:],
            weight=weight.astype(np.float32),
            stride=layer.stride,
            padding=padding,
            dilation=layer.dilation,
            groups=1,
            bias=bias.astype(np.float32),
        )

    def _neuron(self, neuron: Lif, layer: StockLayer) -> nir.NIRNode:
        ones: Any = np.ones(layer.shape, dtype=np.float32)
        # halfway between integers, so that readers which compare with >= do the same
        threshold: npt.NDArray[np.float32] = ones * np.float32(neuron.threshold + 0.5)
        if self.neuron == "threshold":
            return nir.Threshold(threshold)
        if self.neuron == "if":
            how = "must reset its state before every frame and take one unit step for it"
            self.losses.append(Loss(layer.name, "", "memory", "no memory between frames", how, True))
            return nir.IF(r=ones, v_threshold=threshold, v_reset=0 * ones)
        how = f"must simulate with a time step of {self.step} s by Euler's rule"
        self.losses.append(Loss(layer.name, "", "memory", "no memory between frames", how, True))
        tau = ones * np.float32(self.step)
        return nir.LIF(tau=tau, r=ones, v_leak=0 * ones, v_threshold=threshold, v_reset=0 * ones)
