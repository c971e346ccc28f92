"""How a network may send its counts: neurons, schedule and target together, under the one name that `tune` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastsnn_deploy.errors import known_name
from fastsnn_deploy.targets import target_named

BURSTS = range(2, 256)


@dataclass(frozen=True)
class Code:
    """neurons, schedule: as `convert` takes them; target: as `export` does."""

    name: str
    neurons: str
    target: str = "signed-if"
    schedule: Literal["settle", "window"] = "settle"

    @property
    def waits(self) -> bool:
        """Whether its neurons can have a start delay: the target keeps the schedule."""
        return target_named(self.target).scheduled


CODES = {
    each.name: each
    for each in (
        Code("signed", "unary"),
        Code("graded", "graded", "graded"),
        Code("window", "unary", schedule="window"),
        Code("stock-lif", "unary", "stock-lif"),
        *(Code(f"burst{most}", f"burst{most}") for most in BURSTS),
    )
}
"""Every code by name."""

USUAL = ("signed", "burst2", "graded", "window")
"""Those that are tried unless the user says otherwise: they take no further neurons."""


def code_named(name: object) -> Code:
    """A code by its name. Raises InputError, with a guess, for others."""
    known = [each for each in CODES if not each.startswith("burst")]
    if not isinstance(name, str) or name not in CODES:
        known_name("code", name, (*known, "burst2"), "burst3, burst4, ...")
    return CODES[str(name)]
