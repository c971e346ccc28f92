"""The search itself: `python -m fastsnn_deploy.backends.loihi.probe` prints what Lava's utilities find, as one line
of JSON."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from typing import Any


def main() -> None:
    """Print the findings."""
    found: dict[str, Any] = {
        "lava": _version("lava-nc", "lava.magma"),
        "lava_dl": _version("lava-dl", "lava.lib.dl"),
        "lava_loihi": False,
        "slurm": False,
        "boards": [],
        "error": "",
    }
    if found["lava"] is not None:
        try:
            found.update(_ask_lava())
        except Exception as error:
            found["error"] = f"{type(error).__name__}: {error}"
    print(json.dumps(found))


def repaired_slurm() -> Any:
    """`lava.utils.slurm`, able to read what `sinfo` prints.

    Lava 0.10.0 raises FileNotFoundError where there is no `sinfo`, and IndexError for the empty line at the end of
    its output. Only the module of this process is changed.
    """
    from lava.utils import slurm

    original = slurm.try_run_command

    def lines_of(command: list[str]) -> list[str]:
        try:
            return [line for line in original(command) if line.strip()]
        except OSError:
            return []

    slurm.try_run_command = lines_of
    return slurm


def _ask_lava() -> dict[str, Any]:
    from lava.utils import loihi

    slurm = repaired_slurm()
    available = bool(slurm.is_available())
    boards = slurm.get_boards() if available else []
    return {
        "lava_loihi": bool(loihi.is_installed()),
        "slurm": available,
        "boards": [{"name": b.nodename, "partition": b.partition, "state": b.state} for b in boards],
    }


def _version(distribution: str, module: str) -> str | None:
    try:
        if importlib.util.find_spec(module) is None:
            return None
    except ModuleNotFoundError:
        return None
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


if __name__ == "__main__":
    main()
