"""Networks and data of the user's own, named as `package.module:name` or `file.py:name`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from fastsnn_deploy.errors import InputError, unknown
from fastsnn_deploy.files import readable_file


def names_an_object(name: str) -> bool:
    """Whether a name has the form `module:name`."""
    module, colon, inner = name.rpartition(":")
    return bool(module and colon and inner.isidentifier())


def named_object(name: str) -> Any:
    """What `package.module:name` or `file.py:name` names. The working directory is searched, too.

    Raises InputError if the module cannot be imported or lacks the name.
    """
    place, _, inner = name.rpartition(":")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else _from_path(place)
    except Exception as error:  # whatever the user's own code may set off
        raise InputError(f"'{name}': {place} cannot be imported ({type(error).__name__}: {error})") from error
    if not hasattr(module, inner):
        public = [found for found in vars(module) if not found.startswith("_")]
        raise unknown(f"name of {place},", inner, public)
    return getattr(module, inner)


def _from_path(place: str) -> ModuleType:
    sys.path.insert(0, "")
    try:
        return importlib.import_module(place)
    finally:
        sys.path.remove("")


def _from_file(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, readable_file(file, "file"))
    if spec is None or spec.loader is None:
        raise ImportError("is no Python module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
