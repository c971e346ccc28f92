"""What is searched: one network of several, bits of each layer, the code, the start delay.

A parameter has a name that users see: `model`, `code`, `start-delay`, `bits:LAYER`, `weight-bits:LAYER`. Layers differ
from network to network, so a study names those with their network.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from math import prod
from typing import TypeAlias

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.tuning.codes import POSSIBLE, waits
from fastsnn_deploy.tuning.start import Start

Value: TypeAlias = int | str

NO_MODULE = "(network)"
"""What activations are called that no module of the user's holds."""

EVERY = "*"
"""The layer of a parameter that is for all of them."""

MOST_DELAY = 255

BEGIN = 16
"""With how many networks a search begins, unless there are more models and codes."""

SMALL = 64
"""So many networks are tried one by one; of more, the sampler chooses."""


@dataclass(frozen=True)
class Parameter:
    """One thing to choose for one network. possible: what it can be; choices: what is tried, in rising order."""

    name: str
    possible: tuple[Value, ...]
    choices: tuple[Value, ...]

    @property
    def stored(self) -> tuple[Value, ...]:
        """The choices, where there is something to choose."""
        return self.choices if len(self.choices) > 1 else ()

    @property
    def ordered(self) -> bool:
        """Whether the choices are whole numbers that follow each other."""
        first = self.choices[0]
        return isinstance(first, int) and self.choices == tuple(range(first, first + len(self.choices)))

    def nearest(self, wanted: int) -> Value:
        """The greatest choice that is no more than a number, or the least of all."""
        return max((each for each in self.choices if int(each) <= wanted), key=int, default=self.choices[0])


@dataclass(frozen=True)
class Choice:
    """A network to be tried. bits, weight_bits: of every layer by its path in the user's network."""

    model: str
    code: str
    start_delay: int
    bits: Mapping[str, int]
    weight_bits: Mapping[str, int]

    @property
    def fixed(self) -> dict[str, Value]:
        """The same as values for `tune(fixed=...)`, as few as say it all: exceptions first, then what is usual."""
        found: dict[str, Value] = {"model": self.model, "code": self.code, "start-delay": self.start_delay}
        for kind, bits in (("bits", self.bits), ("weight-bits", self.weight_bits)):
            values = list(bits.values())
            usual = max(sorted(set(values)), key=values.count, default=0)
            found |= {f"{kind}:{path or NO_MODULE}": each for path, each in bits.items() if each != usual}
            found |= {f"{kind}:{EVERY}": usual} if values else {}
        return found

    def words(self, name: str) -> str:
        """Bits of all layers in short: "3", or "2 to 4, mean 2.7"."""
        values = list((self.bits if name == "bits" else self.weight_bits).values())
        if not values or min(values) == max(values):
            return str(values[0]) if values else ""
        return f"{min(values)} to {max(values)}, mean {sum(values) / len(values):.1f}"


@dataclass(frozen=True)
class Space:
    """All networks that a search may try.

    starts: networks by name. codes, delays: to choose from; a start delay only where the code keeps a schedule. bits,
    weight_bits: to choose from for each layer; a trained network also keeps its own, and none gets more than it has.
    same_bits: one number for all layers, which have at most their own. fixed: values by pattern of parameter names, the
    first that matches.
    """

    starts: Mapping[str, Start]
    codes: tuple[str, ...]
    delays: tuple[int, ...]
    bits: tuple[int, ...]
    weight_bits: tuple[int, ...]
    same_bits: bool
    fixed: Mapping[str, Value]

    def __post_init__(self) -> None:
        """Raises InputError listing values that are fixed for nothing, or that nothing can have."""
        known = {each.name: each for name in self.starts for each in self._free(name)}
        problems = [
            Problem(f"'{pattern}' = {value}", "matches no parameter", f"There are: {', '.join([*known][:12])}")
            for pattern, value in self.fixed.items() if not any(fnmatchcase(name, pattern) for name in known)
        ]  # fmt: skip
        for each in (each for parameters in self.parameters.values() for each in parameters if not each.choices):
            possible = ", ".join(map(str, each.possible[:12])) + (", ..." if len(each.possible) > 12 else "")
            problems.append(Problem(each.name, f"cannot be {self._value(each.name)}", f"It can be {possible}"))
        if problems:
            raise InputError("values are fixed that cannot be", list(dict.fromkeys(problems)))

    @cached_property
    def parameters(self) -> Mapping[str, tuple[Parameter, ...]]:
        """What is to be chosen for each network that may be chosen: code, start delay, layers."""
        wanted = self._value("model")
        names = [name for name in self.starts if wanted in (None, name)]
        if not names:
            raise InputError(f"model is fixed to '{wanted}'. It can be {', '.join(self.starts)}")
        return {name: tuple(map(self._narrowed, self._free(name)[1:])) for name in names}

    def _free(self, name: str) -> tuple[Parameter, ...]:
        """The parameters of a network while nothing is fixed."""
        start = self.starts[name]
        return (
            Parameter("model", tuple(self.starts), tuple(self.starts)),
            Parameter("code", POSSIBLE, self.codes),
            Parameter("start-delay", tuple(range(MOST_DELAY + 1)), self.delays),
            *self._layers("bits", start.bits, start.least_bits, self.bits, start.trained),
            *self._layers("weight-bits", start.weight_bits, start.least_weight_bits, self.weight_bits, start.trained),
        )

    def _layers(
        self, kind: str, own: Mapping[str, int], least: Mapping[str, int], asked: Sequence[int], trained: bool
    ) -> Iterator[Parameter]:
        """One for each layer, or for all of them."""
        found = {}
        for path, most in own.items():
            fit = {each for each in asked if least[path] <= each <= most} | ({most} if trained else set())
            found[path or NO_MODULE] = Parameter("", tuple(range(least[path], most + 1)), tuple(sorted(fit or {most})))
        if self.same_bits and found:
            possible, choices = (
                tuple(sorted({value for each in found.values() for value in getattr(each, name)}))
                for name in ("possible", "choices")
            )
            found = {EVERY: Parameter("", possible, choices)}
        for layer, each in found.items():
            yield replace(each, name=f"{kind}:{layer}")

    def _value(self, name: str) -> Value | None:
        return next((value for pattern, value in self.fixed.items() if fnmatchcase(name, pattern)), None)

    def _narrowed(self, parameter: Parameter) -> Parameter:
        """With the value that is fixed alone; without any where it cannot have that."""
        value = self._value(parameter.name)
        if value is None:
            return parameter
        return replace(parameter, choices=tuple(each for each in parameter.possible if str(each) == str(value)))

    # --- points: values by parameter as a study holds them -----------------------------------------------------------

    def key(self, model: str, parameter: Parameter) -> str:
        """The name of a parameter in a study: layers belong to one network."""
        return f"{model} {parameter.name}" if ":" in parameter.name else parameter.name

    def needed(self, parameter: Parameter, code: str) -> bool:
        """Whether a network with this code has the parameter."""
        return parameter.name != "start-delay" or waits(code)

    def choice(self, model: str, values: Mapping[str, Value]) -> Choice:
        """The network that values say, by name of the parameter."""
        start = self.starts[model]

        def of(kind: str, own: Mapping[str, int], least: Mapping[str, int]) -> dict[str, int]:
            if (every := values.get(f"{kind}:{EVERY}")) is not None:
                return {path: min(max(int(every), least[path]), most) for path, most in own.items()}
            return {path: int(values[f"{kind}:{path or NO_MODULE}"]) for path in own}

        return Choice(
            model, str(values["code"]), int(values.get("start-delay", 0)), of("bits", start.bits, start.least_bits),
            of("weight-bits", start.weight_bits, start.least_weight_bits),
        )  # fmt: skip

    @property
    def size(self) -> int:
        """How many networks there are to try."""
        return sum(
            prod(len(each.choices) for each in parameters if each.name != "code" and self.needed(each, str(code)))
            for parameters in self.parameters.values() for code in parameters[0].choices
        )  # fmt: skip

    def points(self, seed: int) -> list[dict[str, Value]]:
        """Where a search begins: the networks as they are with each code, then some with one number of bits for all
        layers; of a small space all the others, too."""
        first, others = [*self._uniform(whole=True)], [*self._uniform(whole=False)]
        random.Random(seed).shuffle(others)
        begin = _different((*first, *others))[: max(len(first), BEGIN)]
        if self.size > SMALL:
            return begin
        rest = [*self._all()]
        random.Random(seed).shuffle(rest)
        return _different((*begin, *rest))

    def _all(self) -> Iterator[dict[str, Value]]:
        for model, parameters in self.parameters.items():
            for code in parameters[0].choices:
                needed = [each for each in parameters[1:] if self.needed(each, str(code))]
                for values in itertools.product(*(each.choices for each in needed)):
                    yield self._point(model, str(code), zip(needed, values, strict=True))

    def _uniform(self, whole: bool) -> Iterator[dict[str, Value]]:
        for model, parameters in self.parameters.items():
            code, delay, *layers = parameters
            widths = [
                [max(values)] if whole and values else sorted(values, reverse=True)
                for kind in ("bits:", "weight-bits:")
                if (values := {int(v) for each in layers if each.name.startswith(kind) for v in each.choices})
            ]
            delays = delay.choices[:1] if whole else delay.choices
            for chosen, late, *numbers in itertools.product(code.choices, delays, *widths):
                by_kind = dict(zip([k for k in ("bits", "weight-bits") if _has(layers, k)], numbers, strict=True))
                made = [(each, each.nearest(int(by_kind[each.name.partition(":")[0]]))) for each in layers]
                wait = [(delay, late)] if self.needed(delay, str(chosen)) else []
                yield self._point(model, str(chosen), (*wait, *made))

    def _point(self, model: str, code: str, values: Iterable[tuple[Parameter, Value]]) -> dict[str, Value]:
        """As a study holds it: without what there is no choice of."""
        found: dict[str, Value] = {"model": model} if len(self.parameters) > 1 else {}
        found |= {"code": code} if self.parameters[model][0].stored else {}
        return found | {self.key(model, each): value for each, value in values if each.stored}


def _different(points: Iterable[dict[str, Value]]) -> list[dict[str, Value]]:
    """Each point once."""
    return list({tuple(sorted(point.items())): point for point in points}.values())


def _has(layers: Sequence[Parameter], kind: str) -> bool:
    return any(each.name.startswith(f"{kind}:") for each in layers)
