"""Float networks by the names that recipes use."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from fastsnn_deploy.errors import InputError, unknown

MODELS: dict[str, Callable[..., nn.Module]] = {}
"""Builders by name; each takes channels, classes and options of its own, whole numbers."""


def register(name: str, builder: Callable[..., nn.Module]) -> None:
    """Make a builder known under a name."""
    MODELS[name] = builder


def build(name: str, **options: int) -> nn.Module:
    """A float network of the zoo. Raises InputError for unknown names and options."""
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    fixed = set(getattr(MODELS[name], "keywords", {})) & options.keys()
    if fixed:
        raise InputError(f"model '{name}': {', '.join(sorted(fixed))} cannot be chosen, another name has another")
    try:
        return MODELS[name](**options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"model '{name}': {error}") from error
