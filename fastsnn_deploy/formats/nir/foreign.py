"""NIR files of other programs as stock LIF networks, where the two agree bit for bit; everything else is refused.

NIR's neurons are differential equations. They agree with Lava's integers only where no product is rounded: no memory
(Threshold, LIF and CubaLIF whose time constants are one time step) or no leak (IF). A step of IF takes unit time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nir
import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.formats.hdf5 import HDF5_ERRORS
from fastsnn_deploy.formats.nir.compose import Linear, RefusedError, composed
from fastsnn_deploy.formats.nir.differences import differences
from fastsnn_deploy.formats.nir.file import read_graph
from fastsnn_deploy.formats.nir.linear_nodes import MAX_SIZE, WEIGHTS, flattened
from fastsnn_deploy.lava_dl.limits import DECAY_UNITY, FLOAT32_EXACT, THRESHOLD_MAX
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

Int64 = npt.NDArray[np.int64]
Shape = tuple[int, ...]

NEVER = Lif(threshold=THRESHOLD_MAX + 1)
"""A neuron without memory that never fires: Lava's potential saturates below 2**17 weights."""


def import_nir(path: str | Path, *, step: float | None = None, input_message_bits: int = 0) -> StockNetwork:
    """Read a NIR file of any program as a network of stock LIF that computes the same integers.

    Supported is a chain of Input, linear maps, neuron, linear maps, neuron, ..., Output. Linear maps are Conv2d, Affine
    or Linear, with SumPool2d and AvgPool2d (without padding) before or behind, and Flatten anywhere. Neurons:
    Threshold; IF with r = 1 and v_reset = 0; LIF and CubaLIF with tau = step and r = w_in = 1; before Output also I or
    LI, or none, which give the potential. Weights and biases must be integers. What layer k of the stock network sends
    comes k steps after NIR's, which takes no time; where a neuron has memory (IF, I), nothing before it may fire
    without input, or the early steps would differ.

    step: seconds of a time step, needed for neurons with time constants. input_message_bits: 0 for binary input.
    Metadata are ignored. What nodes mean here and could mean in the program that wrote them is in
    `metadata["differs"]`, line by line. Raises InputError that lists every node and parameter that is not
    supported.
    """
    file = read_graph(path)
    try:
        nodes = _chain(file)
        layers = list(_Importer(step).layers(nodes))
    except InputError as error:
        raise InputError(f"{path}: {error.message}", error.problems) from error
    except HDF5_ERRORS as error:
        raise InputError(f"{path}: the graph is damaged ({reason_of(error)})") from error
    metadata = {"source": Path(path).name, "differs": "\n".join(differences(nodes))}
    network = StockNetwork(tuple(layers), input_message_bits, metadata)
    try:
        check(network)
    except InputError as error:
        raise InputError(f"{path}: {error.message}", error.problems) from error
    return network


def _chain(graph: nir.NIRGraph) -> list[tuple[str, nir.NIRNode]]:
    """The nodes from Input to Output. Raises InputError for anything but a chain of known primitives."""
    problems = [
        Problem(f"{type(node).__name__} '{name}'", "is not supported")
        for name, node in graph.nodes.items()
        if type(node) not in SUPPORTED
    ]
    after: dict[str, list[str]] = {name: [] for name in graph.nodes}
    before: dict[str, int] = dict.fromkeys(graph.nodes, 0)
    for source, target in graph.edges:
        if source not in after or target not in before:
            raise InputError(f"edge '{source}' -> '{target}' names a node that does not exist")
        after[source].append(target)
        before[target] += 1
    for name, node in graph.nodes.items():
        ends = (int(not isinstance(node, nir.Input)), int(not isinstance(node, nir.Output)))
        if (before[name], len(after[name])) != ends:
            what = f"has {before[name]} incoming and {len(after[name])} outgoing edges, a chain needs {ends}"
            problems.append(Problem(f"{type(node).__name__} '{name}'", what))
    starts = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    if len(starts) != 1:
        problems.append(Problem("graph", f"has {len(starts)} Input nodes, needs one"))
    if problems:
        raise InputError("the graph is not a chain that stock LIF can run", problems)
    names = starts
    while after[names[-1]]:
        names += after[names[-1]]
    if len(names) != len(graph.nodes):
        raise InputError("the graph has a loop beside its chain")
    return [(name, graph.nodes[name]) for name in names]


class _Importer:
    def __init__(self, step: float | None) -> None:
        self.step = step
        self.problems: list[Problem] = []
        self.silent = True
        """No neuron so far fires without input."""
        self.flat = False
        """The file has flattened what enters here."""
        self.at = 0

    def layers(self, nodes: list[tuple[str, nir.NIRNode]]) -> Iterator[StockLayer]:
        """Layers of a chain. Raises InputError with every problem at its end."""
        shape = _shape(nodes[0][1].input_type["input"])
        yield StockInput(shape=shape, name=nodes[0][0])
        position = 1
        while position < len(nodes) - 1:
            try:
                made, position = self._layer(nodes, position, shape)
            except RefusedError as refusal:
                self._note(nodes[self.at], refusal)
                break  # shapes after this node are not known
            yield from made
            shape = made[-1].shape if made else shape
        if self.problems:
            raise InputError("the graph holds what has no exact form in stock LIF", self.problems)

    def _note(self, entry: tuple[str, nir.NIRNode], what: object) -> None:
        self.problems.append(Problem(f"{type(entry[1]).__name__} '{entry[0]}'", str(what)))

    def _layer(
        self, nodes: list[tuple[str, nir.NIRNode]], position: int, source: Shape
    ) -> tuple[list[StockLayer], int]:
        """The layer of the linear maps from `position` on with the neuron behind them, and the position after it.

        source: of the spikes that enter. A flatten is a layer only where a dense one follows; neurons do not mind.
        """
        whole: Linear | None = None
        shape, name, refused = source, "", list[str]()
        while type(nodes[position][1]) in (*WEIGHTS, nir.Flatten):
            self.at = position
            given, node = nodes[position]
            if isinstance(node, nir.Flatten):
                self.flat, shape = True, flattened(node, shape)
            else:
                made = WEIGHTS[type(node)](node, self._read(node, shape), refused)
                whole = made if whole is None else composed(whole, made, source)
                name = given if not name or not made.pool else name
                shape, self.flat = whole.shape, self.flat and len(whole.shape) == 1
            for what in refused:
                self._note(nodes[position], what)
            refused.clear()
            position += 1
        self.at = position
        if whole is None:
            if position == len(nodes) - 1:  # a flatten before the output
                return [], position
            raise RefusedError("is a neuron without weights before it")
        neuron: Lif | None = NEVER
        bias = whole.bias
        try:
            neuron, bias = self._neuron(nodes[position:], bias, whole.shape, whole.divisor)
        except RefusedError as refusal:
            self._note(nodes[position], refusal)
        fields: dict[str, Any] = {
            "bias": bias if bias.any() else None,
            "neuron": neuron,
            "name": name,
            "shape": whole.shape,
        }
        if whole.weight.ndim == 4:
            geometry: dict[str, Any] = {key: getattr(whole, key) for key in ("stride", "padding", "dilation", "groups")}
            return [StockConv(weight=whole.weight, **geometry, **fields)], position + 1
        flatten = [StockFlatten(shape=(math.prod(source),))] if len(source) == 3 else []
        return [*flatten, StockDense(weight=whole.weight, **fields)], position + 1

    def _read(self, node: nir.NIRNode, shape: Shape) -> Shape:
        """The shape that a linear map reads: flat, where a flatten came before the neurons."""
        return (math.prod(shape),) if self.flat and isinstance(node, (nir.Affine, nir.Linear)) else shape

    def _neuron(
        self, nodes: list[tuple[str, nir.NIRNode]], bias: Int64, shape: Shape, divisor: int
    ) -> tuple[Lif | None, Int64]:
        """Neuron and bias that do what the first of `nodes` does. divisor: of the synaptic input that reaches it."""
        node = nodes[0][1]
        if isinstance(node, (nir.Output, nir.I, nir.LI)):
            return self._readout(node, bias, shape, divisor, last=len(nodes) <= 2)
        remembers = isinstance(node, nir.IF)
        if isinstance(node, nir.IF):
            _require_ones(node, shape, "r")
        elif isinstance(node, nir.LIF):
            self._require_one_step(node, shape, "tau")
        elif isinstance(node, nir.CubaLIF):
            self._require_one_step(node, shape, "tau_syn", "tau_mem")
            _require_ones(node, shape, "w_in")
        elif not isinstance(node, nir.Threshold):
            raise RefusedError("stands where a neuron must be")
        if not isinstance(node, nir.Threshold) and np.any(node.v_reset):
            raise RefusedError("v_reset is not 0")
        threshold = _per_channel(node.threshold if isinstance(node, nir.Threshold) else node.v_threshold, shape)
        if remembers:
            self._require_silence(bias)
        lif, bias = _with_threshold(threshold * divisor, bias, 0 if remembers else DECAY_UNITY)
        if remembers and lif.threshold < 0:
            raise RefusedError("v_threshold is negative, it fires without input")
        self.silent &= int(bias.max()) <= lif.threshold
        return lif, bias

    def _readout(
        self, node: nir.NIRNode, bias: Int64, shape: Shape, divisor: int, *, last: bool
    ) -> tuple[Lif | None, Int64]:
        if not last:
            raise RefusedError("does not fire, but other nodes read it")
        if divisor != 1:
            raise RefusedError("reads an average, its potential is not an integer")
        if not isinstance(node, nir.I):
            if isinstance(node, nir.LI):
                self._require_one_step(node, shape, "tau")
            return NEVER, bias
        _require_ones(node, shape, "r")
        if len(shape) != 1:
            raise RefusedError("accumulates a feature map, a stock accumulator is a dense layer")
        self._require_silence(bias)
        return None, bias

    def _require_silence(self, bias: Int64) -> None:
        if bias.any():
            raise RefusedError("remembers a bias of the steps before its input arrives, NIR has no such steps")
        if not self.silent:
            raise RefusedError("remembers spikes that a bias before it causes without input")

    def _require_one_step(self, node: Any, shape: Shape, *names: str) -> None:
        if np.any(node.v_leak):
            raise RefusedError("v_leak is not 0")
        if self.step is None:
            taus = ", ".join(f"{name} = {np.ravel(getattr(node, name))[0]:g} s" for name in names)
            raise RefusedError(
                f"leaks ({taus}): only a neuron that forgets all in one step, or nothing (IF), is exact here; give the "
                "time step, fastsnn_deploy.formats.nir.import_nir(path, step=...), if that is one step"
            )
        for name in names:
            # the same rounding as in the file
            if not np.array_equal(getattr(node, name), np.full_like(getattr(node, name), self.step)):
                raise RefusedError(f"leaks: {name} is not one time step of {self.step} s, and Lava rounds what is left")
        _require_ones(node, shape, "r")


def _with_threshold(threshold: npt.NDArray[np.float64], bias: Int64, decay: int) -> tuple[Lif, Int64]:
    """Lif and bias that fire iff integer synaptic input + bias > threshold [C], a float."""
    least = np.floor(threshold)
    if not np.isfinite(least).all() or np.abs(least).max(initial=0) >= FLOAT32_EXACT:
        raise RefusedError("thresholds are not finite or reach beyond 2**24")
    whole = least.astype(np.int64)
    if (whole == whole[0]).all():
        return Lif(int(whole[0]), v_decay=decay), bias
    if not decay:
        raise RefusedError("thresholds of IF differ between channels, stock LIF has one for all")
    return Lif(0), bias - whole


SUPPORTED = (
    *WEIGHTS, nir.Input, nir.Output, nir.Flatten, nir.Threshold, nir.IF, nir.LIF, nir.CubaLIF, nir.I, nir.LI,
)  # fmt: skip


def _shape(value: Any) -> Shape:
    values = np.asarray(value)
    if values.dtype.kind not in "iu" or values.ndim != 1 or len(values) not in (1, 3) or values.min() < 1:
        raise InputError(f"the input has shape {value}, must be (C, H, W) or (N,)")
    shape = tuple(int(size) for size in values)
    if math.prod(shape) > MAX_SIZE:
        raise InputError(f"the input has shape {shape}, more than {MAX_SIZE} elements")
    return shape


def _require_ones(node: Any, shape: Shape, *names: str) -> None:
    for name in names:
        value = np.asarray(getattr(node, name))
        if value.dtype.kind not in "iuf" or not (value == 1).all() or value.size not in (1, math.prod(shape)):
            raise RefusedError(f"{name} of shape {value.shape} must be 1 for each of {shape}")


def _per_channel(threshold: Any, shape: Shape) -> npt.NDArray[np.float64]:
    """Threshold of each channel, float64 [C]."""
    values = np.asarray(threshold)
    if values.dtype.kind not in "iuf" or values.size not in (1, math.prod(shape)):
        raise RefusedError(f"threshold has shape {values.shape}, must be {shape}")
    if values.size == 1:
        return np.full(shape[0], float(values.reshape(-1)[0]))
    rows = values.astype(np.float64).reshape(shape[0], -1)
    if not np.isfinite(rows).all():
        raise RefusedError("thresholds are not finite")
    if (rows != rows[:, :1]).any():
        raise RefusedError("thresholds differ inside a channel, a stock bias is one for each channel")
    return rows[:, 0]
