"""Errors a user can act on. Every stage collects all problems it can find and raises once.

Exit codes of the command line: 0 done, 1 an integer differs (`MismatchError`) and nothing else, 2 wrong input
(`InputError`), 3 a backend failed or timed out (`BackendError`), 70 a bug, 130 interrupted, 141 nobody reads the
messages any more, 143 terminated.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where it is, what was found, and what the user can do about it."""

    where: str
    what: str
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}. {self.fix}" if self.fix else text


class DeployError(Exception):
    """Base of every error this package raises for a reason the user can act on."""

    exit_code = 2

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        self.message = message
        self.problems = tuple(problems)
        super().__init__(message)

    def __str__(self) -> str:
        if not self.problems:
            return self.message
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        return f"{self.message}\n{lines}"


class InputError(DeployError, ValueError):
    """A file, an option or a value given by the user cannot be used."""


def unknown(kind: str, name: str, known: Iterable[str], otherwise: str = "") -> InputError:
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
    close = difflib.get_close_matches(name, names, n=1)
    guess = f"Did you mean '{close[0]}'? " if close else ""
    return InputError(
        f"{kind} '{name}' is not known. {guess}Known: {', '.join(names)}" + (f"; or {otherwise}" if otherwise else "")
    )


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
