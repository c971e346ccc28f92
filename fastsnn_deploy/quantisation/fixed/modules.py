"""Layers of other frameworks in a module, as float layers with `FixedQuantiser`s and grids: one rule a kind of layer.

A framework is one file with a function under `@layers_of`; it is never imported here, because its classes are known by
their names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fastsnn_deploy.quantisation.fixed.programs import holds_quantisers
from fastsnn_deploy.quantisation.fixed.quantiser import is_fixed
from fastsnn_deploy.quantisation.moved import BATCH


@dataclass(frozen=True)
class Call:
    """What a module was called with, and what it gave: as the framework hands it on, with its scales."""

    arguments: tuple[Any, ...]
    result: Any


Calls = Mapping[nn.Module, Call]
"""The last call of every module, none if no image is known that passes through."""

Rule = Callable[[Any, Calls], nn.Module | None]

RULES: dict[str, Rule] = {}
"""How layers are read, by the beginning of their class's full name: rule(layer, calls) -> float layer with quantisers,
None to look inside."""


def layers_of(*names: str) -> Callable[[Rule], Rule]:
    """Register how layers are read whose class, or a base of it, has a full name that begins so."""

    def decorator(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return decorator


def with_fixed_quantisers(model: nn.Module, shape: tuple[int, ...] | None) -> nn.Module:
    """A network of layers of other frameworks as one of float layers and quantisers; it is changed in place.

    shape: of an image that passes through it; one does, of zeros, to see which scales meet.
    """
    known = {layer: rule for layer in model.modules() if (rule := _rule_of(layer)) is not None}
    if known:
        calls = {} if shape is None else _calls(model, shape)
        model = _replaced(model, {layer: rule(layer, calls) for layer, rule in known.items()})
    return model


def quantised_elsewhere(model: nn.Module) -> bool:
    """Whether another program has quantised a network, in any of the forms that are known."""
    known = any(_rule_of(module) is not None for module in model.modules())
    return known or is_fixed(model) or holds_quantisers(model)


def _rule_of(layer: nn.Module) -> Rule | None:
    for kind in type(layer).__mro__:
        name = f"{kind.__module__}.{kind.__qualname__}"
        found = next((rule for start, rule in RULES.items() if name.startswith(start)), None)
        if found is not None:
            return found
    return None


def _replaced(model: nn.Module, made: Mapping[nn.Module, nn.Module | None]) -> nn.Module:
    new = made.get(model)
    if new is not None:
        return new
    for name, child in list(model._modules.items()):  # named_children leaves out those that come twice
        if child is not None:
            model._modules[name] = _replaced(child, made)
    return model


def _calls(model: nn.Module, shape: tuple[int, ...]) -> dict[nn.Module, Call]:
    calls: dict[nn.Module, Call] = {}

    def keep(layer: nn.Module, arguments: tuple[Any, ...], result: Any) -> None:
        calls[layer] = Call(arguments, result)

    hooks = [layer.register_forward_hook(keep) for layer in model.modules()]
    try:
        with torch.no_grad():
            model(torch.zeros(BATCH, *shape))
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def chain(*layers: nn.Module | None) -> nn.Module:
    """Layers one after another, without those that are None; a single one as itself."""
    found = [layer for layer in layers if layer is not None]
    return found[0] if len(found) == 1 else nn.Sequential(*found)
