"""What a run on Loihi 2 needs, and which of it is here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import fastsnn_deploy
from fastsnn_deploy.backends.lava.compatibility import INSTALL, INSTALL_DL
from fastsnn_deploy.errors import Problem

PROBE_MODULE = "fastsnn_deploy.backends.loihi.probe"
PROBE_SECONDS = 60.0

VARIABLES = ("SLURM", "NOSLURM", "LOIHI_GEN", "BOARD", "PARTITION", "NXSDKHOST", "HOST_BINARY")
"""Environment variables through which Lava finds a board (lava/utils/loihi.py, lava/utils/slurm.py)."""

GENERATIONS = ("N3B2", "N3B3", "N3C1", "N3D1")
"""Values of LOIHI_GEN that are Loihi 2 (lava/utils/loihi.py, ChipGeneration)."""

NEAREST = (
    "The nearest thing that works here: --backend lava runs the same file on Lava's bit-accurate CPU models, "
    "--backend simulator on the integer simulator"
)
NEAREST_WITHOUT_LAVA = "The nearest thing that works here: --backend simulator, the integer simulator"


@dataclass(frozen=True)
class Board:
    """A node that the SLURM controller lists. state: SLURM's word for it, such as idle, alloc or down."""

    name: str
    partition: str
    state: str

    @property
    def up(self) -> bool:
        """Whether jobs can reach it, now or after a wait."""
        return not any(word in self.state for word in ("down", "drain", "fail"))


@dataclass(frozen=True)
class Detection:
    """What was found.

    lava, lava_dl: versions, None if not installed. lava_loihi: whether Lava finds Intel's extension. slurm: whether
    a SLURM controller answers. boards: what it lists. environment: those of VARIABLES that are set. error: why the
    search itself failed, if it did.
    """

    lava: str | None = None
    lava_dl: str | None = None
    lava_loihi: bool = False
    slurm: bool = False
    boards: tuple[Board, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    error: str = ""

    @property
    def host(self) -> str:
        """How a board is reached: 'ethernet', 'slurm', or '' if none can be."""
        if self.environment.get("NXSDKHOST"):
            return "ethernet"
        return "slurm" if self.slurm and any(board.up for board in self.boards) else ""

    @property
    def available(self) -> bool:
        """Whether nothing is missing for a run on Loihi 2."""
        return not self.missing()

    @property
    def nearest(self) -> str:
        """What to use instead on this machine."""
        return NEAREST if self.lava and self.lava_dl else NEAREST_WITHOUT_LAVA

    def missing(self) -> tuple[Problem, ...]:
        """Everything that is missing, each with what to do about it."""
        problems = []
        if self.error:
            problems.append(Problem("Lava", f"could not be searched ({self.error})", "Repair the installation"))
        if self.lava is None:
            problems.append(Problem("Lava (lava-nc)", "is not installed", INSTALL))
        if self.lava_dl is None:
            problems.append(Problem("lava-dl", "is not installed", INSTALL_DL))
        if not self.lava_loihi:
            problems.append(
                Problem(
                    "Intel's extension lava-loihi",
                    "is not installed (lava.utils.loihi.is_installed() is False)",
                    "It is not public: members of the Intel Neuromorphic Research Community (INRC) get it from Intel; "
                    "install it into this Python environment",
                )
            )
        if not self.host:
            problems.append(Problem("Loihi 2 board", self._no_board(), BOARD_FIX))
        generation = self.environment.get("LOIHI_GEN", GENERATIONS[1])
        if generation not in GENERATIONS:
            fix = f"Set it to one of {', '.join(GENERATIONS)}"
            problems.append(Problem("LOIHI_GEN", f"'{generation}' is no Loihi 2 generation", fix))
        return tuple(problems)

    def _no_board(self) -> str:
        if self.boards:
            return "none is up: " + ", ".join(f"{board.name} is {board.state}" for board in self.boards)
        slurm = "the SLURM controller lists none" if self.slurm else "there is no SLURM controller (sinfo)"
        return f"none can be reached: {slurm}, and NXSDKHOST is not set"


BOARD_FIX = (
    "Set NXSDKHOST to the address of a board's host (and HOST_BINARY to its nx_driver_server), or run on a machine "
    "where `sinfo` lists boards, with BOARD or PARTITION to choose one; LOIHI_GEN names the chip, N3B3 by default"
)


def detect() -> Detection:
    """Look for Lava, lava-dl, lava-loihi and boards with Lava's own utilities.

    Happens in a process of its own, so that importing Lava does not affect the caller. Never raises for what is
    missing; if the search itself fails, `error` says why.
    """
    environment = dict(os.environ)
    package_root = str(Path(fastsnn_deploy.__file__).resolve().parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package_root, environment.get("PYTHONPATH"))))
    found = {key: os.environ[key] for key in VARIABLES if os.environ.get(key)}
    try:
        process = subprocess.run(
            [sys.executable, "-m", PROBE_MODULE],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            check=True,
        )
        data = json.loads(process.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        return Detection(environment=found, error=_arguments(error))
    return Detection(
        lava=data["lava"],
        lava_dl=data["lava_dl"],
        lava_loihi=data["lava_loihi"],
        slurm=data["slurm"],
        boards=tuple(Board(**board) for board in data["boards"]),
        environment=found,
        error=data["error"],
    )


def _arguments(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = (error.stderr or "").strip().splitlines()
        return lines[-1] if lines else f"exit code {error.returncode}"
    return f"{type(error).__name__}: {error}"
