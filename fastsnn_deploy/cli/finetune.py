"""`fastsnn-deploy finetune`: a checkpoint to one that makes fewer mistakes when it stops after its window."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from fastsnn_deploy.cli.common import Data, DataRoot, Download, Json, Preprocess, output, print_json, show
from fastsnn_deploy.cli.tasks import has_scenes
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.tables import percent


def finetune(
    model: Annotated[Path, typer.Argument(help="Checkpoint of a quantised network, written by train.")],
    out: Annotated[Path, typer.Option("--out", "-o", callback=output, help="Checkpoint to write.")] = Path("tuned.pt"),
    data: Data = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    preprocess: Preprocess = None,
    images: Annotated[int, typer.Option(min=1, help="Training images to learn from.")] = 2000,
    held_out: Annotated[int, typer.Option(min=1, help="Other training images, which judge each change.")] = 1000,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images for each layer.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Images a step.")] = 50,
    learning_rate: Annotated[float, typer.Option(help="Of SGD with momentum 0.9.")] = 1e-3,
    neurons: Annotated[str, typer.Option(help="Neurons: unary (with negative spikes) or unsigned.")] = "unary",
    force: Annotated[bool, typer.Option("--force", help="Keep every change.")] = False,
    seed: Annotated[int, typer.Option(help="Chooses the images and their order.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor cores; default all.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the last finished layer.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew although an unfinished run is there.")] = False,
    as_json: Json = False,
) -> None:
    """Fine-tune a network layer by layer for a spiking run of exactly 2**bits - 1 steps a layer.

    A network that runs until it has settled needs none of this. The state after every layer is kept beside the new
    checkpoint until the end; --resume continues from it. Test images are only used to state the accuracy.
    """
    from fastsnn_deploy.files import planned
    from fastsnn_deploy.quantisation import load, save
    from fastsnn_deploy.quantisation.images import input_of
    from fastsnn_deploy.tasks import task_in
    from fastsnn_deploy.tasks.evaluate import figures_of
    from fastsnn_deploy.tasks.finetune import TaskFinetuner
    from fastsnn_deploy.tasks.sources import load_both
    from fastsnn_deploy.training.answers import quantised_logits
    from fastsnn_deploy.training.data import Split, load_for
    from fastsnn_deploy.training.finetune import Finetuner, Settings
    from fastsnn_deploy.training.progress import TrainingBar

    checkpoint = load(model)
    name = data or checkpoint.metadata.get("data")
    if name is None:
        raise InputError("the checkpoint does not say which data it was trained on. Name it with --data")
    task = task_in(checkpoint.metadata)
    settings = Settings(
        images=images, held_out=held_out, epochs=epochs, batch=batch, learning_rate=learning_rate, neurons=neurons,
        force=force, seed=seed,
    )  # fmt: skip
    state = planned(out.with_name(out.name + ".resume"))
    with TrainingBar("fine-tuning") as bar:
        shared: dict[str, Any] = {
            "state_file": state, "threads": threads, "progress": bar.advance, "log": bar.say
        }  # fmt: skip
        finetuner: Finetuner
        if task is not None and has_scenes(task):
            if download:
                raise InputError(f"data of {task.name} cannot be fetched. Leave out --download")
            size = (checkpoint.input_shape[1], checkpoint.input_shape[2])
            train_scenes, test_scenes = load_both(
                str(name), data_root, task=task.name, size=size, classes=task.classes
            )  # fmt: skip
            finetuner = TaskFinetuner(checkpoint, task, train_scenes, settings, **shared)
        else:
            grid = input_of(checkpoint.model)
            train, test = (
                load_for(checkpoint.metadata, grid, str(name), split, data_root, download, preprocess)
                for split in get_args(Split)
            )
            finetuner = Finetuner(checkpoint, train, settings, **shared)
        try:
            tuned = finetuner.run(resume, restart)
        except (KeyboardInterrupt, SystemExit):
            if state.exists():
                bar.say(f"interrupted; the last finished layer is in {state}: go on with --resume")
            raise
    if isinstance(finetuner, TaskFinetuner):
        measured: dict[str, Any] = {"figures": {"quantised": figures_of(finetuner.task, tuned.model, test_scenes)}}
    else:
        right = quantised_logits(tuned.model, test).argmax(1) == test.labels.numpy()
        measured = {"quantised_accuracy": float(right.mean())}
    tuned = dataclasses.replace(tuned, metadata={**tuned.metadata, **measured})
    save(tuned, out)
    report = {"checkpoint": str(out), "source": str(model), **tuned.metadata["finetune"]}
    report |= measured
    if as_json:
        print_json(report)
        return
    kept = sum(record["kept"] for record in report["layers"])
    before, after = (report[f"held_out_{finetuner.judged}_{when}"] / finetuner.most for when in ("before", "after"))
    what = "images right" if finetuner.judged == "correct" else finetuner.judged
    show(
        f"{out}: {kept} of {len(report['layers'])} layers changed; spiking network after its window, held-out training "
        f"{what}: {percent(before)} before, {percent(after)} after"
    )
