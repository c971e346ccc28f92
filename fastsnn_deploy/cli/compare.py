"""`fastsnn-deploy compare`: where accuracy goes between a float network and its spikes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastsnn_deploy.cli.common import (
    RANDOM_IMAGES,
    Data,
    DataRoot,
    Download,
    Json,
    Preprocess,
    first_images,
    output,
    print_json,
    progress_bar,
    random_levels,
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
    is_quantised,
    numbers,
    opened,
)
from fastsnn_deploy.errors import InputError

if TYPE_CHECKING:
    from fastsnn_deploy.quantisation import Checkpoint

SAMPLES = 500
"""Images unless the user says how many, or all if there are fewer."""

PICTURES = (".png", ".svg")


def compare(
    model: Annotated[Path, typer.Argument(help="Checkpoint of the quantised network (model.pt).")],
    net: Annotated[
        Path | None, typer.Argument(help="Exported network (model.net). Default: the model is converted.")
    ] = None,
    float_file: Annotated[
        Path | None,
        typer.Option("--float", help="Float network that it was made from. Default: the model without its quantisers."),
    ] = None,
    network: ModelName = None,
    key: Key = None,
    trust_pickle: TrustPickle = False,
    chosen_output: Output = None,
    replace_activations: ReplaceActivations = None,
    mean: Mean = None,
    std: Std = None,
    data: Data = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    preprocess: Preprocess = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Number of test images. Default: the first 500, or all.")
    ] = None,
    spiking_samples: Annotated[
        int | None, typer.Option(min=1, help="Of these, images for the spiking network. Default: what takes seconds.")
    ] = None,
    neurons: Annotated[
        str | None, typer.Option(help="Neurons without a model.net: unary, graded, ... Default: unary up to 4 bits.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps for each image. Default: until settled.")] = None,
    allow_loss: Annotated[
        bool, typer.Option("--allow-loss", help="Let trained integers lose bits that 24-bit potentials cannot hold.")
    ] = False,
    advise: Annotated[bool, typer.Option(help="Try what could help.")] = True,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", callback=output, help="Also write the model with the advice taken to this file."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(callback=output, help="Also draw accuracies and layers to this .png or .svg.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Where accuracy goes: float, quantised, integers, spikes at each step; layer by layer; and what brings it back.

    Every piece of advice has been tried on some of the images and measured on the others. Exit code 1 if model.net is
    not the network of model.pt: the first layer that differs is named.
    """
    from fastsnn_deploy.analysis.comparison.draw import drawn
    from fastsnn_deploy.analysis.comparison.run import compare as run_comparison
    from fastsnn_deploy.files import write_file
    from fastsnn_deploy.quantisation import Checkpoint, load, save

    if plot is not None and plot.suffix not in PICTURES:
        raise InputError(f"{plot}: the picture is written as .png or .svg. Name a file that ends in one of them")
    if out is not None and not advise:
        raise InputError("--out writes the model with the advice taken, and --no-advise takes none. Leave out one")
    given = {
        "--model": network, "--key": key, "--trust-pickle": trust_pickle or None, "--output": chosen_output,
        "--replace-activations": replace_activations, "--mean": mean, "--std": std,
    }  # fmt: skip
    if float_file is None and (unused := [name for name, value in given.items() if value is not None]):
        raise InputError(f"{', '.join(unused)}: of the float network, which is not given. Name its file with --float")
    checkpoint = load(model)
    options: dict[str, Any] = changes(chosen_output, replace_activations)
    if float_file is not None:
        loaded = opened(float_file, network, key, trust_pickle, checkpoint.input_shape)
        if is_quantised(loaded.model):
            raise InputError(f"{float_file}: is a quantised model. Give the float network that {model} was made from")
        options["float_model"] = loaded.model
    images, name = _images(checkpoint, data, data_root, samples, download, preprocess)
    with progress_bar("comparing") as update:
        found = run_comparison(
            checkpoint, images, net=net, mean=numbers("--mean", mean), std=numbers("--std", std), neurons=neurons,
            steps=steps, allow_loss=allow_loss, advise=advise, spiking_images=spiking_samples, progress=update,
            **options,
        )  # fmt: skip
    report = {"model": str(model), "net": None if net is None else str(net), **found.to_dict()}
    done = []
    if plot is not None:
        write_file(plot, drawn(found, plot.suffix[1:], f"{model.name}, {found.images:,} images ({name})"))
        report["plot"] = str(plot)
    if out is not None and found.advice:
        metadata = {**checkpoint.metadata, "advice": [advice.chosen.words for advice in found.advice]}
        save(Checkpoint(found.model, checkpoint.input_shape, metadata), out)
        done.append(f"{out}: quantised network with the advice taken. Next: fastsnn-deploy export {out}")
        report["advised_model"] = str(out)
    elif out is not None:
        done.append(f"{out}: not written, as no advice was found")
    if as_json:
        print_json(report)
    else:
        show(*found.report(), *done)
    if not found.same:
        raise typer.Exit(1)


def _images(
    checkpoint: Checkpoint, data: str | None, root: Path, samples: int | None, download: bool, preprocess: str | None
) -> tuple[Any, str]:
    """The first test images, or all, and their name."""
    from fastsnn_deploy.quantisation.images import input_of
    from fastsnn_deploy.training.data import load_for

    name = data or checkpoint.metadata.get("data")
    if name is None:
        raise InputError(
            "the model does not say which data it was made with. Name it with --data; --data random gives random images"
        )
    grid = input_of(checkpoint.model)
    if name == "random":
        return random_levels(samples or RANDOM_IMAGES, checkpoint.input_shape, grid.low, grid.high), name
    images = load_for(checkpoint.metadata, grid, str(name), "test", root, download, preprocess)
    return first_images(images, min(SAMPLES, len(images.labels)) if samples is None else samples), str(name)
