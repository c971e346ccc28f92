"""The state of an unfinished training, in the file that it goes on from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor
from torch.optim import Optimizer

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.files import own_files
from fastsnn_deploy.quantisation.checkpoint import read_plain, write_plain
from fastsnn_deploy.reading import of_schema
from fastsnn_deploy.training.loop import Log
from fastsnn_deploy.training.recipe import Recipe

FORMAT = "fastsnn-deploy training state"


class _State(BaseModel):
    """model, average: tensors by name. optimiser: its state_dict. figures: those of earlier stages, by form."""

    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)

    format: str
    recipe: str
    stage: int
    epoch: int
    processes: Annotated[int, Field(ge=1)] = 1
    model: dict[str, Tensor]
    optimiser: dict[str, Any]
    average: dict[str, Tensor] = {}
    figures: dict[str, Any] = {}


def write_state(file: Path, recipe: Recipe, state: dict[str, Any]) -> None:
    """Replace the state. state: stage, finished epochs, number of processes, and the state_dicts."""
    write_plain({"format": FORMAT, "recipe": recipe.model_dump_json(), **state}, file, again=True)


def read_state(file: Path, recipe: Recipe, device: str, processes: int, say: Log) -> dict[str, Any]:
    """What `write_state` wrote. Raises InputError if it is damaged or of another recipe."""
    with own_files():
        state = read_plain(file, "training state", device)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise InputError(f"{file}: is not a training state of this program")
    state = dict(of_schema(_State, state, file, "training state. Start anew"))
    if _recipe_of(state) != recipe:
        raise InputError(f"{file}: belongs to another recipe. Use the same recipe, or start anew")
    stage, epoch = state["stage"], state["epoch"]
    if stage not in range(len(recipe.stages)) or epoch not in range(1, recipe.stages[stage].epochs + 1):
        raise InputError(f"{file}: is damaged: there is no epoch {epoch} of stage {stage}. Start anew")
    if state["processes"] != processes:
        say(
            f"{file} comes from {state['processes']} processes: with {processes} the weights will differ from "
            "those of an uninterrupted training"
        )
    return state


def restore(optimiser: Optimizer, state: dict[str, Any]) -> None:
    """Put a state into an optimiser. Raises ValueError, or what torch raises, if it is another optimiser's."""
    before = [_settings(group) for group in optimiser.param_groups]
    optimiser.load_state_dict(state)
    rates = [group["lr"] for group in optimiser.param_groups]
    if [_settings(group) for group in optimiser.param_groups] != before or not all(map(math.isfinite, rates)):
        raise ValueError("the optimiser's settings are not those of the recipe")
    for parameter, values in optimiser.state.items():
        for name, value in values.items():
            shape = value.shape if isinstance(value, Tensor) else None
            if value is not None and shape not in (parameter.shape, ()):
                raise ValueError(f"the optimiser's {name} has not the shape of its weights")


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    """What does not change while an optimiser runs."""
    return {name: value for name, value in group.items() if name not in ("params", "lr", "initial_lr")}


def _recipe_of(state: dict[str, Any]) -> Recipe | None:
    """The recipe of a training state, which an older program may have written with fewer fields; None if damaged."""
    try:
        return Recipe.model_validate_json(state["recipe"])
    except (KeyError, ValidationError):
        return None
