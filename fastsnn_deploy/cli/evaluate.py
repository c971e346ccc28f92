"""`fastsnn-deploy evaluate`: accuracy, spikes and operations over a whole data set."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
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
    this_process,
)
from fastsnn_deploy.errors import InputError

if TYPE_CHECKING:
    from fastsnn_deploy.analysis.evaluation import Evaluation


def evaluate(
    net: Annotated[Path, typer.Argument(help="Exported network (model.net).")],
    data: Data = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    preprocess: Preprocess = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Number of test images. Default: all.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images at a time. Never changes a result.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps for each image. Default: until settled.")] = None,
    engine: Annotated[str, typer.Option(help="Simulator: cpu, reference, or gpu.")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="Processor cores for each process. Default: all.")] = None,
    curve: Annotated[
        Path | None, typer.Option(callback=output, help="Also write accuracy at each step to this .csv or .png.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Accuracy, accuracy at each step, spikes and synaptic operations of a network on all test images.

    Under torchrun each process takes a share of the images: torchrun --nproc-per-node 2 -m fastsnn_deploy evaluate ...
    """
    from fastsnn_deploy.analysis.evaluate import evaluate as run_evaluation
    from fastsnn_deploy.analysis.gathering import gather
    from fastsnn_deploy.formats import read_network
    from fastsnn_deploy.graph.images import ImageReader
    from fastsnn_deploy.simulators import open_engine

    processes = this_process(download)
    network = read_network(net)
    images, labels, name = sample_images(network, data, data_root, samples, download, preprocess)
    if curve is not None:
        check_curve(curve, labels)
    opened = open_engine(network, engine, threads or processes.threads)
    share = processes.share(len(images))
    own_images = images.part(share) if isinstance(images, ImageReader) else images[share]
    start = time.perf_counter()
    title = "evaluating" if processes.size == 1 else f"evaluating, 1 of {processes.size} processes"
    with progress_bar(title, processes.first, "images") as update:
        own = run_evaluation(
            network, own_images, None if labels is None else labels[share],
            engine=opened, batch=batch, steps=steps, progress=update,
        )  # fmt: skip
    result = gather(own, processes)
    seconds = time.perf_counter() - start
    if not processes.first:
        return
    report = {"net": str(net), "data": name, "engine": engine, "processes": processes.size, **result.to_dict()}
    report |= {"seconds": round(seconds, 3), "images_per_second": round(result.images / seconds, 2)}
    if curve is not None:
        write_curve(result, curve, f"{net.name}, {result.images:,} images ({name})")
        report["curve"] = str(curve)
    if as_json:
        print_json(report)
    else:
        work = f"{result.images / seconds:,.1f} images/s ({engine}, {seconds:,.1f} s" + (
            f", {processes.size} processes)" if processes.size > 1 else ")"
        )
        show(f"{net} on {name}: {work}", *result.report())


def check_curve(path: Path, labels: np.ndarray | None) -> None:
    """Raise InputError, before a long run, if the curve could not be written after it."""
    if path.suffix not in (".csv", ".png"):
        raise InputError(f"{path}: the curve is written as .csv or .png. Name a file that ends in one of them")
    if labels is None:
        raise InputError("--curve needs labels, and these images have none. Name a data set with --data")


def write_curve(result: Evaluation, path: Path, title: str) -> None:
    """The curve as CSV or PNG, by the file's name."""
    from fastsnn_deploy.analysis.curve import curve_csv, curve_png
    from fastsnn_deploy.files import write_file

    write_file(path, curve_csv(result) if path.suffix == ".csv" else curve_png(result, title))
