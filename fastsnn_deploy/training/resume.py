"""The state of an unfinished training, in the file that it goes on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.files import own_files
from fastsnn_deploy.quantisation.checkpoint import read_plain, write_plain
from fastsnn_deploy.training.loop import Log
from fastsnn_deploy.training.recipe import Recipe

FORMAT = "fastsnn-deploy training state"


def write_state(file: Path, recipe: Recipe, state: dict[str, Any]) -> None:
    """Replace the state. state: stage, finished epochs, number of processes, and the state_dicts."""
    write_plain({"format": FORMAT, "recipe": recipe.model_dump_json(), **state}, file, again=True)


def read_state(file: Path, recipe: Recipe, device: str, processes: int, say: Log) -> dict[str, Any]:
    """What `write_state` wrote. Raises InputError if it is damaged or of another recipe."""
    with own_files():
        state = read_plain(file, "training state", device)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise InputError(f"{file}: is not a training state of this program")
    if _recipe_of(state) != recipe:
        raise InputError(f"{file}: belongs to another recipe. Use the same recipe, or start anew")
    stage, epoch = state.get("stage", -1), state.get("epoch", -1)
    if stage not in range(len(recipe.stages)) or epoch not in range(1, recipe.stages[stage].epochs + 1):
        raise InputError(f"{file}: is damaged: there is no epoch {epoch} of stage {stage}. Start anew")
    if state.get("processes", 1) != processes:
        say(
            f"{file} comes from {state.get('processes', 1)} processes: with {processes} the weights will differ from "
            "those of an uninterrupted training"
        )
    return state


def _recipe_of(state: dict[str, Any]) -> Recipe | None:
    """The recipe of a training state, which an older program may have written with fewer fields; None if damaged."""
    try:
        return Recipe.model_validate_json(state["recipe"])
    except (KeyError, ValidationError):
        return None
