"""How a network may send its counts: the choices of `compare_targets`; start delays are a parameter of their own."""

from __future__ import annotations

from typing import Any

from fastsnn_deploy.analysis.choosing.choices import Choice, choice_named
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.targets import TARGETS

USUAL = ("signed-if", "burst2", "graded", "window")
"""Those that are tried unless the user says otherwise: they take no further neurons."""

POSSIBLE = (*TARGETS, "window", *(f"burst{most}" for most in range(2, 256)))


def code_named(name: Any) -> Choice:
    """A code by its name. Raises InputError, with a guess, for others."""
    if isinstance(name, str) and name.startswith("start-delay"):
        raise InputError(
            f"code '{name}': start delays go with every code. Give them with start_delays (--start-delays)"
        )
    return choice_named(name)


def waits(code: str) -> bool:
    """Whether neurons of a code can have a start delay: its target keeps the schedule."""
    return code not in TARGETS or TARGETS[code].scheduled
