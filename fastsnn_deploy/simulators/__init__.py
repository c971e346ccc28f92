"""Batched simulators that give the reference's integers for whole data sets in seconds."""

from __future__ import annotations

from importlib import import_module

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.simulators import reference as _reference  # noqa: F401  registers the engine
from fastsnn_deploy.simulators.engine import ENGINES as ENGINES
from fastsnn_deploy.simulators.engine import Activity as Activity
from fastsnn_deploy.simulators.engine import BatchRun as BatchRun
from fastsnn_deploy.simulators.engine import Engine as Engine
from fastsnn_deploy.simulators.engine import Recording as Recording

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
        raise InputError(f"engine '{name}' is not known. Known: {', '.join(sorted({*ENGINES, *LATE}))}")
    return ENGINES[name](graph, threads)
