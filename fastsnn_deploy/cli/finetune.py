"""`fastsnn-deploy finetune`: a checkpoint to one that makes fewer mistakes when it stops after its window."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from fastsnn_deploy.cli.common import Data, DataRoot, Download, Json, Preprocess, output, print_json, show
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
    from fastsnn_deploy.training.answers import quantised_logits
    from fastsnn_deploy.training.data import load_for
    from fastsnn_deploy.training.finetune import Finetuner, Settings
    from fastsnn_deploy.training.progress import TrainingBar

    checkpoint = load(model)
    name = data or checkpoint.metadata.get("data")
    if name is None:
        raise InputError("the checkpoint does not say which data it was trained on. Name it with --data")
    grid = input_of(checkpoint.model)
    train, test = (
        load_for(checkpoint.metadata, grid, str(name), split, data_root, download, preprocess)
        for split in ("train", "test")
    )
    settings = Settings(
        images=images, held_out=held_out, epochs=epochs, batch=batch, learning_rate=learning_rate, neurons=neurons,
        force=force, seed=seed,
    )  # fmt: skip
    state = planned(out.with_name(out.name + ".resume"))
    with TrainingBar("fine-tuning") as bar:
        finetuner = Finetuner(
            checkpoint, train, settings, state_file=state, threads=threads, progress=bar.advance, log=bar.say,
        )  # fmt: skip
        try:
            tuned = finetuner.run(resume, restart)
        except (KeyboardInterrupt, SystemExit):
            if state.exists():
                bar.say(f"interrupted; the last finished layer is in {state}: go on with --resume")
            raise
    right = quantised_logits(tuned.model, test).argmax(1) == test.labels.numpy()
    tuned = dataclasses.replace(tuned, metadata={**tuned.metadata, "quantised_accuracy": float(right.mean())})
    save(tuned, out)
    report = {"checkpoint": str(out), "source": str(model), **tuned.metadata["finetune"]}
    report["quantised_accuracy"] = tuned.metadata["quantised_accuracy"]
    if as_json:
        print_json(report)
        return
    kept = sum(record["kept"] for record in report["layers"])
    before, after = (report[f"held_out_correct_{when}"] / held_out for when in ("before", "after"))
    show(
        f"{out}: {kept} of {len(report['layers'])} layers changed; spiking network after its window, held-out training "
        f"images right: {percent(before)} before, {percent(after)} after"
    )
