"""The spiking graph under construction: nodes so far, their ranges, and how populations and readouts are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from fastsnn_deploy.conversion.expression import Arm, CannotLowerError, Expression, Parts, Signal, Value
from fastsnn_deploy.conversion.fit import (
    Fitted,
    FittedPopulation,
    fit_population,
    fit_readout,
    reference_arm,
    unit_of_sum,
)
from fastsnn_deploy.conversion.partial_sums import in_parts, reach, units_of_parts
from fastsnn_deploy.conversion.quant_graph import QuantNode
from fastsnn_deploy.conversion.through import with_zero_channels
from fastsnn_deploy.conversion.ties import frequent_ties, halves
from fastsnn_deploy.graph import Concat, Flatten, Identity, Input, Node, Population, Readout, Synapse
from fastsnn_deploy.graph.neurons import relay_bounds, spike_bounds
from fastsnn_deploy.graph.ranges import STATE_BITS, STATE_MAX, Range, extend_ranges
from fastsnn_deploy.graph.synapses import zero_exponent

SPREAD_FIX = "Use input='spread' (--input spread)"
QUANTISE_FIX = "Put a QuantActivation before it (fd.prepare does so)"


class Context:
    """Collects spiking nodes while lowering goes through the quantised graph. neurons: preset of spike bounds of new
    populations.

    gain: what enters in all as a share of image and bias, for which potentials leave room. current: of how many images
    neurons that read the image hold the sum, where it enters as a constant current (`passes.window`); else 1.
    allow_loss: trained integers may lose bits where 24-bit potentials cannot hold them; `losses` says where.
    window: largest count range of an activation so far; relays pass on what others have spread.
    """

    def __init__(
        self, neurons: str, allow_loss: bool = False, gain: Fraction = Fraction(1), current: int = 1
    ) -> None:  # fmt: skip
        self.neurons, self.allow_loss, self.current = neurons, allow_loss, current
        self.image_max = int(STATE_MAX / max(gain, Fraction(1)) / current)
        self.state_max = int(STATE_MAX / max(gain, Fraction(1)) / min(current, 2))
        self.losses: dict[str, str] = {}
        self.nodes: dict[str, Node] = {}
        self.ranges: dict[str, Range] = {}
        self.window = 1

    def add(self, node: Node) -> str:
        """Add a node under a free name (its own if possible) and return that name."""
        name, i = node.name, 2
        while name in self.nodes:
            name, i = f"{node.name}.{i}", i + 1
        self.nodes[name] = node if name == node.name else dataclasses.replace(node, name=name)
        extend_ranges(self.ranges, self.nodes[name])
        return name

    def expression(self, value: Value, node: QuantNode) -> Expression:
        """A signal as a sum with one identity arm; a sum as itself; parts as a sum of them among zeros."""
        if isinstance(value, Parts):
            return self._sum_of(value, node)
        if isinstance(value, Expression):
            return value
        channels = value.shape[0]
        arm = Identity(
            name=f"{node.name}.from.{value.source}",
            inputs=(value.source,),
            shape=value.shape,
            module=node.module,
            weight=np.ones(channels, dtype=np.int8),
            exponent=zero_exponent(channels),
        )
        return Expression((Arm(arm, np.full(channels, value.scale)),), np.zeros(channels), value.shape)

    def _sum_of(self, value: Parts, node: QuantNode) -> Expression:
        if any(len(part.shape) != 3 or (isinstance(part, Expression) and part.flat) for part in value.parts):
            fix = "Put the activation before the concatenation"
            raise CannotLowerError("reads a concatenation of vectors whose steps differ", fix)
        channels, start = sum(part.shape[0] for part in value.parts), 0
        arms: list[Arm] = []
        constants = []
        for i, part in enumerate(value.parts):
            named = dataclasses.replace(node, name=f"{node.name}.part{i}")
            around = (start, channels - start - part.shape[0])
            start += part.shape[0]
            among = with_zero_channels(self.expression(part, named), named, around)
            arms += among.arms
            constants.append(among.constant)
        return Expression(tuple(arms), np.sum(constants, axis=0), (channels, *value.parts[0].shape[1:]))

    def signal(self, value: Value, node: QuantNode, shift: int = 0) -> Signal:
        """A spike source for `node` to read.

        Sums of ones (pools, upsampled or shifted copies) become a relay population with threshold 1, which passes
        every count on unchanged; shift: in units of 2**shift. Anything else must have been rounded by an activation.
        """
        if isinstance(value, Signal):
            return value
        if isinstance(value, Parts):
            return self.concatenate([self.signal(part, node) for part in value.parts], node)
        arm = value.arms[0]
        one_scale = len(set(arm.scale.tolist())) == 1 and arm.scale[0] > 0
        if len(value.arms) > 1 or arm.trained or value.constant.any() or not one_scale:
            raise CannotLowerError("reads a value that no activation has rounded to a grid", QUANTISE_FIX)
        return self._flattened(self._relay(value, node, shift), value.flat, node)

    def _relay(self, value: Expression, node: QuantNode, shift: int) -> Signal:
        arm = value.arms[0]
        if self.current > 1 and self._of_image(arm.synapse.inputs[0]):
            raise CannotLowerError("sums the image before the first layer, which has no constant current", SPREAD_FIX)
        source = self.ranges[arm.synapse.inputs[0]]
        low, high = arm.synapse.input_bounds(source.low, source.high)
        ones = np.ones(value.shape[0], dtype=np.int64)
        synapse = self.add(dataclasses.replace(arm.synapse, name=f"{node.name}.relay.synapse"))
        scale, half = float(arm.scale[0]), 2**shift // 2
        floor, ceiling = (int(bound + half) >> shift for bound in (low.min(), high.max()))
        population = Population(
            name=f"{node.name}.relay", inputs=(synapse,), shape=value.shape, module=node.module,
            threshold=ones << shift, bias=ones * 0, initial=ones * half, input_scale=np.full(value.shape[0], scale),
            scale=scale * 2**shift, **self._limits(floor, ceiling, relay_bounds),
        )  # fmt: skip
        return Signal(self.add(population), value.shape, scale * 2**shift)

    def _limits(
        self, floor: int, ceiling: int, bounds: Callable[[str, int, int], tuple[int, int]] = spike_bounds
    ) -> dict[str, int]:
        low, high = bounds(self.neurons, floor, ceiling)
        return {"floor": floor, "ceiling": ceiling, "min_spike": low, "max_spike": high}

    def concatenate(self, signals: list[Signal], node: QuantNode) -> Signal:
        """Spike sources side by side; they must share one scale, so that a count means the same everywhere."""
        scales = {signal.scale for signal in signals}
        if len(scales) > 1:
            steps = ", ".join(f"{scale:g}" for scale in sorted(scales))
            fix = "Let the activations share one step (fd.prepare ties them), or put one after the concatenation"
            raise CannotLowerError(f"concatenates activations with different steps ({steps})", fix)
        shape = (sum(signal.shape[0] for signal in signals), *signals[0].shape[1:])
        inputs = tuple(signal.source for signal in signals)
        cat = Concat(name=node.name, inputs=inputs, shape=shape, module=node.module, delays=(0,) * len(inputs))
        return Signal(self.add(cat), shape, signals[0].scale)

    def population(
        self, value: Expression, node: QuantNode, step: float, low: int, high: int, even: bool = False
    ) -> Signal:
        """Neurons that round `value` to multiples of `step`; even: ties to even integers, where they are frequent."""
        most = self.image_max if self._reads_image(value) else self.state_max
        if even:
            fitted = fit_population(value, self.ranges, step, low - 2, high + 2, most)
            if not fitted.lost.any() and frequent_ties(fitted, value, step):
                return self._half_to_even(fitted, value, node, step, low, high)
        fitted = fit_population(value, self.ranges, step, low, high, most)
        if fitted.lost.any() or fitted.coarse:
            parts = self._in_parts(value, node, fitted, step, max(high, -low))
            fitted = fit_population(parts, self.ranges, step, low, high, most)
            self._check_loss(fitted, node)
        signal = Signal(self._neurons(fitted, value, node, step, low, high), value.shape, step)
        return self._flattened(signal, value.flat, node)

    def _neurons(
        self, fitted: FittedPopulation, value: Expression, node: QuantNode, step: float, low: int, high: int
    ) -> str:
        population = Population(
            name=node.name, inputs=self._synapses(fitted, node), shape=value.shape, module=node.module,
            threshold=fitted.threshold, bias=fitted.bias, initial=fitted.threshold // 2, input_scale=fitted.unit,
            scale=step,
            **self._limits(low, high, spike_bounds if any(arm.trained for arm in value.arms) else relay_bounds),
        )  # fmt: skip
        self.window = max(self.window, high - low)
        return self.add(population)

    def _half_to_even(
        self, fitted: FittedPopulation, value: Expression, node: QuantNode, step: float, low: int, high: int
    ) -> Signal:
        """Two populations that share the steps between them, and a third that adds their counts."""
        channels = value.shape[0]
        arms: list[Arm] = []
        for name, (half, least, most) in zip(("odd", "even"), halves(fitted, low, high), strict=True):
            part = dataclasses.replace(node, name=f"{node.name}.{name}")
            source = Signal(self._neurons(half, value, part, step, least, most), value.shape, step)
            arms += self.expression(source, part).arms
        synapses = tuple(self.add(arm.synapse) for arm in arms)
        ones = np.ones(channels, dtype=np.int64)
        total = Population(
            name=node.name, inputs=synapses, shape=value.shape, module=node.module, threshold=ones, bias=ones * 0,
            initial=ones * 0, input_scale=np.full(channels, step), scale=step, **self._limits(low, high, relay_bounds),
        )  # fmt: skip
        self.window = max(self.window, high - low)
        return self._flattened(Signal(self.add(total), value.shape, step), value.flat, node)

    def readout(self, value: Expression, node: QuantNode) -> str:
        """An accumulator for `value`; returns its name."""
        most = self.image_max if self._reads_image(value) else self.state_max
        fitted = fit_readout(value, self.ranges, most)
        if fitted.lost.any():
            fitted = fit_readout(self._in_parts(value, node, fitted), self.ranges, most)
            self._check_loss(fitted, node)
        synapses = self._synapses(fitted, node)
        return self.add(
            Readout(
                name="output", inputs=synapses, shape=value.shape, module=node.module, bias=fitted.bias,
                scale=fitted.unit,
            )
        )  # fmt: skip

    def _reads_image(self, value: Expression) -> bool:
        return any(self._of_image(arm.synapse.inputs[0]) for arm in value.arms)

    def _of_image(self, name: str) -> bool:
        """Whether a spike source is the image, or only moves it."""
        node = self.nodes[name]
        return isinstance(node, Input) or (not isinstance(node, Population) and any(map(self._of_image, node.inputs)))

    def _in_parts(
        self, value: Expression, node: QuantNode, fitted: Fitted, step: float = 0.0, counts: int = 0
    ) -> Expression:
        """The same sum, by way of partial sums; what cannot be cut stays, and loses bits.

        An arm that one potential holds loses bits where it meets a far stronger one: its sum then comes in units of
        many, and its weights keep theirs.
        """
        if self.current > 1 and self._reads_image(value):
            return value  # partial sums would turn the current into spikes
        trained = [i for i, arm in enumerate(value.arms) if arm.trained]
        cut = {i for i in trained if self._reach(value.arms[i]) > self.state_max // 8} | set(fitted.coarse)
        if not cut and len(value.arms) > 1:
            cut = {trained[0]}
        reference = reference_arm(value, cut)
        unit = unit_of_sum(value, cut, self.ranges, self.state_max, step, counts)
        arms: list[Arm] = []
        for i, arm in enumerate(value.arms):
            name = dataclasses.replace(node, name=f"{node.name}.arm{i}")
            parts = None
            if i in cut:
                units = units_of_parts(arm.scale, unit, self._reach(arm), i == reference)
                parts = in_parts(arm, self.ranges[arm.synapse.inputs[0]], name, self.state_max, units)
            for synapse, population, reader in parts or ():
                self.add(synapse)
                self.add(population)
                arms.append(reader)
            arms += [] if parts else [arm]
        return dataclasses.replace(value, arms=tuple(arms))

    def _reach(self, arm: Arm) -> int:
        return reach(arm.synapse, self.ranges[arm.synapse.inputs[0]])

    def _check_loss(self, fitted: Fitted, node: QuantNode) -> None:
        """Trained integers that lose bits are a loss that nobody may overlook."""
        if not fitted.lost.any():
            return
        channels, most = int(np.count_nonzero(fitted.lost)), int(fitted.lost.max())
        name = fitted.synapses[0].module or node.module or node.name
        what = (
            f"needs {STATE_BITS + most} bits of potential and has {STATE_BITS}: in {channels} of {len(fitted.lost)} "
            f"channels the trained weights of '{name}' lose up to {most} bits"
        )
        if not self.allow_loss:
            fix = "Use fewer weight or activation bits here or fewer inputs, or accept the loss (allow_loss)"
            raise CannotLowerError(what, fix)
        self.losses[name] = what

    def flatten(self, signal: Signal, name: str, node: QuantNode) -> Signal:
        """(C, H, W) -> (C * H * W,)."""
        size = int(np.prod(signal.shape, dtype=np.int64))
        flat = Flatten(name=name, inputs=(signal.source,), shape=(size,), module=node.module)
        return Signal(self.add(flat), (size,), signal.scale)

    def _flattened(self, signal: Signal, flat: bool, node: QuantNode) -> Signal:
        return self.flatten(signal, f"{node.name}.flat", node) if flat and len(signal.shape) > 1 else signal

    def _synapses(self, fitted: Fitted, node: QuantNode) -> tuple[str, ...]:
        return tuple(self.add(self._named(synapse, node)) for synapse in fitted.synapses)

    def _named(self, synapse: Synapse, node: QuantNode) -> Synapse:
        """A layer keeps its own name; when two populations read it, the second copy also names its reader."""
        if synapse.name in self.nodes:
            return dataclasses.replace(synapse, name=f"{synapse.name}.to.{node.name}")
        return synapse
