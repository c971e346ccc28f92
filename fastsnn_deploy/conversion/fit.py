"""Choose integers for real scales: weights with exponents, thresholds and biases of one population.

For each channel one real unit of synaptic input u is chosen; then a threshold is step / u, a bias constant / u, and the
weights of an arm of real scale r are weight * r / u. The first arm with trained weights keeps its integers exactly
(u = |r| / 2**e); other arms are rounded to 8-bit mantissas with an exponent for each channel, and what that leaves
goes into a second synapse beside the first. From here on these integers are the network: whatever was rounded is
part of the integer network that every target must match.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.conversion.expression import Arm, Expression, Float64
from fastsnn_deploy.graph import Synapse
from fastsnn_deploy.graph.arithmetic import round_half_up
from fastsnn_deploy.graph.ranges import STATE_MAX, Range
from fastsnn_deploy.graph.synapses import MAX_EXPONENT
from fastsnn_deploy.graph.synapses.base import blocks

Int64 = npt.NDArray[np.int64]

MIN_THRESHOLD = 131_072
"""Rounding a threshold costs a relative error of 1 / (2 * threshold), and now and then a count differs from the
quantised model's, which later layers amplify: a trained 2-bit ResNet-20 answers 3.5 % of CIFAR-10's images
differently with 8,192 and 0.3 % with 131,072. Wide populations have less, so that their potential fits 24 bits."""

ENOUGH_THRESHOLD = 8192
"""A threshold that must do where a larger one would take more bits for the trained weights."""

MAX_THRESHOLD = 262_144
"""Dead batch norm channels would need thresholds beyond 24 bits; their unit is floored so that this one holds.
A channel whose weights can reach half a threshold is not dead and keeps its trained integers while they fit."""

MIN_MANTISSA = 64
"""A rounded arm should use at least 7 of its 8 bits in its largest weight."""

READOUT_EXPONENT = 4
"""Readouts count in 1/16 of a weight, so that rounding the bias cannot decide between classes."""

LOWEST_EXPONENT = -40

SLACK = 1.01
"""Partial sums round up, so that their sum reaches a little further than the weights."""

NEGLIGIBLE = 2.0**-40
"""A channel whose weights are smaller than this, against the step, is a constant."""


@dataclass(frozen=True)
class Fitted:
    """Integer form of an expression. unit: real value of one synaptic input, float64 [C]; bias int64 [C].

    lost: int64 [C], bits that the trained integers lose, because a potential of 24 bits cannot hold their sum.
    coarse: numbers of the other trained arms whose weights are too few units for their bits.
    """

    synapses: tuple[Synapse, ...]
    bias: Int64
    unit: Float64
    lost: Int64
    coarse: tuple[int, ...]


@dataclass(frozen=True)
class FittedPopulation(Fitted):
    """threshold: int64 [C], at least 1."""

    threshold: Int64


def fit_population(
    expression: Expression, sources: dict[str, Range], step: float, low: int, high: int, state_max: int = STATE_MAX
) -> FittedPopulation:
    """Integers for `expression` followed by a quantiser of `step` with counts low .. high.

    sources: range of the integers of every arm's source. Exponents shrink until weights fit and the
    potential stays within state_max.
    """
    arms, main = expression.arms, _main_arm(expression)
    reaches = [_reach(arm, sources) for arm in arms]
    base = _base_unit(arms[main], step, step / MIN_THRESHOLD)
    exponent = _population_exponent(arms, main, base, step, reaches[main])
    while True:
        unit = base / np.exp2(exponent)
        threshold = np.maximum(round_half_up(step / unit), 1)
        bias = expression.constant / unit
        factors = _cut([arm.scale / unit for arm in arms], reaches, threshold * (high - low + 2.0) + np.abs(bias))
        synapses, unfit = _integer_arms(arms, factors, main, exponent)
        synaptic_input = _synaptic_input(synapses, sources)
        whole_bias = _saturated(bias, synaptic_input, threshold, low, high)
        reach = np.maximum(
            np.abs(synaptic_input.low + np.minimum(whole_bias, 0)),
            np.abs(synaptic_input.high + np.maximum(whole_bias, 0)),
        )
        counts = np.full_like(threshold, max(high, -low))
        # losing bits of trained weights is the last resort: a channel that is nearly dead never counts that far
        counts = np.where(exponent > 0, counts, np.minimum(counts, reach // threshold + 1))
        unfit |= reach + threshold * (counts + 1) > state_max
        if not (unfit & (exponent > LOWEST_EXPONENT)).any():
            dead = np.abs(arms[main].scale) * reaches[main] < step / 2
            lost = np.where(dead | (not arms[main].trained), 0, np.maximum(-exponent, 0))
            coarse = tuple(i for i in range(len(arms)) if i != main and _coarse(arms[i], reaches[i], unit, step))
            return FittedPopulation(synapses, whole_bias, unit, lost, coarse, threshold)
        exponent = exponent - unfit


def fit_readout(expression: Expression, sources: dict[str, Range], state_max: int = STATE_MAX) -> Fitted:
    """Integers for an accumulating readout. Channels keep one common unit if the main arm has one."""
    arms, main = expression.arms, _main_arm(expression)
    largest = float(np.abs(arms[main].scale).max()) or 1.0
    base = _base_unit(arms[main], largest, largest)
    common = bool((base == largest).all())
    exponent = _readout_exponent(expression, main, base, common)
    while True:
        unit = base / np.exp2(exponent)
        synapses, unfit = _integer_arms(arms, [arm.scale / unit for arm in arms], main, exponent)
        synaptic_input = _synaptic_input(synapses, sources)
        bias = round_half_up(expression.constant / unit)
        unfit |= np.maximum(synaptic_input.high, -synaptic_input.low) + np.abs(bias) > state_max
        if not (unfit & (exponent > LOWEST_EXPONENT)).any():
            lost = np.maximum(-exponent, 0) * arms[main].trained
            return Fitted(synapses, bias, unit, lost, ())
        exponent = exponent - (unfit.any() if common else unfit)


def unit_of_sum(
    expression: Expression, in_parts: Collection[int], sources: dict[str, Range], state_max: int,
    step: float = 0.0, counts: int = 0,
) -> Float64:  # fmt: skip
    """The unit that a sum gets, or a power of two more, once some arms come as partial sums: float64 [C].

    in_parts: numbers of those arms. step: of the quantiser, with counts of at most `counts` either sign; without one it
    is a readout.
    """
    arms, reference = expression.arms, reference_arm(expression, in_parts)
    base = np.abs(arms[reference].scale)
    finest = np.full(len(base), step / MIN_THRESHOLD) if step else base / 2**READOUT_EXPONENT
    base = np.where(base > 0, base, np.where(finest > 0, finest, 1.0))
    reach = np.abs(expression.constant) + step * (counts + 2)
    for i, arm in enumerate(arms):  # all channels of a population have the same bounds of their counts
        own = _reach(arm, sources)
        reach = reach + np.abs(arm.scale) * (own if i not in in_parts else own.max() * (1 if i == reference else 2))
    exponent = _ceil_log2(np.maximum(finest, SLACK * reach / state_max) / base)
    return np.asarray(base * np.exp2(exponent.max() if reference in in_parts else exponent))


def reference_arm(expression: Expression, in_parts: Collection[int]) -> int:
    """The arm that decides the unit once some arms come as partial sums, which are not trained."""
    whole = (i for i, arm in enumerate(expression.arms) if arm.trained and i not in in_parts)
    return next(whole, 0)


def _main_arm(expression: Expression) -> int:
    return next((i for i, arm in enumerate(expression.arms) if arm.trained), 0)


def _base_unit(main: Arm, reference: float, fallback: float) -> Float64:
    """Unit at exponent 0: the main arm's scale; `fallback` for channels that this arm does not reach."""
    scale = np.abs(main.scale)
    return np.where(scale > reference * NEGLIGIBLE, scale, fallback)


def _population_exponent(arms: tuple[Arm, ...], main: int, base: Float64, step: float, reach: Float64) -> Int64:
    """Smallest e >= 0 that gives the threshold and resolves the arms; negative only for dead channels."""
    enough = np.maximum(_ceil_log2(ENOUGH_THRESHOLD * base / step), MAX_EXPONENT)
    wanted = np.minimum(_ceil_log2(MIN_THRESHOLD * base / step), enough)
    wanted = np.maximum(wanted, _mantissa_exponent(arms, main, base))
    allowed = _floor_log2(MAX_THRESHOLD * base / step)
    dead = np.abs(arms[main].scale) * reach < step / 2
    return np.asarray(np.minimum(wanted, np.where(dead, allowed, np.maximum(allowed, 0))))


def _readout_exponent(expression: Expression, main: int, base: Float64, common: bool) -> Int64:
    """READOUT_EXPONENT or what other arms need, but no more than the largest bias allows."""
    arms, constant = expression.arms, np.abs(expression.constant)
    wanted = np.maximum(_mantissa_exponent(arms, main, base), READOUT_EXPONENT)
    room = _floor_log2(np.where(constant > 0, STATE_MAX * base / np.where(constant > 0, constant, 1.0), 2.0**30))
    if common:
        wanted, room = np.full_like(wanted, wanted.max()), np.full_like(room, room.min())
    return np.asarray(np.minimum(np.minimum(wanted, MAX_EXPONENT), room))


def _mantissa_exponent(arms: tuple[Arm, ...], main: int, base: Float64) -> Int64:
    """Smallest e >= 0 at which every other arm's largest weight has a mantissa of MIN_MANTISSA."""
    wanted = np.zeros(len(base), dtype=np.int64)
    for i, arm in enumerate(arms):
        largest = np.abs(arm.scale) * _largest_weight(arm.synapse) / base
        if i != main:
            usable = largest > NEGLIGIBLE
            wanted = np.maximum(wanted, _ceil_log2(MIN_MANTISSA / np.where(usable, largest, MIN_MANTISSA)))
    return wanted


def _ceil_log2(x: Float64) -> Int64:
    """Exact, which numpy.log2 does not promise."""
    mantissa, exponent = np.frexp(x)
    return np.asarray(exponent.astype(np.int64) - (mantissa == 0.5))


def _floor_log2(x: Float64) -> Int64:
    return np.asarray(np.frexp(x)[1].astype(np.int64) - 1)


def _largest_weight(synapse: Synapse) -> Float64:
    flat = synapse.weight.reshape(synapse.channels, -1)
    return np.asarray(np.maximum(flat.max(1).astype(np.float64), -flat.min(1).astype(np.float64)))


def _reach(arm: Arm, sources: dict[str, Range]) -> Float64:
    """Largest magnitude of the arm's integers, float64 [C]."""
    source = sources[arm.synapse.inputs[0]]
    low, high = arm.synapse.input_bounds(source.low, source.high)
    return np.maximum(high, -low).astype(np.float64)


def _coarse(arm: Arm, reach: Float64, unit: Float64, step: float) -> bool:
    """True if an arm that counts has weights that are rounded to few units."""
    largest, counts = np.abs(arm.scale) * _largest_weight(arm.synapse), np.abs(arm.scale) * reach >= step / 2
    return arm.trained and bool((counts & (largest < MIN_MANTISSA * unit)).any())


def _cut(factors: list[Float64], reaches: list[Float64], decisive: Float64) -> list[Float64]:
    """Cut factors so large that one unit of their arm sends the count to its bound, whatever the others do.

    decisive: synaptic input beyond which the count is at its bound if no other arm is there. What is cut stays a
    power of two, so that an arm's integers still cancel where they did; the counts are the same, and the weights fit.
    """
    own = [np.abs(factor) * reach for factor, reach in zip(factors, reaches, strict=True)]
    cut = []
    for i, factor in enumerate(factors):
        others = sum(own[:i] + own[i + 1 :])  # a difference from the total would lose small ones
        limit = np.exp2(_ceil_log2(decisive + others))
        cut.append(np.where(np.abs(factor) > limit, np.sign(factor) * limit, factor))
    return cut


def _integer_arms(
    arms: tuple[Arm, ...], factors: list[Float64], main: int, exponent: Int64
) -> tuple[tuple[Synapse, ...], npt.NDArray[np.bool_]]:
    """Integer weights of all arms, and the channels in which one does not fit a mantissa and an exponent."""
    synapses, unfit = [], np.zeros(len(exponent), dtype=bool)
    for i, (arm, factor) in enumerate(zip(arms, factors, strict=True)):
        needed = np.maximum(_ceil_log2(np.abs(factor) * _largest_weight(arm.synapse) / 127.0), 0)
        if i == main:  # the trained integers stay as they are, but for the sign of the gain
            exact = (np.abs(factor) == np.exp2(exponent)) & (exponent >= 0) & (exponent <= MAX_EXPONENT)
            needed = np.where(exact, exponent, needed)
        unfit |= needed > MAX_EXPONENT
        beyond = bool((arm.synapse.weight == -128).any())  # one more than a mantissa that may change its sign
        coarse, left = _rounded(arm.synapse, factor, np.minimum(needed, MAX_EXPONENT), i != main or beyond)
        synapses.append(coarse)
        if left is not None and (fine := _fine(arm.synapse, left)) is not None:
            synapses.append(fine)
    return tuple(synapses), unfit


def _fine(synapse: Synapse, left: Float64) -> Synapse | None:
    """What the mantissas of an arm could not hold, as a synapse beside it; None if that rounds to nothing.

    Eight bits move 0.2 % of the counts of a 2-bit residual block, and the blocks behind it amplify that.
    """
    largest = np.abs(left).reshape(synapse.channels, -1).max(1)
    exponent = np.clip(_ceil_log2(largest / 127.0), 0, MAX_EXPONENT)
    weight = _mantissa(left / _column(np.exp2(exponent), synapse))
    fine = dataclasses.replace(synapse, weight=weight, exponent=exponent)
    return dataclasses.replace(fine, name=f"{synapse.name}.fine") if fine.weight.any() else None


def _rounded(synapse: Synapse, factor: Float64, exponent: Int64, with_rest: bool) -> tuple[Synapse, Float64 | None]:
    """Weights times factor as mantissa * 2**exponent, and what is left of them where it is wanted."""
    unit, factor = _column(np.exp2(exponent), synapse), _column(factor, synapse)
    weight, rest = np.empty_like(synapse.weight), []
    for rows in blocks(weight):
        given = synapse.weight[rows]
        if (np.abs(factor[rows]) == unit[rows]).all():  # mantissas as they are, without 8 bytes for each
            np.multiply(np.maximum(given, -127), np.sign(factor[rows]).astype(np.int8), out=weight[rows])
        else:
            weight[rows] = _mantissa(given * factor[rows] / unit[rows])
        if with_rest:
            rest.append(given * factor[rows] - weight[rows] * unit[rows])
    weight.flags.writeable = False  # the synapse keeps it without a copy
    made = dataclasses.replace(synapse, weight=weight, exponent=exponent)
    return made, np.concatenate(rest) if with_rest else None


def _mantissa(wanted: Float64) -> npt.NDArray[np.int8]:
    """Ties round to even: half up would shift the sum of many weights."""
    rounded: npt.NDArray[np.int8] = np.clip(np.rint(wanted), -127, 127).astype(np.int8)
    return rounded


def _column(values: Float64, synapse: Synapse) -> Float64:
    """One value for each output channel, shaped to multiply the weights."""
    return values.reshape((-1,) + (1,) * (synapse.weight.ndim - 1))


def _synaptic_input(synapses: tuple[Synapse, ...], sources: dict[str, Range]) -> Range:
    bounds = [s.input_bounds(sources[s.inputs[0]].low, sources[s.inputs[0]].high) for s in synapses]
    return Range(sum(b[0] for b in bounds), sum(b[1] for b in bounds))  # type: ignore[arg-type]


def _saturated(bias: Float64, synaptic_input: Range, threshold: Int64, low: int, high: int) -> Int64:
    """Round the bias, and cut what lies beyond the bias at which the count is at its bound for every image."""
    most = threshold * (high + 2) - synaptic_input.low
    least = threshold * (low - 2) - synaptic_input.high
    return round_half_up(np.clip(bias, least, most))
