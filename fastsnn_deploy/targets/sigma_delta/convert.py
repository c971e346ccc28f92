"""From a spiking graph to a sigma-delta network: power-of-two units, 8-bit weights, and a bound on the error.

Layers. A layer holds what is computed in it and relays of what later layers still read (`merge.py`). Relays are
channels like all others, with the real weight 1.

Units. Layer l works in units of 2**-k_l counts. A spike is 64 units, a state 4096 (spike_exp and state_exp of NetX),
so a weight W of NetX carries W / 64 units for one unit of its source: the real weight w (counts for a count) becomes
W = round(64 * 2**(k_l - k_(l-1)) * w), the bias b becomes round(2**k_l * b).

Bound, in units of layer l, for each channel. Let e be the bound of what arrives from layer l - 1 and p its largest
activation. The sum is off by at most

    sum |W| / 64 * e  +  sum |W - 64 * 2**(k_l - k_(l-1)) * w| / 64 * p  +  |rounding of the bias|

and ReLU does not enlarge it. The neuron then sends every change of its activation with the low 6 bits of the state
cut off (sdn/models.py:339, a floor). The state is a multiple of g, the greatest common divisor of 64 and the channel's
weights, so this loses at most (64 - g) / 4096 units each time, nothing in a relay of weight 64. Under a constant
input, layer l changes at most l + 1 times: at the start for its own bias, then once for each layer before it. Delta
sends its input without a loss.

All weights of a layer have one exponent in stock NetX. Where a relay's 1 or a shortcut stands beside small weights,
these keep fewer bits; the middle term of the bound says what that costs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import LoweringError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.ranges import STATE_MAX
from fastsnn_deploy.lava_dl import (
    Sdnn,
    StockConv,
    StockDense,
    StockFlatten,
    StockInput,
    StockLayer,
    StockNetwork,
    check,
)
from fastsnn_deploy.lava_dl.limits import MESSAGE_BITS, MESSAGE_PLACES, STATE_PLACES, WEIGHT_MAX
from fastsnn_deploy.targets.sigma_delta.merge import stages_of
from fastsnn_deploy.targets.sigma_delta.stages import Float64, RealStage
from fastsnn_deploy.targets.stock_notes import described_input

Int64 = npt.NDArray[np.int64]

MESSAGE_ONE = 2**MESSAGE_PLACES
STATE_ONE = 2**STATE_PLACES
MESSAGE_UNITS = 2 ** (MESSAGE_BITS - 1) // MESSAGE_ONE
"""Activations below this many units fit spikes of 16 signed bits, NetX's size for SDNN."""

SUM_UNITS = (STATE_MAX + 1) // STATE_ONE
"""Sums below this many units fit the 24 bits of Lava's convolution."""

MAX_EXPONENT = 18
FLOAT_SLACK = 2.0**-40
"""Relative and absolute allowance for float64 rounding of the real-valued reference."""


@dataclass(frozen=True, eq=False)
class LayerBound:
    """Largest possible error of one layer, for inputs whose activations stay within those of the calibration.

    name: of the stage. activation: float64 [C] for all channels of the layer, relays included, of the activation
    against the real-valued network, in counts (readout: synaptic input). sent: what the next layer receives. peak:
    float64 [C], largest real activation.
    """

    name: str
    activation: Float64
    sent: Float64
    peak: Float64


@dataclass(frozen=True, eq=False)
class SigmaDeltaNetwork:
    """network: for `netx.write_stock` and `lava_dl.run`; its metadata say how to feed it and read its answer.

    exponents: k of the input and of each stage. bounds: one for each stage. The readout's bias is added by whoever
    reads it (`readout`), since Lava's Sigma takes none.
    """

    network: StockNetwork
    stages: tuple[RealStage, ...]
    exponents: tuple[int, ...]
    bounds: tuple[LayerBound, ...]

    @property
    def steps(self) -> int:
        """Steps after which the output of a constant input does not change any more."""
        return len(self.stages) + 1

    @property
    def layers(self) -> tuple[int, ...]:
        """Number of each stage's layer in `network`."""
        return tuple(i for i, layer in enumerate(self.network.layers) if isinstance(layer, (StockConv, StockDense)))

    def frames(self, emitted: Int64) -> Int64:
        """What the input takes: int64 [steps, N, *shape] from the graph's integers [N, *shape]."""
        return np.broadcast_to(emitted << self.exponents[0], (self.steps, *emitted.shape))

    def readout(self, sigma: npt.NDArray[np.integer]) -> Float64:
        """Synaptic input of the last layer, float64, from the integers that it sends, [..., *shape]."""
        last = self.stages[-1]
        return np.asarray(sigma / (STATE_ONE * 2.0 ** self.exponents[-1]) + last.along(last.bias))


def convert(graph: SpikingGraph, calibration: Int64, *, headroom: float = 2.0) -> SigmaDeltaNetwork:
    """Convert a graph with one readout.

    calibration: int64 [N, *input shape], emitted integers of typical images (`graph.input.encode(images)`); their
    activations choose the units, with a factor of `headroom` to the end of the spike's 16 bits. Raises
    LoweringError for max pools, for counts below 0 and for inputs beyond the spikes; GraphError where the graph
    cannot become a chain; InputError where stock Lava has no exact form of the integers.
    """
    stages = stages_of(graph)
    values = calibration.astype(np.float64)
    peak = _channel_peaks(values)
    exponents = [_input_exponent(graph, values, headroom)]
    layers: list[StockLayer] = [StockInput(shape=graph.input.shape, neuron=Sdnn(), name=graph.input.name)]
    bounds: list[LayerBound] = []
    error = np.zeros(graph.input.shape[0])
    for depth, stage in enumerate(stages, start=1):
        limits = [(SUM_UNITS, float(np.abs(stage.apply(np.abs(stage.weight), np.abs(values))).max(initial=0.0)))]
        values = stage.real(values)
        if not stage.is_readout:
            limits.append((MESSAGE_UNITS, float(np.abs(values).max(initial=0.0))))
        exponents.append(_exponent(stage, exponents[-1], limits, headroom))
        weight, bias = _integers(stage, exponents[-2], exponents[-1])
        before, peak = peak, _channel_peaks(values)
        bounds.append(_bound(stage, depth, (before, peak), (weight, bias), exponents[-2:], error))
        error = bounds[-1].sent
        layers += _layers(stage, weight, bias)
    network = StockNetwork(tuple(layers), metadata=_metadata(graph, stages, exponents))
    check(network)
    return SigmaDeltaNetwork(network, stages, tuple(exponents), tuple(bounds))


def _fitting(limits: list[tuple[int, float]], headroom: float) -> int:
    """Largest k with value * headroom * 2**k < limit for every (limit, value)."""
    scaled = [limit / (value * headroom) for limit, value in limits if value > 0]
    return min([MAX_EXPONENT, *(int(np.ceil(np.log2(ratio))) - 1 for ratio in scaled)])


def _input_exponent(graph: SpikingGraph, values: Float64, headroom: float) -> int:
    peak = float(np.abs(values).max(initial=0.0))
    exponent = _fitting([(MESSAGE_UNITS, peak)], headroom if peak * headroom < MESSAGE_UNITS else 1.0)
    if exponent < 0:
        raise LoweringError(
            f"the input '{graph.input.name}' emits up to {peak:g}, beyond {MESSAGE_UNITS - 1}, the largest value of a "
            "16-bit spike. Use fewer input levels"
        )
    return exponent


def _exponent(stage: RealStage, source: int, limits: list[tuple[int, float]], headroom: float) -> int:
    """The finest unit whose weights fit 8 bits and whose values fit their registers."""
    largest = float(np.abs(stage.weight).max(initial=0.0))
    if largest == 0:
        raise LoweringError(f"all weights into '{stage.name}' are 0")
    return min(source + int(np.floor(np.log2(WEIGHT_MAX / (MESSAGE_ONE * largest)))), _fitting(limits, headroom))


def _integers(stage: RealStage, source: int, own: int) -> tuple[Int64, Int64]:
    weight = np.rint(stage.weight * MESSAGE_ONE * 2.0 ** (own - source)).astype(np.int64)
    return weight, np.rint(stage.bias * 2.0**own).astype(np.int64)


def _bound(
    stage: RealStage,
    depth: int,
    peaks: tuple[Float64, Float64],
    integers: tuple[Int64, Int64],
    exponents: list[int],
    error: Float64,
) -> LayerBound:
    """peaks: before and after the layer, float64 [I] and [O]. integers: weight, bias. error: of what arrives, [I]."""
    (source, own), (weight, bias) = exponents, integers
    # to units of the source, one number for each of its channels, or for each neuron after a flatten
    incoming = _spread(stage, error * 2.0**source)
    peak = _spread(stage, peaks[0] * 2.0**source)
    rounding = np.abs(weight - stage.weight * MESSAGE_ONE * 2.0 ** (own - source))
    total = _weighted(stage, np.abs(weight) / MESSAGE_ONE, incoming) + _weighted(stage, rounding / MESSAGE_ONE, peak)
    if not stage.is_readout:  # the readout's bias stays a real number
        total += np.abs(bias - stage.bias * 2.0**own)
    total = total * (1 + FLOAT_SLACK) + FLOAT_SLACK
    sent = total + (0.0 if stage.is_readout else _lost(weight) * (depth + 1))
    return LayerBound(stage.name, total / 2.0**own, sent / 2.0**own, peaks[1])


def _lost(weight: Int64) -> Float64:
    """Most that a spike of each channel cuts off, in units: float64 [O]."""
    divisor = np.gcd.reduce(weight.reshape(len(weight), -1), axis=1, initial=MESSAGE_ONE)
    return np.asarray((MESSAGE_ONE - divisor) / STATE_ONE)


def _channel_peaks(values: Float64) -> Float64:
    """float64 [C] from [N, C, ...]."""
    return np.asarray(np.abs(values).max(axis=(0, *range(2, values.ndim)), initial=0.0))


def _spread(stage: RealStage, channels: Float64) -> Float64:
    return np.repeat(channels, int(np.prod(stage.source[1:]))) if stage.flatten else channels


def _weighted(stage: RealStage, weight: Float64, channels: Float64) -> Float64:
    """Sum over the taps of |weight| times one number for each source channel: float64 [C]."""
    if weight.ndim == 2:
        return np.asarray(weight @ channels)
    outputs, per_group = weight.shape[:2]
    group = np.repeat(np.arange(stage.groups), outputs // stage.groups)
    source = channels[group[:, None] * per_group + np.arange(per_group)]
    return np.asarray((weight * source[:, :, None, None]).sum((1, 2, 3)))


def _layers(stage: RealStage, weight: Int64, bias: Int64) -> list[StockLayer]:
    neuron = Sdnn(sigma_output=stage.is_readout)
    own_bias = None if stage.is_readout else bias
    if weight.ndim == 2:
        dense = StockDense(shape=stage.shape, weight=weight, bias=own_bias, neuron=neuron, name=stage.name)
        return [StockFlatten(shape=(weight.shape[1],)), dense] if stage.flatten else [dense]
    geometry = {key: getattr(stage, key) for key in ("stride", "padding", "dilation", "groups")}
    return [StockConv(shape=stage.shape, weight=weight, bias=own_bias, neuron=neuron, name=stage.name, **geometry)]


def _metadata(graph: SpikingGraph, stages: tuple[RealStage, ...], exponents: list[int]) -> dict[str, str]:
    """How to feed the network and read its answer: logits = (output / 2**places + bias) * scale, row by row.

    pieces: only of a feature map that is spread over rows, for each piece its first row, offset and stride.
    """
    last = stages[-1]
    parts = last.units[0].parts
    scale = np.broadcast_to(last.node.scale, last.node.channels)
    rows = len(last.bias) // len(scale)
    scale = np.tile(scale, rows) if len(last.shape) == 3 else np.repeat(scale, rows)
    output = {"places": STATE_PLACES + exponents[-1], "bias": last.bias.tolist(), "scale": scale.tolist()}
    if len(parts) > 1:
        output["pieces"] = [[rows.start, part.offset, part.stride] for rows, part in parts]
    source = described_input(graph.input) | {"places": exponents[0]}
    return {"input": json.dumps(source), "output": json.dumps(output)}
