"""Files of torch.save without running anything in them, and whole pickled modules for those who trust them."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.quantisation.sources.base import Loaded, Request

BUILDS = {
    ("collections", "OrderedDict"),
    ("torch", "Size"),
    ("torch", "device"),
    *(("torch._utils", f"_rebuild_{name}") for name in ("tensor", "tensor_v2", "tensor_v3", "parameter")),
    *(("torch", name) for name in vars(torch) if isinstance(getattr(torch, name), torch.dtype)),
    *(("torch", name) for name in vars(torch) if name.endswith("Storage") and isinstance(getattr(torch, name), type)),
    *(("torch.storage", name) for name in ("TypedStorage", "UntypedStorage")),
}
"""What a pickle may call: tensors and their parts. Everything else stays `Inert`."""

MODULES = ("model", "net", "network", "module", "ema", "model_ema")
"""Entries of training checkpoints that may hold a whole module."""


class Inert:
    """Stands for an object whose class is not loaded: whatever a pickle does with it, nothing runs.

    origin: the class that the file names.
    """

    origin = ""

    def __new__(cls, *arguments: Any, **options: Any) -> Inert:
        return object.__new__(cls)

    def __init__(self, *arguments: Any, **options: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...

    def add(self, item: Any) -> None: ...


class _Unpickler(pickle._Unpickler):
    """Builds tensors and plain data; for every other class or function that the file names, an `Inert` one.

    It is the one in Python: the one in C takes as much memory as a number in the file says."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) in BUILDS:
            return super().find_class(module_name, global_name)
        return type("Inert", (Inert,), {"origin": f"{module_name}.{global_name}"})


def _load_inert(file: Any, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


_INERT = SimpleNamespace(Unpickler=_Unpickler, load=_load_inert, loads=None, __name__="inert")


def read_inert(path: Path) -> Any:
    """What a file of torch.save holds, with `Inert` in place of all but tensors and plain data.

    Raises InputError if it is damaged. Nothing that the file names is imported or called, but for what makes tensors.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_INERT)
    except Exception as error:  # whatever damaged bytes may set off in the reader
        reason = (str(error) or type(error).__name__).split("\n")[0]
        raise InputError(f"{path}: is not a PyTorch file or is damaged ({reason:.200})") from error


def whole_module(request: Request, content: Any) -> Loaded | None:
    """The module that a file holds as a pickle, bare or in a training checkpoint; None if it holds none.

    Raises InputError with the command that makes a safe file of it, unless the user trusts the file.
    """
    place = _place(content, request.key)
    if place is None:
        return None
    held = content[place] if place else content
    if not request.trust_pickle:
        inside = f" under '{place}'" if place else ""
        raise InputError(
            f"{request.path}: holds a whole pickled module{inside} ({held.origin}), and to load it runs whatever "
            "code is in the file. If you trust it, make a safe file of it where it can be loaded, with "
            f"`{_command(request)}`, or give --trust-pickle (trust_pickle=True)"
        )
    module = _unpickled(request.path)
    module = module[place] if place else module
    if not isinstance(module, nn.Module):
        raise InputError(f"{request.path}: holds an object of type {type(module).__name__}, no torch.nn.Module")
    return Loaded(module.eval(), "a pickled module, trusted")


def _place(content: Any, key: str | None) -> str | None:
    if isinstance(content, Inert):
        return ""
    if isinstance(content, Mapping):
        names = MODULES if key is None else (key,)
        return next((name for name in names if isinstance(content.get(name), Inert)), None)
    return None


def _command(request: Request) -> str:
    path = request.path
    return (
        f"python -c \"import torch; m = torch.load('{path}', weights_only=False).eval(); "
        f"torch.export.save(torch.export.export(m, (torch.rand(2, 3, 32, 32),)), '{path.with_suffix('.pt2')}')\" "
        "(with the size of your images)"
    )


def _unpickled(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # the file's own code runs here: anything can be raised
        reason = f"{type(error).__name__}: {error}".split("\n")[0]
        raise InputError(
            f"{path}: its pickled module cannot be loaded ({reason:.200}). Its classes must be importable: run where "
            "they are, or set PYTHONPATH"
        ) from error
