"""Choose integers for real scales: weights with exponents, thresholds and biases of one population.

For each channel one real unit of charge u is chosen; then a threshold is step / u, a bias constant / u, and the
weights of an arm of real scale r are weight * r / u. The first arm with trained weights keeps its integers exactly
(u = |r| / 2**e); other arms are rounded to 8-bit mantissas with an exponent for each channel. From here on these
integers are the network: whatever was rounded is part of the integer network that every target must match.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import Synapse
from fastsnn_deploy.graph.arithmetic import round_half_up
from fastsnn_deploy.graph.ranges import STATE_MAX, Range
from fastsnn_deploy.graph.synapses import MAX_EXPONENT
from fastsnn_deploy.lower.expression import Arm, Expression, Float64

Int64 = npt.NDArray[np.int64]

MIN_THRESHOLD = 8192
"""Rounding a threshold costs a relative error of 1 / (2 * threshold), and now and then a count differs from the
twin's: on a 2-bit residual network 3.6 % of the last layer's counts with 1,024, 1.1 % with 8,192, no fewer beyond
(what remains comes from 8-bit shortcut weights)."""

MAX_THRESHOLD = 65_536
"""Dead batch norm channels would need thresholds beyond 24 bits; their unit is floored so that this one holds."""

MIN_MANTISSA = 64
"""A rounded arm should use at least 7 of its 8 bits in its largest weight."""

READOUT_EXPONENT = 4
"""Readouts count in 1/16 of a weight, so that rounding the bias cannot decide between classes."""

LOWEST_EXPONENT = -40


@dataclass(frozen=True)
class Fitted:
    """Integer form of an expression. unit: real value of one charge, float64 [C]; bias int64 [C]."""

    synapses: tuple[Synapse, ...]
    bias: Int64
    unit: Float64


@dataclass(frozen=True)
class FittedPopulation(Fitted):
    """threshold: int64 [C], at least 1."""

    threshold: Int64


def fit_population(
    expression: Expression, sources: dict[str, Range], step: float, low: int, high: int
) -> FittedPopulation:
    """Integers for `expression` followed by a quantiser of `step` with counts low .. high.

    sources: range of the integers of every arm's source. Exponents shrink until the potential fits the state.
    """
    main = _main_arm(expression)
    exponent = _population_exponent(expression.arms, main, step)
    while True:
        unit = _unit(expression.arms[main], exponent, step)
        synapses = _integer_arms(expression.arms, main, exponent, unit)
        threshold = np.maximum(round_half_up(step / unit), 1)
        charge = _charge(synapses, sources)
        bias = _saturated(expression.constant / unit, charge, threshold, low, high)
        reach = np.maximum(np.abs(charge.low + np.minimum(bias, 0)), np.abs(charge.high + np.maximum(bias, 0)))
        too_wide = reach + threshold * (max(high, -low) + 1) > STATE_MAX
        if not (too_wide & (exponent > LOWEST_EXPONENT)).any():
            return FittedPopulation(synapses, bias, unit, threshold)
        exponent = exponent - too_wide


def fit_readout(expression: Expression, sources: dict[str, Range]) -> Fitted:
    """Integers for an accumulating readout. Channels keep one common unit if the main arm has one."""
    main = _main_arm(expression)
    scale = expression.arms[main].scale
    exponent = np.full(len(scale), READOUT_EXPONENT, dtype=np.int64)
    while True:
        unit = _unit(expression.arms[main], exponent, 1.0)
        synapses = _integer_arms(expression.arms, main, exponent, unit)
        charge = _charge(synapses, sources)
        bias = round_half_up(expression.constant / unit)
        reach = np.maximum(charge.high, -charge.low) + np.abs(bias)
        if reach.max(initial=0) <= STATE_MAX or exponent[0] <= LOWEST_EXPONENT:
            return Fitted(synapses, bias, unit)
        exponent = exponent - 1


def _main_arm(expression: Expression) -> int:
    return next((i for i, arm in enumerate(expression.arms) if arm.trained), 0)


def _population_exponent(arms: tuple[Arm, ...], main: int, step: float) -> Int64:
    """Smallest e >= 0 with threshold >= MIN_THRESHOLD and well-resolved arms; negative only for dead channels."""
    scale = np.abs(arms[main].scale)
    alive = scale > 0
    base = np.where(alive, step / np.where(alive, scale, 1.0), MIN_THRESHOLD)  # threshold at exponent 0
    wanted = np.maximum(np.ceil(np.log2(MIN_THRESHOLD / base)), 0)
    for i, arm in enumerate(arms):
        if i == main:
            continue
        largest = np.abs(arm.scale) * _largest_weight(arm.synapse) / np.where(alive, scale, step / MIN_THRESHOLD)
        usable = largest > 0
        needed = np.ceil(np.log2(MIN_MANTISSA / np.where(usable, largest, MIN_MANTISSA)))
        wanted = np.maximum(wanted, np.where(usable, needed, 0))
    allowed = np.floor(np.log2(MAX_THRESHOLD / base))
    return np.asarray(np.minimum(np.minimum(wanted, allowed), MAX_EXPONENT).astype(np.int64))


def _unit(main: Arm, exponent: Int64, step: float) -> Float64:
    """|scale| / 2**exponent; a channel that the main arm does not reach counts in step / MIN_THRESHOLD."""
    scale = np.abs(main.scale)
    return np.asarray(np.where(scale > 0, scale, step / MIN_THRESHOLD) / np.exp2(exponent), dtype=np.float64)


def _largest_weight(synapse: Synapse) -> Float64:
    flat = np.abs(synapse.weight.astype(np.int64)).reshape(synapse.channels, -1)
    return np.asarray(flat.max(1).astype(np.float64))


def _integer_arms(arms: tuple[Arm, ...], main: int, exponent: Int64, unit: Float64) -> tuple[Synapse, ...]:
    return tuple(_integer_arm(arm, unit, exponent if i == main else None) for i, arm in enumerate(arms))


def _column(values: Float64, dimensions: int) -> Float64:
    return values.reshape((-1,) + (1,) * (dimensions - 1))


def _integer_arm(arm: Arm, unit: Float64, exact: Int64 | None) -> Synapse:
    """weight * scale / unit as mantissa * 2**exponent, rounded half up, exponent as small as 8 bits allow.

    exact: exponents of the main arm. Where not negative, scale / unit is +-2**exact, so its trained integers stay
    as they are, but for the sign of the gain.
    """
    dimensions = arm.synapse.weight.ndim
    factor = arm.scale / unit
    largest = np.abs(factor) * _largest_weight(arm.synapse)
    exponent = np.ceil(np.log2(np.maximum(largest, 1e-30) / 127.0))
    exponent = np.clip(exponent, 0, MAX_EXPONENT).astype(np.int64)
    if exact is not None:
        exponent = np.where(exact >= 0, exact, exponent)
    scaled = arm.synapse.weight * _column(factor / np.exp2(exponent), dimensions)
    weight = np.clip(round_half_up(scaled), -127, 127).astype(np.int8)
    return dataclasses.replace(arm.synapse, weight=weight, exponent=exponent)


def _charge(synapses: tuple[Synapse, ...], sources: dict[str, Range]) -> Range:
    bounds = [s.charge_bounds(sources[s.inputs[0]].low, sources[s.inputs[0]].high) for s in synapses]
    return Range(sum(b[0] for b in bounds), sum(b[1] for b in bounds))  # type: ignore[arg-type]


def _saturated(bias: Float64, charge: Range, threshold: Int64, low: int, high: int) -> Int64:
    """Round the bias, and cut what lies beyond the bias at which the count is at its bound for every image."""
    most = threshold * (high + 2) - charge.low
    least = threshold * (low - 2) - charge.high
    return round_half_up(np.clip(bias, least, most))
