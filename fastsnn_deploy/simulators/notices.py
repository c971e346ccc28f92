"""What takes long in a simulator before it simulates, for whoever wants to say so.

Example:
    >>> lines = []
    >>> HEARERS.append(lines.append)
    >>> tell("compiling")
    >>> HEARERS.remove(lines.append)
    >>> lines
    ['compiling']
"""

from __future__ import annotations

from collections.abc import Callable

HEARERS: list[Callable[[str], None]] = []
"""Called with one line each time; the commands print it."""


def tell(line: str) -> None:
    """Say it to all who listen."""
    for hear in tuple(HEARERS):
        hear(line)
