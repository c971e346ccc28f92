"""Importing Lava 0.10.0 where it would not import: on Python 3.11 and later, and after other uses of processes."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import multiprocessing
import sys
from typing import Any

from fastsnn_deploy.errors import BackendError

INSTALL = "Install it with `pip install --no-deps --ignore-requires-python lava-nc==0.10.0`, see docs/lava.md"
INSTALL_DL = "Install it with `pip install --no-deps --ignore-requires-python lava-dl==0.6.0`, see docs/lava.md"


def require_lava() -> None:
    """Raise BackendError if Lava is not installed. Does not import it."""
    try:
        found = importlib.util.find_spec("lava.magma")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise BackendError(f"Lava is not installed. {INSTALL}")


def require_lava_dl() -> None:
    """Raise BackendError if lava-dl, which loads stock NetX files, is not installed. Does not import it."""
    try:
        found = importlib.util.find_spec("lava.lib.dl")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise BackendError(f"lava-dl, which loads stock NetX files on Lava, is not installed. {INSTALL_DL}")


def import_lava() -> None:
    """Import the parts of Lava that do not import everywhere, so that the rest imports as usual.

    Its multiprocessing sets the way in which processes start, which raises where anything has set it before.
    `lava.magma.compiler.var_model` has dataclasses whose defaults are instances of dataclasses; since 3.11 such
    defaults must be hashable, so they are made so while the module loads. Must come before any other Lava import.
    """
    start = multiprocessing.set_start_method
    multiprocessing.set_start_method = functools.partial(start, force=True)
    try:
        importlib.import_module("lava.magma.runtime.message_infrastructure.multiprocessing")
    finally:
        multiprocessing.set_start_method = start
    if sys.version_info < (3, 11):
        return
    original = dataclasses.dataclass

    @functools.wraps(original)
    def hashable(cls: Any = None, /, **options: Any) -> Any:
        options.setdefault("unsafe_hash", True)
        return original(cls, **options)

    dataclasses.dataclass = hashable
    try:
        importlib.import_module("lava.magma.compiler.var_model")
    finally:
        dataclasses.dataclass = original
