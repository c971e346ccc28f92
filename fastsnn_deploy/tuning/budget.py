"""A budget: what a network may take on a chip and what it must reach, in a small strict grammar.

    budget     = constraint { "," constraint }
    constraint = quantity ( "<=" | "<" | ">=" | ">" ) number [ unit ]

Quantities and units are those of `quantities.QUANTITIES`; what takes something is bounded from above, what gives
something from below.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from fastsnn_deploy.errors import InputError, Problem, wrong_type
from fastsnn_deploy.tuning.quantities import QUANTITIES, Quantity

EXAMPLE = "cores<=128, latency<1ms, accuracy>=90%"

CONSTRAINT = re.compile(
    r"\s*(?P<name>[A-Za-z][\w.-]*)\s*(?P<relation>[<>=!]+)\s*(?P<number>\d{1,18}(\.\d{1,18})?([eE][+-]?\d{1,2})?)"
    r"\s*(?P<unit>[^\s\d]*)\s*"
)

RELATIONS = {"most": ("<=", "<"), "least": (">=", ">")}

LEAST_MISS = 1e-9
"""Of a limit that a number only touches, where it must stay away from it."""


@dataclass(frozen=True)
class Constraint:
    """One bound. limit: in the base unit of the quantity; text: as the user wrote it, without blanks."""

    quantity: Quantity
    relation: str
    limit: float
    text: str

    def miss(self, value: float) -> float:
        """How far a number is on the wrong side, as a share of the limit; 0 or less if the constraint is met."""
        apart = value / self.limit - 1 if self.quantity.bound == "most" else 1 - value / self.limit
        return max(apart, LEAST_MISS) if value == self.limit and len(self.relation) == 1 else apart

    def margin(self, value: float) -> str:
        """How far a number is from the limit, in words: "1.80 points (2.0 %) too little"."""
        miss, apart = self.miss(value), self.quantity.apart(value, self.limit)
        if miss <= 0:
            return f"{apart} ({100 * abs(miss):.1f} %) to spare"
        return f"{apart} ({100 * miss:.1f} %) too {'much' if self.quantity.bound == 'most' else 'little'}"


@dataclass(frozen=True)
class Budget:
    """Constraints that all must hold.

    Example:
        >>> budget = Budget.parse("cores<=128, latency<1ms, accuracy>=90%")
        >>> [(each.quantity.name, each.limit) for each in budget.constraints]
        [('cores', 128.0), ('latency', 1000000.0), ('accuracy', 0.9)]
        >>> budget.constraints[0].margin(143)
        '15 (11.7 %) too much'
    """

    constraints: tuple[Constraint, ...]

    @staticmethod
    def parse(text: Any) -> Budget:
        """The budget that a text says. Raises InputError listing everything in it that cannot be used."""
        if isinstance(text, Budget):
            return text
        if not isinstance(text, str):
            raise wrong_type("the budget", text, f'a text such as "{EXAMPLE}"')
        parts = [part.strip() for part in text.split(",")]
        read = [_constraint(part) for part in parts]
        problems = [each for each in read if isinstance(each, Problem)]
        found = [each for each in read if isinstance(each, Constraint)]
        names = [each.quantity.name for each in found]
        problems += [
            Problem(name, f"is bounded {names.count(name)} times", "Give one bound")
            for name in dict.fromkeys(names) if names.count(name) > 1
        ]  # fmt: skip
        if problems:
            raise InputError(f"the budget '{text:.200}' cannot be used. An example: {EXAMPLE}", problems)
        return Budget(tuple(found))

    @property
    def text(self) -> str:
        """The budget as `parse` reads it."""
        return ", ".join(each.text for each in self.constraints)

    def __iter__(self) -> Iterator[Constraint]:
        return iter(self.constraints)

    def of(self, stage: str) -> tuple[Constraint, ...]:
        """The constraints that a stage of measuring decides."""
        return tuple(each for each in self if each.quantity.stage == stage)

    def misses(self, values: Mapping[str, float]) -> dict[str, float]:
        """`Constraint.miss` of every constraint whose quantity is known, by its text."""
        return {each.text: each.miss(values[each.quantity.name]) for each in self if each.quantity.name in values}


def _constraint(part: str) -> Constraint | Problem:
    if not part:
        return Problem("", "a constraint is empty", "Leave out the comma")
    found = CONSTRAINT.fullmatch(part)
    if found is None:
        return Problem(part[:60], "is not a quantity, a relation, a number and a unit", "Write it as latency<1ms")
    name, relation, unit = (
        found["name"],
        found["relation"],
        found["unit"].replace("\u03bc", "\u00b5"),
    )  # two signs for it
    quantity = QUANTITIES.get(name)
    if quantity is None:
        close = difflib.get_close_matches(name, QUANTITIES, n=1)
        guess = f"Did you mean '{close[0]}'? " if close else ""
        return Problem(part, f"'{name}' is not known", f"{guess}Known: {', '.join(QUANTITIES)}")
    if relation not in RELATIONS[quantity.bound]:
        return Problem(part, f"'{relation}' cannot bound {name}", f"Use {' or '.join(RELATIONS[quantity.bound])}")
    if unit not in quantity.units:
        missing = f"unit '{unit}' is not known" if unit else "the unit is missing"
        known = ", ".join(each for each in quantity.units if each) or "none"
        return Problem(part, missing, f"Units of {name}: {known}")
    limit = float(Fraction(found["number"]) * quantity.units[unit])
    if limit <= 0:
        return Problem(part, "the limit is 0", "Give one above it")
    if name == "accuracy" and limit > 1:
        return Problem(part, "no network is right more often than always", "Give at most 100%")
    return Constraint(quantity, relation, limit, f"{name}{relation}{found['number']}{unit}")
