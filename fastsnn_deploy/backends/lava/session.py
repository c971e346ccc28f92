"""Ending a session of processes and its shared memory, and nothing else. Linux; elsewhere only the kill works."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path

SHARED_MEMORY = re.compile(r"/dev/shm/(psm_[0-9a-f]+)$")
"""Segments of Python's multiprocessing.shared_memory, which Lava's channels use."""


def members(session: int) -> list[int]:
    """Processes of a session that still run (zombies do not), from /proc/<pid>/stat."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # the command name in parentheses may hold anything, the fields after it are plain
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found


def shared_memory(pids: list[int]) -> set[str]:
    """Names of the shared memory segments that these processes have mapped."""
    names: set[str] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                match = SHARED_MEMORY.search(line)
                if match:
                    names.add(match.group(1))
    return names


def end(session: int) -> None:
    """Kill every process of the session and remove the shared memory that it has mapped."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGSTOP)  # nobody maps more while the list is made
    remove(shared_memory(members(session)))
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGKILL)
    wait_until_empty(session, 5.0)


def remove(names: set[str]) -> None:
    """Unlink shared memory segments; those already gone are skipped."""
    for name in names:
        with contextlib.suppress(OSError):
            (Path("/dev/shm") / name).unlink()


def wait_until_empty(session: int, seconds: float) -> bool:
    """Wait for every process of the session to end; False if some still run after `seconds`."""
    limit = time.monotonic() + seconds
    while members(session):
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True
