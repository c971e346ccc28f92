"""Float networks by the names that recipes and `--model` use: ours, torchvision's, timm's, the user's own."""

from __future__ import annotations

import ast
import difflib
import inspect
import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

from torch import nn

from fastsnn_deploy.errors import InputError, unknown, wrong_type
from fastsnn_deploy.training.objects import named_object, names_an_object

MODELS: dict[str, Callable[..., nn.Module]] = {}
"""Builders by name; each takes channels, classes and options of its own, whole numbers."""

OTHERWISE = "give package.module:builder, file.py:builder, torchvision:NAME, or timm:NAME"


def register(name: str, builder: Callable[..., nn.Module]) -> None:
    """Make a builder known under a name."""
    MODELS[name] = builder


def build(name: str, **options: Any) -> nn.Module:
    """A float network by its name.

    Args:
        name: Of the zoo; `package.module:builder` or `file.py:builder` of the user's own; `torchvision:NAME` or
            `timm:NAME`, without their weights. Options may follow in brackets: `lenet(width=8)`,
            `torchvision:resnet18(num_classes=10)`; `weights='IMAGENET1K_V1'` there says whose preprocessing is meant.
        **options: For the builder; channels and classes go to those that take them.

    Raises:
        InputError: unknown names and options, or a builder that fails.

    Example:
        >>> sum(p.numel() for p in build("lenet(width=8)").parameters())
        56194
    """
    if not isinstance(name, str):
        raise wrong_type("the model", name, "the name of one")
    name, written = name_and_options(name)
    options |= written
    if name.startswith(tuple(LIBRARIES)):
        library, _, wanted = name.partition(":")
        return _called(name, LIBRARIES[f"{library}:"](wanted), options)
    if names_an_object(name):
        return _called(name, named_object(name), options)
    if name not in MODELS:
        raise unknown("model", name, MODELS, OTHERWISE)
    fixed = set(getattr(MODELS[name], "keywords", {})) & options.keys()
    if fixed:
        raise InputError(f"model '{name}': {', '.join(sorted(fixed))} cannot be chosen, another name has another")
    try:
        return MODELS[name](**options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"model '{name}': {error}") from error


def name_and_options(text: str) -> tuple[str, dict[str, Any]]:
    """`name(key=value, ...)` taken apart; values are numbers, strings, True, None, and lists of them."""
    found = re.fullmatch(r"([^()]+)\((.*)\)", text, re.DOTALL)
    if found is None:
        return text, {}
    try:
        call = ast.parse(f"f({found[2]})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("only options with names")
        return found[1], {str(word.arg): ast.literal_eval(word.value) for word in call.keywords if word.arg}
    except (SyntaxError, ValueError) as error:
        raise InputError(f"model '{text}': options are written as {found[1]}(num_classes=10, ...)") from error


def _torchvision(name: str) -> Callable[..., nn.Module]:
    from torchvision import models

    known = [each for each in models.list_models() if "/" not in each]
    if name not in known:
        raise _unknown("torchvision", name, known)
    return lambda **options: models.get_model(name, **{**options, "weights": None})


def _timm(name: str) -> Callable[..., nn.Module]:
    try:
        timm = import_module("timm")
    except ImportError as error:
        raise InputError(f"model 'timm:{name}' needs timm. Install it with `pip install timm`") from error
    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    return lambda **options: timm.create_model(name, pretrained=False, **options)


def _unknown(library: str, name: str, known: list[str]) -> InputError:
    """The error for a name that a library does not know; it has too many to list them."""
    close = difflib.get_close_matches(name, known, n=3)
    guess = f"Did you mean {' or '.join(close)}?" if close else f"{library} lists its own with list_models()"
    return InputError(f"model '{library}:{name}' is not known. {guess}")


LIBRARIES = {"torchvision:": _torchvision, "timm:": _timm}
"""Builders of other libraries by the prefix of their names."""


def _called(name: str, builder: Callable[..., Any], options: dict[str, Any]) -> nn.Module:
    try:
        taken = inspect.signature(builder).parameters.values()
        every = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in taken)
        names = {parameter.name for parameter in taken}
        given = {k: v for k, v in options.items() if every or k in names or k not in ("channels", "classes")}
        if name.startswith(tuple(LIBRARIES)):
            given = _as_libraries(given)
        model = builder(**given)
    except Exception as error:  # whatever the user's own code may set off
        raise InputError(f"model '{name}' cannot be built ({type(error).__name__}: {error})") from error
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model '{name}': something of type {type(model).__name__} is no network. Name a function that returns one"
        )
    return model


def _as_libraries(options: dict[str, Any]) -> dict[str, Any]:
    """Options as torchvision and timm call them: images of another depth than 3 are for timm alone."""
    names = {"classes": "num_classes", "channels": "in_chans"}
    return {names.get(k, k): v for k, v in options.items() if not (k == "channels" and v == 3)}
