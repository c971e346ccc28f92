"""`fastsnn-deploy list`: the names that options take."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

import typer

from fastsnn_deploy.cli.common import Json, print_json, show
from fastsnn_deploy.tables import Table


class Kind(str, Enum):
    """What can be listed."""

    recipes = "recipes"
    models = "models"
    data = "data"
    hardware = "hardware"
    targets = "targets"
    engines = "engines"


def listing(
    kind: Annotated[Kind, typer.Argument(help="What to list.", show_choices=True)], as_json: Json = False
) -> None:
    """List what can be named: recipes, models, data, hardware, targets or engines, with one line about each."""
    names = known(kind)
    if as_json:
        print_json({kind.value: [{"name": name, "about": about} for name, about in names.items()]})
    else:
        show(Table.facts("", names))


def known(kind: Kind) -> dict[str, str]:
    """Every name of a kind, sorted, with what it is."""
    found: dict[str, Any] = {
        Kind.recipes: _recipes, Kind.models: _models, Kind.data: _data, Kind.hardware: _hardware,
        Kind.targets: _targets, Kind.engines: _engines,
    }[kind]()  # fmt: skip
    return {name: found[name] for name in sorted(found)}


def _recipes() -> dict[str, str]:
    from fastsnn_deploy.training.recipe import load_recipe, recipe_names

    recipes = {name: load_recipe(name) for name in recipe_names()}
    return {
        name: f"{recipe.model} on {recipe.data}, {sum(stage.epochs for stage in recipe.stages)} epochs"
        for name, recipe in recipes.items()
    }


def _models() -> dict[str, str]:
    from fastsnn_deploy.training.models import MODELS

    return {name: _first_line(getattr(builder, "func", builder)) for name, builder in MODELS.items()}


def _data() -> dict[str, str]:
    from fastsnn_deploy.training.data import DATASETS, SOURCES

    kinds = {each.name: each.about for each in SOURCES if each.name != "a name"}
    named = {name: _first_line(loader) for name, loader in DATASETS.items()}
    return named | kinds | {"random": "Random levels, no labels"}


def _hardware() -> dict[str, str]:
    from fastsnn_deploy.analysis.hardware import available, load_hardware

    return {name: load_hardware(name).title for name in available()}


def _targets() -> dict[str, str]:
    from fastsnn_deploy.targets import TARGETS

    return {name: each.summary for name, each in TARGETS.items()}


def _engines() -> dict[str, str]:
    from fastsnn_deploy.simulators import ABOUT

    return ABOUT


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().split("\n")[0].rstrip(".")
