"""Errors a user can act on. Every stage collects all problems it can find and raises once.

Exit codes of the command line: 0 done, 1 an integer differs (`MismatchError`) and nothing else, 2 wrong input
(`InputError`), 3 a backend failed or timed out (`BackendError`), 70 a bug, 130 interrupted, 141 nobody reads the
messages any more, 143 terminated.
"""

from __future__ import annotations

import difflib
import math
import operator
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


def legible(text: str) -> str:
    """Text as it can be shown anywhere: what moves a cursor, changes colours or turns the direction of writing is
    written as an escape. Names come from files of strangers.

    Example:
        >>> print(legible("conv\\x1b[2J\\u202eten"))
        conv\\x1b[2J\\u202eten
    """
    return text if text.isprintable() else "".join(map(_legible, text))


def _legible(character: str) -> str:
    if character.isprintable() or character in "\n\t" or unicodedata.category(character) == "Zs":  # kinds of blanks
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where it is, what was found, and what the user can do about it."""

    where: str
    what: str
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return legible(f"{text}. {self.fix}" if self.fix else text)


class DeployError(Exception):
    """Base of every error this package raises for a reason the user can act on."""

    exit_code = 2

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        self.message = message
        self.problems = tuple(problems)
        super().__init__(message)

    def __str__(self) -> str:
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        return f"{legible(self.message)}{lines}"


class InputError(DeployError, ValueError):
    """A file, an option or a value given by the user cannot be used."""


def unknown(kind: str, name: Any, known: Iterable[str], otherwise: str = "") -> InputError:
    """The error for a name that is not among the known ones, with a guess at what was meant.

    Args:
        kind: What the name should be, such as "engine".
        name: What the user wrote.
        known: All names that would do.
        otherwise: What else the user could give, such as "give the path of a .yaml file".

    Example:
        >>> print(unknown("engine", "cup", ["cpu", "gpu"]))
        engine 'cup' is not known. Did you mean 'cpu'? Known: cpu, gpu
    """
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=1)
    guess = f"Did you mean '{close[0]}'? " if close else ""
    return InputError(
        f"{kind} '{name}' is not known. {guess}Known: {', '.join(names)}" + (f"; or {otherwise}" if otherwise else "")
    )


def known_name(kind: str, name: Any, known: Iterable[str], otherwise: str = "") -> str:
    """A name that is one of the known ones. Raises InputError, as `unknown` makes it, for anything else."""
    names = tuple(known)
    if not isinstance(name, str) or name not in names:
        raise unknown(kind, name, names, otherwise)
    return name


def wrong_type(what: str, got: Any, needs: str) -> InputError:
    """The error for a value of another kind than is needed.

    Example:
        >>> print(wrong_type("the network", {"weight": 1}, "a torch.nn.Module"))
        the network: got a dict, needs a torch.nn.Module
        >>> print(wrong_type("steps", 1.5, "a whole number"))
        steps: got 1.5 (float), needs a whole number
    """
    kind = type(got).__name__
    if got is None:
        found = "None"
    elif isinstance(got, type):
        found = f"the class {got.__name__}"
    elif isinstance(got, (bool, int, float, complex, str, bytes)):
        found = f"{got!r:.60} ({kind})"
    else:
        found = f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}"
    return InputError(f"{what}: got {found}, needs {needs}")


def whole_number(name: str, value: Any, least: int, most: int | None = None) -> int:
    """A whole number of Python or NumPy from `least` to `most`. Raises InputError for anything else, True too."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise wrong_type(name, value, f"a whole number, at least {least}")
    if number < least:
        raise InputError(f"{name} is {number}, must be at least {least}")
    if most is not None and number > most:
        raise InputError(f"{name} is {number:.6g}, must be at most {most:,}")
    return number


def real_number(name: str, value: Any, *, positive: bool = True) -> float:
    """A finite number above zero, or from zero on. Raises InputError for anything else."""
    needs = "a finite number, " + ("greater than 0" if positive else "0 or more")
    try:
        number = math.nan if isinstance(value, (bool, str, bytes)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and (number > 0 or (number == 0 and not positive))):
        raise wrong_type(name, value, needs)
    return number


def require_progress(progress: Any) -> None:
    """Raise InputError for a `progress` that cannot be called, before a long run."""
    if progress is not None and not callable(progress):
        raise wrong_type("progress", progress, "a function of (done, in all)")


class GraphError(InputError):
    """A spiking graph or quantised graph breaks a rule of its type."""


class LoweringError(InputError):
    """A network holds something that has no exact spiking form; `problems` lists every such place."""


class MismatchError(DeployError):
    """Two integers that must be equal differ."""

    exit_code = 1


class BackendError(DeployError, RuntimeError):
    """A backend (Lava, a chip) failed, hung, or is not installed."""

    exit_code = 3
