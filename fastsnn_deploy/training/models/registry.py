"""Float networks by the names that recipes use."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from torch import nn

from fastsnn_deploy.errors import InputError, unknown
from fastsnn_deploy.training.objects import named_object, names_an_object

MODELS: dict[str, Callable[..., nn.Module]] = {}
"""Builders by name; each takes channels, classes and options of its own, whole numbers."""


def register(name: str, builder: Callable[..., nn.Module]) -> None:
    """Make a builder known under a name."""
    MODELS[name] = builder


def build(name: str, **options: int) -> nn.Module:
    """A float network of the zoo, or of the user's own `package.module:builder` or `file.py:builder`.

    The user's builder gets channels and classes if it takes them, and all other options. Raises InputError for
    unknown names and options.
    """
    if names_an_object(name):
        return _own(name, options)
    if name not in MODELS:
        raise unknown("model", name, MODELS, "give package.module:builder or file.py:builder")
    fixed = set(getattr(MODELS[name], "keywords", {})) & options.keys()
    if fixed:
        raise InputError(f"model '{name}': {', '.join(sorted(fixed))} cannot be chosen, another name has another")
    try:
        return MODELS[name](**options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"model '{name}': {error}") from error


def _own(name: str, options: dict[str, int]) -> nn.Module:
    builder = named_object(name)
    try:
        taken = inspect.signature(builder).parameters.values()
        every = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in taken)
        names = {parameter.name for parameter in taken}
        given = {k: v for k, v in options.items() if every or k in names or k not in ("channels", "classes")}
        model = builder(**given)
    except Exception as error:  # whatever the user's own code may set off
        raise InputError(f"model '{name}' cannot be built ({type(error).__name__}: {error})") from error
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model '{name}': something of type {type(model).__name__} is no network. Name a function that returns one"
        )
    return model
