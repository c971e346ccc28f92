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
    opened,
)
from fastsnn_deploy.errors import InputError

if TYPE_CHECKING:
    from fastsnn_deploy.training.images import Images

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
    shift: Annotated[int, typer.Option(min=0, help="Move its images at random by up to so many pixels.")] = 0,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror half of its images.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the images and their order.")] = 0,
    as_json: Json = False,
) -> None:
    """Quantise a trained float network, and say what each stage costs and gains.

    Steps of activations, equalisation of channels, biases, rounding of weights: each stage stays only if the answers
    come closer to the float network's. Prints the accuracy after each, and at the end that of the float network, the
    quantised one, the integer network and the spiking network, on the same test images.
    """
    from fastsnn_deploy.graph.preprocessing import KEY
    from fastsnn_deploy.quantisation import Checkpoint, save
    from fastsnn_deploy.quantisation.post_training.quantize import quantize as quantise
    from fastsnn_deploy.training.accuracies import accuracies
    from fastsnn_deploy.training.answers import quantised_logits
    from fastsnn_deploy.training.data import load_chosen
    from fastsnn_deploy.training.fit import fit

    if data is None or data == "random":
        raise InputError("quantising needs images like those that the network will see. Name a data set with --data")
    choose, notes = chosen_preprocessing(network, preprocess, mean, std)
    train = load_chosen(data, "train", data_root, download, choose)
    known = train.preprocessing
    test = _first(load_chosen(data, "test", data_root, download, lambda _: known), samples)
    loaded = opened(model, network, key, trust_pickle, train.shape)
    if is_quantised(loaded.model):
        raise InputError(f"{model}: is quantised already. Run fastsnn-deploy export {model}, or give a float network")
    with progress_bar("quantising") as update:
        found = quantise(
            loaded.model, train, bits, weight_bits, test=test, preprocessing=known, thresholds=thresholds,
            most_images=images, iterations=iterations, seed=seed, progress=update, input_shape=train.shape,
            **changes(chosen_output, replace_activations),
        )  # fmt: skip
    history = None
    if epochs:
        history = fit(
            found.model, train, test, epochs=epochs, learning_rate=learning_rate, batch_size=batch,
            teacher=found.teacher, freeze_batch_norm=True, shift=shift, flip=flip, seed=seed,
        )  # fmt: skip
    metadata: dict[str, Any] = {
        KEY: known.plain(), "data": data,
        "post_training": {"source": model.name, "model": network, **found.to_dict()},
    }  # fmt: skip
    answers = quantised_logits(found.model, test)
    if (outputs := answers.shape[1]) != train.classes:
        notes += (f"the network has {outputs} outputs, {data} {train.classes} classes: output k is taken for class k",)
    metadata["quantised_accuracy"] = float((answers.argmax(1) == test.labels.numpy()).mean())
    checkpoint = Checkpoint(found.model, train.shape, metadata)
    save(checkpoint, out)  # the work of minutes, also where the network has no spiking form
    with progress_bar("simulating", unit="images") as update:
        right = accuracies(found.teacher, checkpoint, test, neurons, allow_loss, update)
    if as_json:
        report = {"checkpoint": str(out), "source": str(model), **found.to_dict(), "accuracies": right.to_dict()}
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


def _first(images: Images, wanted: int | None) -> Images:
    """The first test images: so many, or SAMPLES if there are as many."""
    count = min(SAMPLES, len(images.labels)) if wanted is None else wanted
    if count > len(images.labels):
        raise InputError(f"data set '{images.name}' has {len(images.labels)} test images, {count} were asked for")
    return images.select(slice(0, count))
