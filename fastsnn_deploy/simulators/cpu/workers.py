"""Threads that compute a tile each, and PyTorch as they may use it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from threading import RLock
from typing import Any

_LOCK = RLock()
_TORCH = {"users": 0, "threads": 0}
"""How many pools are open, and the threads of an operator of PyTorch before the first, 0 while it is not imported."""


@contextmanager
def workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that compute a tile each; threads within an operator of PyTorch would only get in their way.

    A new thread takes PyTorch's number of threads from the last one that set it, whoever that was: it is put back for
    the caller and for threads to come, also where several callers' pools overlap.
    """
    with _LOCK:
        if not _TORCH["users"]:
            _TORCH["threads"] = 0
            _note_threads()
        _TORCH["users"] += 1
    try:
        with ThreadPoolExecutor(count, initializer=_one_thread) as pool:
            yield pool
    finally:
        with _LOCK:
            _TORCH["users"] -= 1
            if _TORCH["threads"]:
                sys.modules["torch"].set_num_threads(_TORCH["threads"])


def torch_products() -> Any:
    """The module `torch_products`, which imports PyTorch if nobody has yet; for threads of `workers`."""
    with _LOCK:
        late = "torch" not in sys.modules
        found = import_module("fastsnn_deploy.simulators.cpu.torch_products")
        if late:
            _note_threads()
            _one_thread()
    return found


def _note_threads() -> None:
    if "torch" in sys.modules:
        _TORCH["threads"] = sys.modules["torch"].get_num_threads()


def _one_thread() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
