"""Batched simulators that give the reference's integers for whole data sets in seconds."""

from __future__ import annotations

from importlib import import_module

from fastsnn_deploy.errors import unknown
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.simulators import batched as _batched  # noqa: F401  registers the reference engine
from fastsnn_deploy.simulators.engine import ENGINES as ENGINES
from fastsnn_deploy.simulators.engine import Activity as Activity
from fastsnn_deploy.simulators.engine import BatchRun as BatchRun
from fastsnn_deploy.simulators.engine import Engine as Engine
from fastsnn_deploy.simulators.engine import Recording as Recording

ABOUT = {
    "cpu": "exact integers by int8 convolutions on all processor cores",
    "gpu": "the same integers on an NVIDIA GPU",
    "reference": "plain NumPy, slow; defines what a network does",
}
"""Every engine in one line."""

LATE = {"cpu": "fastsnn_deploy.simulators.cpu", "gpu": "fastsnn_deploy.simulators.gpu"}
"""Engines whose module is imported when they are first asked for, because it needs large libraries."""


def open_engine(graph: SpikingGraph, name: str = "cpu", threads: int | None = None) -> Engine:
    """An engine for a graph.

    name: "cpu", "reference", or another key of `ENGINES`. threads: processor cores to use, default all. Raises
    InputError for unknown names.
    """
    if name not in ENGINES and name in LATE:
        import_module(LATE[name])
    if name not in ENGINES:
        raise unknown("engine", name, ABOUT)
    return ENGINES[name](graph, threads)
