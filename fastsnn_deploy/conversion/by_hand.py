"""A spiking network from integers that the user has: weights, thresholds and biases as NumPy arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError, whole_number, wrong_type
from fastsnn_deploy.graph import (
    Concat,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    Identity,
    Input,
    Linear,
    MaxPool2d,
    Node,
    Population,
    Readout,
    Schedule,
    SpikingGraph,
    SumPool2d,
    Synapse,
    Upsample,
)
from fastsnn_deploy.graph.images import PIXEL, image_shape
from fastsnn_deploy.graph.neurons import spike_bounds
from fastsnn_deploy.graph.synapses import zero_exponent
from fastsnn_deploy.graph.synapses.base import MAX_EXPONENT
from fastsnn_deploy.passes.balance import balanced

Int64 = npt.NDArray[np.int64]

MANTISSA = 127


@dataclass(frozen=True)
class Spikes:
    """What an input, neurons or a pool send. name: of the node. shape: (C, H, W) or (N,)."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class SynapticInput:
    """What synapses bring: `neurons` and `readout` add it up. name: of the node. shape: (C, H, W) or (N,)."""

    name: str
    shape: tuple[int, ...]


V = TypeVar("V", Spikes, SynapticInput)


class Graph:
    """Builds a `SpikingGraph` from arrays of integers, one call a layer.

    Synapses (`conv`, `conv_transpose`, `dense`, `identity`, `sum_pool`, `upsample`) read spikes; `neurons` and
    `readout` add up one or several of them and a bias. A neuron settles at count n = clip((input + bias + initial) //
    threshold, floor, ceiling), with initial = threshold // 2 unless it is given: rounding half up.

    Args:
        input_shape: (C, H, W) or (N,) of one raw image.
        low: Least level of a raw image.
        high: Greatest level.
        step: Real value of one level: 1/255 for pixels, 1 for integers.
        offset: Subtracted from every level, one number or one for each channel.

    Raises:
        InputError: in any of its methods, one message for what is wrong: another shape, not whole numbers, more than 8
            bits of weight, a potential of more than 24 bits, ...

    Example:
        >>> import numpy as np
        >>> import fastsnn_deploy as fd
        >>> draw = np.random.default_rng(0).integers
        >>> net = fd.Graph((1, 8, 8))
        >>> first = net.conv(net.image, draw(-9, 10, (4, 1, 3, 3)), padding=1)
        >>> a = net.neurons(first, threshold=900, bias=draw(-99, 99, 4), ceiling=15)
        >>> b = net.neurons(net.conv(a, draw(-9, 10, (4, 4, 3, 3)), padding=1), net.identity(a, 20), threshold=50,
        ...                 ceiling=15)
        >>> snn = net.build(net.readout(net.dense(net.max_pool(b, 2), draw(-9, 10, (10, 64)))))
        >>> snn
        SpikingGraph(2 populations, 1x8x8 -> 10, 824 parameters, depth 4)
        >>> fd.simulate(snn, draw(0, 256, (2, 1, 8, 8)).astype(np.uint8)).logits.shape
        (2, 10)
    """

    def __init__(
        self, input_shape: Sequence[int], *, low: int = 0, high: int = 255, step: float = PIXEL, offset: Any = 0
    ) -> None:
        shape = image_shape(input_shape)
        self._nodes: dict[str, Node] = {}
        self._made: dict[str, Spikes | SynapticInput] = {}
        self._window = 1
        image = Input(
            name="image", shape=shape, step=float(step), scale=float(step), low=whole_number("low", low, -(2**23)),
            high=whole_number("high", high, -(2**23)), offset=_per_channel("offset", offset, shape[0]),
        )  # fmt: skip
        self.image = self._add(image, Spikes)

    # synapses

    def conv(
        self, source: Spikes, weight: Any, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
        name: str = "",
    ) -> SynapticInput:  # fmt: skip
        """A convolution, as PyTorch defines it. weight: integers [O, I / groups, kh, kw]."""
        options = {"stride": _pair("stride", stride, 1), "padding": _pair("padding", padding, 0)}
        options["dilation"] = _pair("dilation", dilation, 1)
        return self._weighted(
            Conv2d, source, weight, name or "conv", groups=whole_number("groups", groups, 1), **options
        )

    def conv_transpose(
        self, source: Spikes, weight: Any, *, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, name: str = ""
    ) -> SynapticInput:
        """A transposed convolution. weight: integers [O, I, kh, kw], output channels first."""
        options = {"stride": _pair("stride", stride, 1), "padding": _pair("padding", padding, 0)}
        options["output_padding"] = _pair("output_padding", output_padding, 0)
        return self._weighted(ConvTranspose2d, source, weight, name or "conv_transpose", **options)

    def dense(self, source: Spikes, weight: Any, *, name: str = "") -> SynapticInput:
        """A matrix product. weight: integers [O, I]; maps are flattened, channels first."""
        return self._weighted(Linear, self.flatten(source), weight, name or "dense")

    def identity(self, source: Spikes, weight: Any = 1, *, name: str = "") -> SynapticInput:
        """Neuron to neuron, as a shortcut has it. weight: one integer, or one for each channel."""
        return self._one_each(Identity, source, weight, name or "identity")

    def sum_pool(
        self, source: Spikes, kernel: Any, *, stride: Any = None, padding: Any = 0, weight: Any = 1, name: str = ""
    ) -> SynapticInput:
        """The sum over windows; the divisor of an average belongs into the threshold of the neurons that read it."""
        size = _pair("kernel", kernel, 1)
        steps = size if stride is None else _pair("stride", stride, 1)
        pads = _pair("padding", padding, 0)
        return self._one_each(SumPool2d, source, weight, name or "sum_pool", kernel=size, stride=steps, padding=pads)

    def upsample(self, source: Spikes, factor: Any, *, weight: Any = 1, name: str = "") -> SynapticInput:
        """Copies of every neuron, nearest neighbour."""
        return self._one_each(Upsample, source, weight, name or "upsample", factor=_pair("factor", factor, 1))

    # neurons

    def neurons(
        self, *inputs: SynapticInput, threshold: Any, ceiling: int, bias: Any = 0, floor: int = 0, initial: Any = None,
        kind: str = "unary", scale: float = 1.0, name: str = "",
    ) -> Spikes:  # fmt: skip
        """Integrate-and-fire neurons with soft reset.

        threshold, bias, initial: integers, one or one for each channel. floor, ceiling: bounds of the count. kind: of
        spikes, unary, graded, unsigned, burst4. scale: real value of one count.
        """
        name, shape = self._free(name or "neurons"), self._shape(inputs, "neurons")
        channels, least, most = shape[0], whole_number("floor", floor, -(2**23), 0), whole_number("ceiling", ceiling, 1)
        limits = _per_channel(f"{name}: threshold", threshold, channels)
        if limits.min() < 1:
            raise InputError(f"{name}: threshold is {limits.min()}, must be at least 1")
        low, high = spike_bounds(kind, least, most)
        start = limits // 2 if initial is None else _per_channel(f"{name}: initial", initial, channels)
        self._window = max(self._window, most - least)
        population = Population(
            name=name, inputs=tuple(each.name for each in inputs), shape=shape, threshold=limits,
            bias=_per_channel(f"{name}: bias", bias, channels), initial=start, input_scale=float(scale) / limits,
            ceiling=most, floor=least, min_spike=low, max_spike=high, scale=float(scale),
        )  # fmt: skip
        return self._add(population, Spikes)

    def readout(self, *inputs: SynapticInput, bias: Any = 0, scale: float = 1.0, name: str = "output") -> SynapticInput:
        """The answer as potentials that never fire. scale: real value of one unit."""
        name, shape = self._free(name), self._shape(inputs, "readout")
        node = Readout(
            name=name, inputs=tuple(each.name for each in inputs), shape=shape,
            bias=_per_channel(f"{name}: bias", bias, shape[0]), scale=np.full(shape[0], float(scale)),
        )  # fmt: skip
        return self._add(node, SynapticInput)

    # routing

    def max_pool(self, source: Spikes, kernel: Any, *, stride: Any = None, padding: Any = 0, name: str = "") -> Spikes:
        """The maximum of the counts in a window."""
        size = _pair("kernel", kernel, 1)
        node = MaxPool2d(
            name=self._free(name or "max_pool"), inputs=(self._spikes(source, "max_pool").name,), shape=source.shape,
            kernel=size, stride=size if stride is None else _pair("stride", stride, 1),
            padding=_pair("padding", padding, 0),
        )  # fmt: skip
        return self._sized(node, source, Spikes)

    def flatten(self, source: Spikes) -> Spikes:
        """(C, H, W) as (C * H * W,), in that order; a vector stays as it is."""
        if len(self._spikes(source, "flatten").shape) == 1:
            return source
        size = int(np.prod(source.shape))
        return self._add(Flatten(name=self._free(f"{source.name}.flat"), inputs=(source.name,), shape=(size,)), Spikes)

    def concat(self, *sources: Spikes, name: str = "") -> Spikes:
        """Channels side by side."""
        for source in sources:
            self._spikes(source, "concat")
        if len({source.shape[1:] for source in sources}) != 1:
            raise InputError(f"concat: shapes {[source.shape for source in sources]} do not go side by side")
        shape = (sum(source.shape[0] for source in sources), *sources[0].shape[1:])
        names = tuple(source.name for source in sources)
        node = Concat(name=self._free(name or "concat"), inputs=names, shape=shape, delays=(0,) * len(names))
        return self._add(node, Spikes)

    def build(self, *outputs: Spikes | SynapticInput) -> SpikingGraph:
        """The network whose answers are these readouts or neurons, its shortcuts delayed so that both arms meet.

        Raises GraphError listing every rule that it breaks.
        """
        names = tuple(self._name(each, "build") for each in outputs if isinstance(each, (Spikes, SynapticInput)))
        if not names or not all(isinstance(self._nodes.get(name), (Readout, Population)) for name in names):
            raise InputError("build: give what readout or neurons returned, as net.build(net.readout(...))")
        return balanced(SpikingGraph(tuple(self._nodes.values()), names, Schedule(window=self._window)))

    # what they share

    def _weighted(self, kind: type[Synapse], source: Spikes, weight: Any, name: str, **options: Any) -> SynapticInput:
        name = self._free(name)
        mantissa, exponent = _mantissas(f"{name}: weight", weight, 2 if kind is Linear else 4)
        common: Any = {"name": name, "inputs": (self._spikes(source, name).name,), "shape": source.shape}
        return self._sized(kind(**common, weight=mantissa, exponent=exponent, **options), source, SynapticInput)

    def _one_each(self, kind: type[Synapse], source: Spikes, weight: Any, name: str, **options: Any) -> SynapticInput:
        name = self._free(name)
        channels = self._spikes(source, name).shape[0]
        mantissa, exponent = _mantissas(f"{name}: weight", _per_channel(f"{name}: weight", weight, channels), 1)
        common: Any = {"name": name, "inputs": (source.name,), "shape": source.shape}
        return self._sized(kind(**common, weight=mantissa, exponent=exponent, **options), source, SynapticInput)

    def _sized(self, node: Any, source: Spikes, kind: type[V]) -> V:
        """The node with the shape that it makes of its source."""
        try:
            return self._add(dataclasses.replace(node, shape=node.output_shape(source.shape)), kind)
        except ValueError as error:
            raise InputError(f"{node.name}: {error}") from error

    def _spikes(self, source: Any, reader: str) -> Spikes:
        if not isinstance(source, Spikes):
            raise wrong_type(reader, source, "spikes: net.image, or what neurons, max_pool, flatten or concat returned")
        self._name(source, reader)
        return source

    def _name(self, value: Spikes | SynapticInput, reader: str) -> str:
        if self._made.get(value.name) is not value:
            raise InputError(f"{reader}: '{value.name}' belongs to another Graph")
        return value.name

    def _shape(self, inputs: tuple[SynapticInput, ...], reader: str) -> tuple[int, ...]:
        for each in inputs:
            if not isinstance(each, SynapticInput):
                raise wrong_type(
                    reader, each, "synaptic input: what conv, dense, identity, sum_pool or upsample returned"
                )
            self._name(each, reader)
        shapes = [each.shape for each in inputs]
        if len(set(shapes)) != 1:
            what = f"inputs of shapes {shapes} do not add" if shapes else "got no synaptic input"
            raise InputError(f"{reader}: {what}")
        return shapes[0]

    def _free(self, name: str) -> str:
        """The name, with a number where it is taken."""
        if not isinstance(name, str) or not name:
            raise wrong_type("name", name, "the name of a layer")
        found, number = name, 2
        while found in self._nodes:
            found, number = f"{name}.{number}", number + 1
        return found

    def _add(self, node: Node, kind: type[V]) -> V:
        """What stands for a new node."""
        self._nodes[node.name] = node
        made = kind(node.name, node.shape)
        self._made[node.name] = made
        return made


def _integers(what: str, values: Any) -> Int64:
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "iuf" or array.size == 0:
        raise wrong_type(what, values, "whole numbers, as a NumPy array")
    if not np.isfinite(array).all() or np.any(array != np.rint(array)):
        wrong = array[(array != np.rint(array)) | ~np.isfinite(array)][0]
        raise InputError(f"{what} holds {wrong:g}, needs whole numbers. Round it, and scale the threshold alike")
    if np.abs(array.astype(np.float64)).max() >= 2**31:
        raise InputError(f"{what} holds {np.abs(array).max():g}, needs integers of 32 signed bits")
    return array.astype(np.int64)


def _per_channel(what: str, values: Any, channels: int) -> Int64:
    array = _integers(what, values)
    if array.ndim > 1 or array.size not in (1, channels):
        raise InputError(f"{what} has shape {array.shape}, needs one number or ({channels},), one for each channel")
    return np.array(np.broadcast_to(array.reshape(-1), (channels,)))


def _mantissas(what: str, weight: Any, dimensions: int) -> tuple[npt.NDArray[np.int8], Int64]:
    """Integers as 8-bit mantissas and an exponent for each output channel, exactly."""
    array = _integers(what, weight)
    if array.ndim != dimensions:
        raise InputError(f"{what} has shape {array.shape}, needs {dimensions} dimensions, output channels first")
    rows = array.reshape(len(array), -1)
    exponent = zero_exponent(len(rows))
    for row, values in enumerate(rows):
        while np.abs(values >> exponent[row]).max() > MANTISSA and exponent[row] < MAX_EXPONENT:
            exponent[row] += 1
    column = (-1,) + (1,) * (dimensions - 1)
    mantissa = array >> exponent.reshape(column)
    unfit = ((mantissa << exponent.reshape(column)) != array) | (np.abs(mantissa) > MANTISSA)
    if unfit.any():
        channel = int(np.flatnonzero(unfit.reshape(len(array), -1).any(1))[0])
        raise InputError(
            f"{what}: channel {channel} holds {array[unfit].flat[0]}, which 8 bits times a power of two for the "
            "channel do not hold. Split it into two layers that read the same and add up"
        )
    return mantissa.astype(np.int8), exponent


def _pair(name: str, value: Any, least: int) -> tuple[int, int]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2:
        raise wrong_type(name, value, "one whole number, or two for height and width")
    return whole_number(name, values[0], least), whole_number(name, values[1], least)
