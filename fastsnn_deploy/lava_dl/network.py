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

from fastsnn_deploy.errors import InputError, whole_number
from fastsnn_deploy.graph import Encoded, Input, SpikeTrains
from fastsnn_deploy.graph.arithmetic import round_half_up
from fastsnn_deploy.graph.schedule import MOST_STEPS
from fastsnn_deploy.graph.spike_trains import NO_EVENTS
from fastsnn_deploy.graph.summary import layer_table, totals_line
from fastsnn_deploy.lava_dl.limits import DECAY_UNITY
from fastsnn_deploy.lava_dl.thermometer import Placement, answer_of, placements_of, read_answer
from fastsnn_deploy.reading import json_of
from fastsnn_deploy.tables import Result, Table, one_line, shape

Int64 = npt.NDArray[np.int64]
Pair = tuple[int, int]

IMAGE_LEVELS = 255
"""Greatest level of an image for an input neuron of a file that does not say: 8-bit pixels."""


@dataclass(frozen=True)
class Lif:
    """Stock Lava LIF (NetX type CUBA), hard reset to zero.

    In 1/64 of a weight: u = decay(u, i_decay) + (synaptic input << 6); v = decay(v, v_decay) + u + (bias << 6); fires
    and resets to 0 iff v > threshold << 6 (strict). i_decay, v_decay: 0..4096, 4096 forgets everything.
    """

    threshold: int
    i_decay: int = DECAY_UNITY
    v_decay: int = DECAY_UNITY


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


@dataclass(frozen=True, eq=False)
class StockNetwork(Result):
    """layers: in order, the first a StockInput. input_message_bits: 0 for binary input, else payload bits.

    metadata: text by name. `input` says how images enter (see `input`, `encode` and `image_steps`), `output` and
    `thermometer` how the answer is read (see `values` and `logits`), each a JSON value.
    """

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

    @property
    def weighted(self) -> tuple[int, ...]:
        """Indices of the layers with weights."""
        return tuple(i for i, layer in enumerate(self.layers) if isinstance(layer, (StockConv, StockDense)))

    @property
    def senders(self) -> frozenset[int]:
        """Indices of layers that send spikes: neither flatten, nor a last layer that only accumulates or reports."""
        last = len(self.layers) - 1
        neuron = getattr(self.layers[last], "neuron", None)
        answers = neuron is None or (isinstance(neuron, Sdnn) and neuron.sigma_output)
        return frozenset({0, *self.weighted} - ({last} if answers else set()))

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each layer, no two the same: its own where it has one, else its kind and number."""
        given = [layer.name or f"{type(layer).__name__.removeprefix('Stock').lower()}" for layer in self.layers]
        return tuple(
            name if given.count(name) == 1 and layer.name else f"{name}.{index}"
            for index, (name, layer) in enumerate(zip(given, self.layers, strict=True))
        )

    @property
    def depth(self) -> int:
        """Steps from an image to the last layer: one for each layer with weights, and the longest delays."""
        layers = [self.layers[index] for index in self.weighted]
        delays = [layer.delay for layer in layers if isinstance(layer, StockDense) and layer.delay is not None]
        return len(layers) + sum(int(delay.max()) for delay in delays)

    @property
    def forgets(self) -> bool:
        """Whether every step is an inference of its own: full decay everywhere, equal delays, no input neuron."""
        first, *later = self.layers
        return getattr(first, "neuron", None) is None and all(map(_forgets, later))

    @property
    def settles(self) -> bool:
        """Whether nothing changes any more `depth` steps after a constant input began: only sigma-delta neurons."""
        neurons = [getattr(self.layers[index], "neuron", None) for index in (0, *self.weighted)]
        return all(isinstance(neuron, Sdnn) for neuron in neurons)

    @property
    def image_steps(self) -> int | None:
        """Steps for which an image is shown: 1 to a network that forgets; None where the user must say it."""
        if self.forgets:
            return 1
        return self.depth + 1 if self.settles else None

    def steps_for(self, asked: int | None) -> int:
        """Steps to run each image, `asked` if it is given.

        Raises InputError for a number of steps where each step is an inference, and for none where nothing settles.
        """
        if asked is None:
            if self.image_steps is None:
                raise InputError(
                    "the network has neurons with memory and no step after which nothing changes: say with --steps "
                    "how long to show each image"
                )
            return self.image_steps
        if self.forgets:
            raise InputError("every step of this network is an inference of its own. Leave out --steps")
        return whole_number("steps", asked, 1, MOST_STEPS)

    @property
    def input(self) -> Input:
        """How raw images become integers: as metadata `input` says, or every message is a level of the raw image."""
        first, said = self.layers[0], self._said("input")
        levels = max(2**self.input_message_bits - 1, 1) if getattr(first, "neuron", None) is None else IMAGE_LEVELS
        low, high = int(said.get("low", 0)), int(said.get("high", levels))
        offset = np.asarray(said.get("offset", [0] * first.shape[0]), dtype=np.int64)
        step, scale = float(said.get("step", 1 / levels)), float(said.get("scale", 1.0))
        return Input(name="input", shape=first.shape, step=step, low=low, high=high, offset=offset, scale=scale)

    def encode(self, images: Any) -> Encoded:
        """Raw images as `Input.encode` takes them -> what enters in each step, int64 [N, *shape].

        What is encoded already is handed back. Where a file of another program holds slayer's transform
        weight * x + bias, it is applied to x in [0, 1].
        """
        source, first = self.input, self.layers[0]
        if isinstance(images, SpikeTrains):
            raise InputError(NO_EVENTS)
        if isinstance(images, Encoded):
            return source.of_my_shape(images)
        emitted = Encoded(source.encode(images) << int(self._said("input").get("places", 0)))
        weight, bias = (getattr(first, key, None) for key in ("weight", "bias"))
        if weight is None and bias is None:
            return emitted
        scaled = (1 if weight is None else weight[0]) * emitted / source.high + (0 if bias is None else bias[0])
        return Encoded(round_half_up(scaled))

    @property
    def says_how_images_enter(self) -> bool:
        """Whether the file itself describes its input."""
        return "input" in self.metadata

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the answer: of the unit that a thermometer code or readout stands for, else of the last layer."""
        placements = self._answer
        return placements[0].shape if placements else self.layers[-1].shape

    def values(self, spikes: npt.NDArray[np.integer], potentials: npt.NDArray[np.integer]) -> Int64:
        """The answer after each step, int64 [T, N, *output_shape], from the last layer's series [T, N, *shape].

        A thermometer code gives counts or logits in units of a weight, sigma-delta neurons and accumulators their
        state, other neurons the spikes they have sent so far; where an image has caused none, the potential decides.
        """
        placements = self._answer
        if placements:
            return read_answer(placements, spikes, potentials)
        neuron = getattr(self.layers[-1], "neuron", None)
        if neuron is None or isinstance(neuron, Sdnn):
            return potentials.astype(np.int64)
        sent = np.cumsum(spikes, axis=0, dtype=np.int64)
        fired = sent.reshape(*sent.shape[:2], -1).any(2).reshape(*sent.shape[:2], *(1,) * (sent.ndim - 2))
        return np.where(fired, sent, potentials)

    def logits(self, values: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """Real-valued answer, float64 like `values` [..., N, C, ...]: (value / 2**places + bias) * scale."""
        said, rank = self._said("output"), len(self.output_shape)
        bias, scale = (
            np.asarray(said.get(key, default), dtype=np.float64).reshape(-1, *(1,) * (rank - 1))
            for key, default in (("bias", 0.0), ("scale", 1.0))
        )
        return np.asarray((values / 2.0 ** said.get("places", 0) + bias) * scale)

    @property
    def _answer(self) -> tuple[Placement, ...]:
        return answer_of(placements_of(self.metadata))

    def _said(self, key: str) -> dict[str, Any]:
        said = json_of(self.metadata.get(key, "{}"), "metadata", f"entry '{key}'")
        if not isinstance(said, dict):
            raise InputError(f"metadata '{key}' is {self.metadata[key][:40]!r}, must be a JSON object")
        return said


def _forgets(layer: StockLayer) -> bool:
    if not isinstance(layer, (StockConv, StockDense)):
        return True
    if not isinstance(layer.neuron, Lif) or {layer.neuron.i_decay, layer.neuron.v_decay} != {DECAY_UNITY}:
        return False
    delay = layer.delay if isinstance(layer, StockDense) else None
    return delay is None or delay.min() == delay.max()


def _row(layer: StockLayer) -> dict[str, Any]:
    row: dict[str, Any] = {"layer": layer.name, "type": type(layer).__name__, "shape": list(layer.shape)}
    if isinstance(layer, (StockConv, StockDense)):
        row["parameters"] = int(layer.weight.size)
        row["weights"] = [int(layer.weight.min()), int(layer.weight.max())]
        row["nonzero"] = int(np.count_nonzero(layer.weight))
    return row
