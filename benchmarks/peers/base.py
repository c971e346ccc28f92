"""What every contender of the benchmark offers, and their registry."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import SpikingGraph

Int64 = npt.NDArray[np.int64]
Values = Mapping[str, npt.NDArray[np.generic]]
"""Of every population the net count, of every readout the potential in units of synaptic input: [B, *shape] by node
name."""


class NotAvailableError(Exception):
    """A contender cannot run here; the text says why and what to do."""


@dataclass(frozen=True)
class Options:
    """threads: processor cores to use. batch: images that a peer computes at a time. engine: ours.

    fast_snn: folder of the official Fast-SNN code. folders: put on sys.path before a peer is imported, by its name.
    lava_steps: steps that a Lava run is timed over.
    """

    threads: int = 2
    batch: int = 32
    engine: str = "cpu"
    fast_snn: Path | None = None
    folders: Mapping[str, Path] = field(default_factory=dict)
    lava_steps: int = 2


class Contender(ABC):
    """One program on one network. Weights are prepared in the constructor, which `run` does not time.

    name: key in the registry. title: for tables. semantics: what a spike means there, a key of
    `agreement.RULES` or "integer network"; None if it is not compared. once: timed once only, because it takes minutes.
    Constructors raise NotAvailableError.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    semantics: ClassVar[str | None] = None
    once: ClassVar[bool] = False

    def __init__(self, graph: SpikingGraph, steps: int, options: Options) -> None:
        self.graph = graph
        self.steps = steps
        self.options = options

    @abstractmethod
    def run(self, emitted: Int64) -> object:
        """Compute all images, int64 [B, *input shape]: what is timed."""

    def seconds(self, emitted: Int64) -> float | None:
        """Seconds for all images where the contender must measure itself; None: time `run`."""
        return None

    def values(self, emitted: Int64) -> Values | None:
        """Counts and potentials at the end of a run, to check what was computed."""
        trains = self.trains(emitted)
        return None if trains is None else {name: train.sum(0) for name, train in trains.items()}

    def trains(self, emitted: Int64) -> Values | None:
        """Spikes of every step, [T, B, *shape]; the synaptic input of every step, or their sum, for readouts."""
        return None

    def details(self) -> dict[str, object]:
        """Version and settings, for the results file."""
        return {}


C = TypeVar("C", bound=type[Contender])

CONTENDERS: dict[str, type[Contender]] = {}
"""Every contender by name, in the order of tables."""


def contender(name: str) -> Callable[[C], C]:
    """Class decorator: register a contender."""

    def decorator(cls: C) -> C:
        cls.name = name
        CONTENDERS[name] = cls
        return cls

    return decorator


def import_peer(module: str, name: str, options: Options, how: str) -> ModuleType:
    """Import a peer's module, from the folder given for it if there is one. Raises NotAvailableError."""
    if folder := options.folders.get(name):
        if not folder.is_dir():
            raise NotAvailableError(f"{folder} is not a folder")
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NotAvailableError(f"not installed ({error}): {how}") from error


def version_of(package: str) -> str:
    """Version of an installed package; a folder of sources has none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "from a folder of sources"
