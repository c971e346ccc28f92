"""What the kinds of network files have in common: how a file is looked at, how a kind is registered, and what it gives.

A new kind is one file in this folder with one function under `@source`, named in `__init__`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from fastsnn_deploy.files import ARCHIVE, existing_file
from fastsnn_deploy.reading import read_entries

START = 4096
"""Bytes of a file that are looked at to tell its kind."""


@dataclass(frozen=True)
class Content:
    """A file as far as it is looked at. entries: names in an archive, below its one folder; () for other files."""

    path: Path
    start: bytes
    entries: tuple[str, ...]

    def holds(self, *names: str) -> bool:
        """Whether the archive has an entry that begins with one of these."""
        return any(entry.startswith(names) for entry in self.entries)


@dataclass(frozen=True)
class Request:
    """What the user says about a file.

    model: makes the network that a file of weights alone is put into. key: entry of a training checkpoint that holds
    the weights. trust_pickle: pickled objects may run their code. input_shape: of one image.
    """

    path: Path
    model: Callable[[], nn.Module] | None = None
    key: str | None = None
    trust_pickle: bool = False
    input_shape: Sequence[int] | None = None


@dataclass(frozen=True)
class Loaded:
    """A network from a file, in evaluation mode. kind: what the file is, in words. notes: lines for the user.

    A quantised model of our own checkpoint, else a float network; `model.meta["input_shape"]` where the file says it.
    """

    model: nn.Module
    kind: str = ""
    notes: tuple[str, ...] = field(default=())


Reader = Callable[[Request], Loaded]


@dataclass(frozen=True)
class Source:
    """One kind of file. name: in words. holds: whether a file is of it. whole: it needs no network to be put into."""

    name: str
    holds: Callable[[Content], bool]
    read: Reader
    whole: bool


SOURCES: list[Source] = []
"""Every kind of network file."""


def source(name: str, holds: Callable[[Content], bool], *, whole: bool = True) -> Callable[[Reader], Reader]:
    """Register how files of a kind are read."""

    def decorator(read: Reader) -> Reader:
        SOURCES.append(Source(name, holds, read, whole))
        return read

    return decorator


def look_at(path: str | Path) -> Content:
    """What a file is, without unpacking it. Raises InputError if it is none, empty, damaged, or would not unpack."""
    path = existing_file(path, "checkpoint")
    with path.open("rb") as file:
        start = file.read(START)
    if not start.startswith(ARCHIVE):
        return Content(path, start, ())
    entries = read_entries(path, "network")
    return Content(path, start, tuple(entry.filename.partition("/")[2] or entry.filename for entry in entries))
