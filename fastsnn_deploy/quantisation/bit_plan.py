"""Which layer gets which quantiser and how many bits, and changing the bits of a quantised model that exists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from torch import fx

from fastsnn_deploy.errors import InputError, Problem, wrong_type
from fastsnn_deploy.quantisation.layers import QUANT_WEIGHTED, QuantActivation
from fastsnn_deploy.quantisation.quantisers import ACTIVATION_QUANTISERS, WEIGHT_QUANTISERS
from fastsnn_deploy.quantisation.structure import SPIKING_OUTPUT, first_layers, last_layers, modules


@dataclass(frozen=True)
class BitPlan:
    """Bits and quantisers of a network.

    bits, weight_bits: of activations (1-8) and weights (2-8). first_bits, last_bits: weights of the layers that read
    the image and that make the output. levels: greatest integer of activations in place of 2**bits - 1, 1 to 255;
    bits then follows from it. bits_by_layer, weight_bits_by_layer: bits for layers whose path in the float network
    matches a pattern of `fnmatch` ("layer3.*"), the first that matches; an activation without a module of its own
    has the path of the module in whose forward it is called. output_bits: of spikes that the last layer emits, None
    for a float output; output_signed: with negative counts. activation, weight: names of quantisers.
    """

    bits: int
    weight_bits: int
    first_bits: int = 8
    last_bits: int = 8
    levels: int | None = None
    bits_by_layer: Mapping[str, int] = field(default_factory=dict)
    weight_bits_by_layer: Mapping[str, int] = field(default_factory=dict)
    output_bits: int | None = None
    output_signed: bool = False
    activation: str = "lsq"
    weight: str = "uniform"

    def __post_init__(self) -> None:
        """Raises InputError listing everything that no quantiser can do."""
        for key in ("bits_by_layer", "weight_bits_by_layer"):
            given = getattr(self, key)
            if not isinstance(given, Mapping) or not all(isinstance(pattern, str) for pattern in given):
                raise wrong_type(key, given, 'a dict of bits by layer, as {"layer3.*": 4}')
        problems = [*self._unknown()] or [*self._impossible()]
        if problems:
            raise InputError("these bit widths cannot be used", problems)

    def _unknown(self) -> Iterator[Problem]:
        for key, known in (("activation", ACTIVATION_QUANTISERS), ("weight", WEIGHT_QUANTISERS)):
            if getattr(self, key) not in known:
                yield Problem(f"{key}={getattr(self, key)!r}", f"must be one of {', '.join(sorted(known))}")

    def _impossible(self) -> Iterator[Problem]:
        inner, ends = WEIGHT_QUANTISERS[self.weight], WEIGHT_QUANTISERS[WEIGHT_QUANTISERS[self.weight].ends]
        limits = [
            ("bits", self.bits, 1, 8),
            ("weight_bits", self.weight_bits, inner.lowest_bits, inner.highest_bits),
            ("first_bits", self.first_bits, ends.lowest_bits, ends.highest_bits),
            ("last_bits", self.last_bits, ends.lowest_bits, ends.highest_bits),
        ]
        limits += [(f"bits_by_layer[{key!r}]", value, 1, 8) for key, value in self.bits_by_layer.items()]
        limits += [
            (f"weight_bits_by_layer[{key!r}]", value, inner.lowest_bits, inner.highest_bits)
            for key, value in self.weight_bits_by_layer.items()
        ]
        if self.output_bits is not None:
            limits.append(("output_bits", self.output_bits, 2 if self.output_signed else 1, 8))
        if self.levels is not None:
            limits.append(("levels", self.levels, 1, 255))
        for name, value, low, high in limits:
            if type(value) is not int or not low <= value <= high:
                yield Problem(f"{name}={value!r}", f"must be a whole number from {low} to {high}")

    def grid(self, path: str, signed: bool) -> tuple[int, int]:
        """(bits, levels) of the activation at a path."""
        chosen = _matching(self.bits_by_layer, path)
        if chosen is not None:
            bits, levels = chosen, 2**chosen - 1
        elif self.levels is not None:
            bits, levels = self.levels.bit_length(), self.levels
        else:
            bits, levels = self.bits, 2**self.bits - 1
        return (2, 3) if signed and levels < 3 else (bits, levels)

    def make_activation(self, path: str, signed: bool = False, limit: float | None = None) -> QuantActivation:
        """The activation at a path of the float network."""
        bits, levels = self.grid(path, signed)
        return QuantActivation(bits, signed, self.activation, levels, limit)

    def make_output(self) -> QuantActivation:
        """The activation behind the last layer."""
        assert self.output_bits is not None
        return QuantActivation(self.output_bits, self.output_signed, self.activation)

    def bits_of_weight(self, path: str, default: int) -> int:
        """Bits of the weights at a path that no pattern matches: `default`."""
        chosen = _matching(self.weight_bits_by_layer, path)
        return default if chosen is None else chosen

    def require_matches(self, activations: Iterable[str], weights: Iterable[str]) -> None:
        """Raise InputError for every pattern that matches none of these paths."""
        problems = []
        for key, patterns, paths in (
            ("bits_by_layer", self.bits_by_layer, sorted(set(activations))),
            ("weight_bits_by_layer", self.weight_bits_by_layer, sorted(set(weights))),
        ):
            known = ", ".join(paths[:10]) + (", ..." if len(paths) > 10 else "")
            for pattern in patterns:
                if not any(fnmatchcase(path, pattern) for path in paths):
                    problems.append(Problem(f"{key} '{pattern}'", "matches no layer", f"Layers there: {known}"))
        if problems:
            raise InputError("bits are given for layers that do not exist", problems)


def _matching(patterns: Mapping[str, int], path: str) -> int | None:
    return next((value for pattern, value in patterns.items() if fnmatchcase(path, pattern)), None)


def set_bits(quantised: fx.GraphModule, bits: int, weight_bits: int) -> None:
    """`apply_plan` with the same bits for all hidden activations and weights, whatever their quantisers."""
    apply_plan(quantised, BitPlan(bits, weight_bits, weight=_inner_quantiser(quantised)))


def apply_plan(quantised: fx.GraphModule, plan: BitPlan) -> None:
    """Change the bits of hidden activations and weights in place; steps stretch so that ranges stay.

    The quantisers, the weights of the first and last layers, the bits of a spiking output and the signs of
    activations are kept.
    """
    set_layers(
        quantised,
        lambda path, activation: plan.grid(path, activation.signed),
        lambda path, layer: plan.bits_of_weight(path, plan.weight_bits),
    )


def set_layers(
    quantised: fx.GraphModule,
    grid_of: Callable[[str, QuantActivation], tuple[int, int]],
    weight_bits_of: Callable[[str, Any], int],
) -> list[Any]:
    """Change hidden layers in place, by path and module: (bits, levels) of activations, bits of weights.

    Steps stretch so that ranges stay. Returns the modules that are others now.
    """
    changed: list[Any] = []
    stretched: set[int] = set()  # tied activations have one learned number
    for path, module in hidden_layers(quantised):
        if isinstance(module, QuantActivation):
            before, grid = module.high, grid_of(path, module)
            if grid == (module.bits, module.levels):
                continue
            module.set_levels(*grid)
            if id(module.learned) not in stretched:
                stretched.add(id(module.learned))
                module.keep_range(before)
        else:
            wanted = weight_bits_of(path, module)
            if wanted == module.weight_bits:
                continue
            module.set_weight_bits(wanted)
        changed.append(module)
    return changed


def hidden_layers(quantised: fx.GraphModule) -> Iterator[tuple[str, Any]]:
    """Path and module of every activation, and of every layer with weights, whose bits may change, in order.

    The weights of the first and last layers and a spiking output stay as they are. Several may have one path.
    """
    kept = first_layers(quantised) | last_layers(quantised)
    for node, module in modules(quantised):
        if isinstance(module, QuantActivation) and node.target != SPIKING_OUTPUT:
            yield node.meta.get("module", ""), module
        elif isinstance(module, QUANT_WEIGHTED) and node not in kept:
            yield node.meta.get("module") or str(node.target), module


def _inner_quantiser(quantised: fx.GraphModule) -> str:
    """Quantiser of the weights between the first and the last layers; "uniform" if there are none."""
    ends = first_layers(quantised) | last_layers(quantised)
    inner = (m for node, m in modules(quantised) if isinstance(m, QUANT_WEIGHTED) and node not in ends)
    return next((module.quantiser for module in inner), "uniform")
