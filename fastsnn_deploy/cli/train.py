"""`fastsnn-deploy train`: a recipe to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastsnn_deploy.cli.common import Data, DataRoot, Download, Json, Preprocess, print_json, show, this_process
from fastsnn_deploy.errors import InputError, known_name
from fastsnn_deploy.tables import percent

if TYPE_CHECKING:
    from fastsnn_deploy.training.recipe import Recipe, Stage


def train(
    recipe: Annotated[
        str | None,
        typer.Option(help="Name of a shipped recipe, or path of a .yaml file. Default: the one named after the task."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="What the network shall answer: detection or segmentation; without --recipe.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Checkpoint to write.")] = Path("model.pt"),
    model: Annotated[
        str | None,
        typer.Option(
            help="Another network than the recipe's: a known name, package.module:builder, file.py:builder, "
            "torchvision:NAME, timm:NAME."
        ),
    ] = None,
    data: Data = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    preprocess: Preprocess = None,
    size: Annotated[
        str | None, typer.Option(help="Of images with boxes or masks: height and width for all of them, as 192x256.")
    ] = None,
    epochs: Annotated[
        str | None, typer.Option(help="Other numbers of epochs than the recipe's: one for each stage, as 20,5,5.")
    ] = None,
    sparsity: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Another price of synaptic operations in the loss than the recipe's: 0 none, 1 is mild. See "
            "docs/sparsity.md.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the last finished epoch.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew although an unfinished training is there.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    seed: Annotated[int | None, typer.Option(help="Another seed than the recipe's.")] = None,
    as_json: Json = False,
) -> None:
    """Train a quantised network from a recipe and save it as a checkpoint.

    The state after every epoch is kept beside the checkpoint until training ends; --resume continues from it.
    Under torchrun each process takes a share of every batch: torchrun --nproc-per-node 2 -m fastsnn_deploy train ...
    """
    from fastsnn_deploy.tasks import TASKS, trainer_for
    from fastsnn_deploy.training.progress import TrainingBar
    from fastsnn_deploy.training.recipe import load_recipe

    if resume and restart:
        raise InputError("--resume and --restart exclude each other. Leave one out")
    if data == "random":
        raise InputError("random images have no labels to learn from. Name a data set with --data")
    if (recipe is None) == (task is None):
        raise InputError(f"give --recipe, or --task ({', '.join(TASKS)}), whose recipe has that name; not both")
    chosen = load_recipe(str(recipe or known_name("task", task, TASKS)))
    changes: dict[str, Any] = {
        "seed": seed, "data": data, "model": model, "preprocess": preprocess, "sparsity": sparsity
    }  # fmt: skip
    if model is not None:
        changes["model_options"] = {}  # they were the other network's
    if size is not None:
        changes["size"] = height_width(size, chosen)
    if epochs is not None:
        changes["stages"] = brief(chosen, epochs)
    changes = {key: value for key, value in changes.items() if value is not None}
    if data not in (None, chosen.data) and size is None:
        changes["size"] = None  # of other images
    chosen = chosen.model_copy(update=changes)
    processes = this_process(download)
    with TrainingBar(f"training {chosen.name}", shown=processes.first) as bar:
        trainer = trainer_for(chosen)(
            chosen, out, data_root=data_root, download=download, device=device, progress=bar.advance, log=bar.epoch,
            say=bar.say, processes=processes,
        )  # fmt: skip
        try:
            checkpoint = trainer.run(resume, restart)
        except (KeyboardInterrupt, SystemExit):
            if trainer.resume_file.exists():
                bar.say(f"interrupted; the last finished epoch is in {trainer.resume_file}: go on with --resume")
            raise
    if not processes.first:
        return
    measured = checkpoint.metadata.get("figures")
    if as_json:
        found = {"figures": measured} if measured else {"quantised_accuracy": checkpoint.metadata["quantised_accuracy"]}
        print_json({"checkpoint": str(out), "recipe": chosen.name, **found})
    elif measured:
        forms = ", ".join(f"{form} {percent(figures[trainer.metric])}" for form, figures in measured.items())
        show(f"{out}: {chosen.task}, {trainer.metric} on {len(trainer.test_images.labels):,} test images: {forms}")
    else:
        show(f"{out}: quantised network, {percent(checkpoint.metadata['quantised_accuracy'])} of the test images right")


def height_width(text: str, recipe: Recipe) -> tuple[int, int]:
    """192x256 as (192, 256)."""
    if recipe.task == "classification":
        raise InputError("--size is for images with boxes or masks. Leave it out")
    first, _, second = text.partition("x")
    if not (first.isdecimal() and second.isdecimal() and int(first) and int(second)):
        raise InputError(f"--size '{text}': must be height and width, as 192x256")
    return int(first), int(second)


def brief(recipe: Recipe, epochs: str) -> tuple[Stage, ...]:
    """The stages of a recipe with other numbers of epochs."""
    numbers = epochs.split(",")
    right = all(number.isdecimal() and int(number) for number in numbers) and len(numbers) == len(recipe.stages)
    if not right:
        own = ",".join(str(stage.epochs) for stage in recipe.stages)
        raise InputError(f"--epochs '{epochs}': must be a number for each stage of the recipe, as {own}")
    pairs = zip(recipe.stages, numbers, strict=True)
    return tuple(stage.model_copy(update={"epochs": int(number)}) for stage, number in pairs)
