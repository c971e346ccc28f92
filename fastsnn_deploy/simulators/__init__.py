"""Batched simulators that give the reference's integers for whole data sets in seconds."""

from __future__ import annotations

from importlib import import_module
from typing import overload

from fastsnn_deploy.errors import InputError, known_name
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.lava_dl import StockNetwork
from fastsnn_deploy.simulators import batched as _batched  # noqa: F401  registers the reference engine
from fastsnn_deploy.simulators.engine import ENGINES as ENGINES
from fastsnn_deploy.simulators.engine import Activity as Activity
from fastsnn_deploy.simulators.engine import BatchRun as BatchRun
from fastsnn_deploy.simulators.engine import Engine as Engine
from fastsnn_deploy.simulators.engine import Recording as Recording
from fastsnn_deploy.simulators.stock import StockEngine as StockEngine

ABOUT = {
    "cpu": "exact integers by int8 convolutions on all processor cores",
    "gpu": "the same integers on an NVIDIA GPU",
    "reference": "plain NumPy, slow; defines what a network does",
}
"""Every engine in one line."""

LATE = {"cpu": "fastsnn_deploy.simulators.cpu", "gpu": "fastsnn_deploy.simulators.gpu"}
"""Engines whose module is imported when they are first asked for, because it needs large libraries."""


@overload
def open_engine(network: SpikingGraph, name: str = "cpu", threads: int | None = None) -> Engine: ...


@overload
def open_engine(network: StockNetwork, name: str = "cpu", threads: int | None = None) -> StockEngine: ...


def open_engine(
    network: SpikingGraph | StockNetwork, name: str = "cpu", threads: int | None = None
) -> Engine | StockEngine:
    """What runs a network batch by batch.

    name: the engine of a graph: "cpu", "reference", or another key of `ENGINES`; a stock network has one simulator.
    threads: processor cores to use, default all. Raises InputError for unknown names.
    """
    if isinstance(network, StockNetwork):
        if name != "cpu":
            raise InputError(f"engine '{name}' runs spiking graphs only. Leave out --engine for stock neurons")
        return StockEngine(network)
    known_name("engine", name, ABOUT.keys() | ENGINES.keys())
    if name not in ENGINES and name in LATE:
        import_module(LATE[name])
    return ENGINES[name](network, threads)
