"""`fastsnn-deploy quantize`: a float network to few bits, from images alone or with a few epochs of training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastsnn_deploy.cli.common import (
    Data,
    DataRoot,
    Download,
    Json,
    Preprocess,
    first_images,
    output,
    print_json,
    progress_bar,
    show,
)
from fastsnn_deploy.cli.sources import (
    Key,
    Mean,
    ModelName,
    Output,
    ReplaceActivations,
    Std,
    TrustPickle,
    changes,
    chosen_preprocessing,
    is_quantised,
    numbers,
    opened,
)
from fastsnn_deploy.cli.tasks import TaskName, chosen_task, has_scenes
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.tables import Result

if TYPE_CHECKING:
    from torch import nn

SAMPLES = 500
"""Test images unless the user says how many: the spiking network takes its time."""


def quantize(
    model: Annotated[Path, typer.Argument(help="A float network: weights, .pt2, TorchScript, ONNX.")],
    network: ModelName = None,
    key: Key = None,
    trust_pickle: TrustPickle = False,
    chosen_output: Output = None,
    replace_activations: ReplaceActivations = None,
    data: Data = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    preprocess: Preprocess = None,
    out: Annotated[Path, typer.Option("--out", "-o", callback=output, help="Checkpoint to write.")] = Path(
        "quantised.pt"
    ),
    bits: Annotated[int, typer.Option(help="Of activations, 1 to 8.")] = 8,
    weight_bits: Annotated[int, typer.Option(help="Of weights, 2 to 8; the first and the last layer have 8.")] = 8,
    mean: Mean = None,
    std: Std = None,
    thresholds: Annotated[str, typer.Option(help="How steps are chosen: mse, percentile or entropy.")] = "mse",
    images: Annotated[int, typer.Option(min=2, help="Training images to look at; labels are not used.")] = 1024,
    iterations: Annotated[int, typer.Option(min=1, help="Steps of the rounding, for each layer or block.")] = 200,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Test images to state accuracies on. Default: the first 500, or all.")
    ] = None,
    neurons: Annotated[str, typer.Option(help="Neurons of the SNN: unary, graded, burst4, ...")] = "unary",
    allow_loss: Annotated[
        bool, typer.Option("--allow-loss", help="Let trained integers lose bits that 24-bit potentials cannot hold.")
    ] = False,
    epochs: Annotated[int, typer.Option(min=0, help="Then train, with the float network as teacher.")] = 0,
    learning_rate: Annotated[float, typer.Option(help="Of that training, the first one.")] = 0.01,
    batch: Annotated[int, typer.Option(min=2, help="Images a step of that training.")] = 128,
    sparsity: Annotated[
        float,
        typer.Option(min=0, help="Price of synaptic operations in its loss: 0 none, 1 is mild. See docs/sparsity.md."),
    ] = 0.0,
    shift: Annotated[int, typer.Option(min=0, help="Move its images at random by up to so many pixels.")] = 0,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror half of its images.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the images and their order.")] = 0,
    task: TaskName = None,
    size: Annotated[
        str | None, typer.Option(help="Of images with boxes or masks: height,width for all of them, as 192,256.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Quantise a trained float network, and say what each stage costs and gains.

    Steps of activations, equalisation of channels, biases, rounding of weights: each stage stays only if the answers
    come closer to the float network's. Prints the accuracy after each, and at the end that of the float network, the
    quantised one, the integer network and the spiking network, on the same test images.
    """
    from fastsnn_deploy.conversion.convert import convert
    from fastsnn_deploy.graph.preprocessing import KEY
    from fastsnn_deploy.quantisation import Checkpoint, save
    from fastsnn_deploy.quantisation.others import found_in
    from fastsnn_deploy.quantisation.post_training.quantize import quantize as quantise
    from fastsnn_deploy.tasks import evaluate_task
    from fastsnn_deploy.tasks.evaluate import figures_of
    from fastsnn_deploy.tasks.sources import load_both
    from fastsnn_deploy.training.accuracies import accuracies
    from fastsnn_deploy.training.answers import quantised_logits
    from fastsnn_deploy.training.data import load_chosen
    from fastsnn_deploy.training.fit import fit

    if data is None or data == "random":
        raise InputError("quantising needs images like those that the network will see. Name a data set with --data")
    if sparsity and not epochs:
        raise InputError(f"--sparsity {sparsity:g} is a price in the loss of a training. Say how long with --epochs")
    chosen = chosen_task({}, task)
    scenes = None
    choose, notes = chosen_preprocessing(network, preprocess, mean, std)
    if chosen is not None and has_scenes(chosen):
        if epochs:
            raise InputError("--epochs is for classes. Train a detector with fastsnn-deploy train")
        if download:
            raise InputError(f"data of {chosen.name} cannot be fetched. Leave out --download")
        train_scenes, scenes = load_both(
            data, data_root, task=chosen.name, size=numbers("--size", size, int), classes=chosen.classes or None
        )  # fmt: skip
        scenes = scenes.first(samples)
        train, test = train_scenes.images(), scenes.images()
        train = train.preprocessed(choose(train.preprocessing))
    else:
        train = load_chosen(data, "train", data_root, download, choose)
        test = load_chosen(data, "test", data_root, download, lambda _: train.preprocessing)
        test = first_images(test, min(SAMPLES, len(test.labels)) if samples is None else samples)
    known = train.preprocessing

    def good(model: nn.Module) -> float:
        assert chosen is not None
        assert scenes is not None
        return figures_of(chosen, model, scenes)[chosen.metric] or 0.0

    loaded = opened(model, network, key, trust_pickle, train.shape)
    if is_quantised(loaded.model) or found_in(loaded.model):
        raise InputError(f"{model}: is quantised already. Run fastsnn-deploy export {model}, or give a float network")
    with progress_bar("quantising") as update:
        found = quantise(
            loaded.model, train, bits, weight_bits, test=good if scenes else test, preprocessing=known,
            thresholds=thresholds, most_images=images, iterations=iterations, seed=seed, progress=update,
            input_shape=train.shape,
            **changes(chosen_output, replace_activations),
        )  # fmt: skip
    history = None
    if epochs:
        history = fit(
            found.model, train, test, epochs=epochs, learning_rate=learning_rate, batch_size=batch,
            teacher=found.teacher, freeze_batch_norm=True, sparsity=sparsity, shift=shift, flip=flip, seed=seed,
        )  # fmt: skip
    metadata: dict[str, Any] = {
        KEY: known.plain(), "data": data,
        "post_training": {"source": model.name, "model": network, **found.to_dict()},
    }  # fmt: skip
    if chosen is not None and scenes is not None:
        metadata["task"] = chosen.description()
    else:
        answers = quantised_logits(found.model, test)
        if (outputs := answers.shape[1]) != train.classes:
            told = f"the network has {outputs} outputs, {data} {train.classes} classes: output k is taken for class k"
            notes += (told,)
        metadata["quantised_accuracy"] = float((answers.argmax(1) == test.labels.numpy()).mean())
    checkpoint = Checkpoint(found.model, train.shape, metadata)
    save(checkpoint, out)  # the work of minutes, also where the network has no spiking form
    right: Result
    with progress_bar("simulating", unit="images") as update:
        if chosen is not None and scenes is not None:
            graph = convert(checkpoint, neurons=neurons, allow_loss=allow_loss)
            right = evaluate_task(
                graph, chosen, scenes, quantised=found.model, floating=found.teacher, progress=update
            )  # fmt: skip
        else:
            right = accuracies(found.teacher, checkpoint, test, neurons, allow_loss, update)
    if as_json:
        kind = "accuracies" if scenes is None else "evaluation"
        report = {"checkpoint": str(out), "source": str(model), **found.to_dict(), kind: right.to_dict()}
        print_json(report | ({} if history is None else {"training": history.to_dict()}))
    else:
        trained = () if history is None else history.report()
        show(
            *loaded.notes,
            *notes,
            *found.report(),
            *trained,
            *right.report(),
            f"{out}: quantised network. Next: fastsnn-deploy export {out}",
        )
