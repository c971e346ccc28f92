"""`fastsnn-deploy compare-targets`: which target for a network, on which chip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

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
    sample_images,
    show,
)
from fastsnn_deploy.errors import InputError

PICTURES = (".png", ".svg")


def compare_targets(
    model: Annotated[Path, typer.Argument(help="Checkpoint of the quantised network (model.pt).")],
    hardware: Annotated[
        list[str], typer.Option(help="Hardware profile by name, or a .yaml file; may be given several times.")
    ] = ["loihi2"],  # noqa: B006  typer copies it
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this one; may be given several times: a target of export, window (the published schedule), "
            "burst2, start-delay-2, ... Default: all that make a difference at these bits."
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Test images for the accuracy of the integer network, and at the window.")
    ] = 500,
    spiking_samples: Annotated[
        int, typer.Option(min=1, help="Of these, images that are run step by step for counts, times and energies.")
    ] = 20,
    data: Data = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    preprocess: Preprocess = None,
    allow_loss: Annotated[
        bool, typer.Option("--allow-loss", help="Let trained integers lose bits that 24-bit potentials cannot hold.")
    ] = False,
    csv: Annotated[Path | None, typer.Option(callback=output, help="Also write the table to this CSV file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(callback=output, help="Also draw energy over latency to this .png or .svg.")
    ] = None,
    as_json: Json = False,
) -> None:
    """One network as every target, on one chip or several: accuracy, energy, latency, cores, operations, spikes.

    Targets than which no other is better in all of it are marked: the Pareto front of each chip. What a target or a
    chip cannot hold is in the table with its reason.
    """
    from fastsnn_deploy.analysis.choosing.draw import drawn
    from fastsnn_deploy.analysis.choosing.run import compare_targets as run_comparison
    from fastsnn_deploy.conversion.convert import convert
    from fastsnn_deploy.files import write_file
    from fastsnn_deploy.quantisation import load

    if plot is not None and plot.suffix not in PICTURES:
        raise InputError(f"{plot}: the picture is written as .png or .svg. Name a file that ends in one of them")
    graph = convert(load(model), allow_loss=allow_loss)
    images, labels, _ = sample_images(graph, data, data_root, samples, download, preprocess=preprocess)
    with progress_bar("comparing", unit="images") as update:
        found = run_comparison(
            graph, images, labels, hardware=hardware, targets=target, spiking_images=spiking_samples, progress=update
        )
    found = replace(found, name=model.stem)
    if csv is not None:
        write_file(csv, found.table().csv())
    if plot is not None:
        write_file(plot, drawn(found.to_dict(), plot.suffix[1:]))
    if as_json:
        print_json({"model": str(model), **found.to_dict()})
    else:
        show(*found.report())
