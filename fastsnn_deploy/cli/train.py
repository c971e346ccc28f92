"""`fastsnn-deploy train`: a recipe to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fastsnn_deploy.cli.common import Data, DataRoot, Download, Json, Preprocess, print_json, show, this_process
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.tables import percent


def train(
    recipe: Annotated[str, typer.Option(help="Name of a shipped recipe, or path of a .yaml file.")],
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
    from fastsnn_deploy.training.progress import TrainingBar
    from fastsnn_deploy.training.recipe import load_recipe
    from fastsnn_deploy.training.trainer import Trainer

    if resume and restart:
        raise InputError("--resume and --restart exclude each other. Leave one out")
    if data == "random":
        raise InputError("random images have no labels to learn from. Name a data set with --data")
    changes: dict[str, Any] = {"seed": seed, "data": data, "model": model, "preprocess": preprocess}
    if model is not None:
        changes["model_options"] = {}  # they were the other network's
    chosen = load_recipe(recipe)
    chosen = chosen.model_copy(update={key: value for key, value in changes.items() if value is not None})
    processes = this_process(download)
    with TrainingBar(f"training {chosen.name}", shown=processes.first) as bar:
        trainer = Trainer(
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
    accuracy = checkpoint.metadata["quantised_accuracy"]
    if as_json:
        print_json({"checkpoint": str(out), "recipe": chosen.name, "quantised_accuracy": accuracy})
    else:
        show(f"{out}: quantised network, {percent(accuracy)} of the test images right")
