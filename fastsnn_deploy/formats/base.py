"""What a file format is: how networks are written. A new one is one folder with a registered writer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.lava_dl import StockNetwork

Network = SpikingGraph | StockNetwork
Writer = Callable[[Network, Path], Any]


@dataclass(frozen=True)
class Format:
    """suffix: of its files. write: network and path -> a report of what the file does not say, or None."""

    name: str
    suffix: str
    write: Writer


FORMATS: dict[str, Format] = {}
"""Every format by name."""


def register(name: str, suffix: str) -> Callable[[Writer], Writer]:
    """Register the writer of a format."""

    def decorator(write: Writer) -> Writer:
        FORMATS[name] = Format(name, suffix, write)
        return write

    return decorator
