"""`fastsnn-deploy evaluate`: accuracy, spikes and operations over a whole data set."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from fastsnn_deploy.cli.common import (
    Data,
    DataRoot,
    Download,
    Json,
    Preprocess,
    differences,
    output,
    print_json,
    progress_bar,
    sample_images,
    show,
    this_process,
)
from fastsnn_deploy.cli.events import AsEvents, BinUs, event_data, on_events
from fastsnn_deploy.cli.sources import numbers
from fastsnn_deploy.cli.tasks import TaskName, chosen_task, drawn_scenes, has_scenes
from fastsnn_deploy.errors import InputError

if TYPE_CHECKING:
    from fastsnn_deploy.analysis.evaluation import Evaluation
    from fastsnn_deploy.analysis.integer_evaluation import IntegerEvaluation
    from fastsnn_deploy.formats import Network
    from fastsnn_deploy.tasks import Scenes, Task, TaskEvaluation


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
    integer: Annotated[
        bool, typer.Option("--integer", help="Only the answers that it settles to, several times as fast.")
    ] = False,
    timing: Annotated[
        bool,
        typer.Option("--timing", help="Also what each layer takes, beside what its int8 products would take."),
    ] = False,
    curve: Annotated[
        Path | None, typer.Option(callback=output, help="Also write accuracy at each step to this .csv or .png.")
    ] = None,
    task: TaskName = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint of the quantised network, to be measured on the same images.")
    ] = None,
    float_weights: Annotated[
        Path | None,
        typer.Option("--float", help="With --checkpoint: the float network's weights, which train left beside it."),
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="Of every form: numbers of steps after which the answer counts, too, as 8,16.")
    ] = None,
    events: AsEvents = False,
    bin_us: BinUs = 1000.0,
    as_json: Json = False,
) -> None:
    """Accuracy, accuracy at each step, spikes and synaptic operations of a network on all test images.

    Of a detector mAP50, of a segmentation network mIoU: in one table for the float network, the quantised model, the
    integer network, and the SNN after some numbers of steps and settled. A classifier gets that table with
    --checkpoint or --at.
    With --events the events of a camera enter one by one: accuracy over time, and the latency from the first event.
    Under torchrun each process takes a share of the images: torchrun --nproc-per-node 2 -m fastsnn_deploy evaluate ...
    """
    from fastsnn_deploy.analysis.evaluate import evaluate as run_evaluation
    from fastsnn_deploy.analysis.gathering import gather
    from fastsnn_deploy.analysis.timing import require_timed, timed
    from fastsnn_deploy.formats import read_network
    from fastsnn_deploy.graph.images import ImageReader
    from fastsnn_deploy.simulators import open_engine

    processes = this_process(download)
    network = read_network(net)
    chosen = chosen_task(network.metadata, task)
    if events:
        refuse(
            "for --events", processes.size > 1 and "several processes", checkpoint and "--checkpoint", at and "--at",
            steps and "--steps", integer and "--integer", timing and "--timing",
        )  # fmt: skip
        recordings = event_data(network, data, data_root, samples, download, preprocess)
        if curve is not None:
            check_curve(curve, recordings.labels.numpy())
        answered = on_events(network, recordings, bin_us=bin_us, engine=engine, threads=threads, batch=batch)
        if curve is not None:
            write_curve(answered.evaluation, curve, f"{net.name}, {len(recordings.labels):,} of {recordings.name}")
        if as_json:
            print_json({"net": str(net), "data": recordings.name, "engine": engine, **answered.to_dict()})
        else:
            show(f"{net} on {recordings.name} ({engine})", *answered.report())
        return
    if has_scenes(chosen) or checkpoint or float_weights or at:
        refuse(
            "for the table of all forms", processes.size > 1 and "several processes", curve and "--curve",
            integer and "--integer", timing and "--timing",
        )  # fmt: skip
        found = every_form(
            network, chosen, labelled(network, chosen, data, data_root, samples, download, preprocess),
            samples is None,
            checkpoint, float_weights, engine=engine, threads=threads, batch=batch, steps=steps,
            at=numbers("--at", at, int),
        )  # fmt: skip
        if as_json:
            print_json({"net": str(net), "engine": engine, **found.to_dict()})
        else:
            show(*found.report())
        return
    images, labels, name = sample_images(network, data, data_root, samples, download, preprocess=preprocess)
    if integer:
        refuse(
            "with --integer, which has no time", processes.size > 1 and "several processes", curve and "--curve",
            steps is not None and "--steps", timing and "--timing",
        )  # fmt: skip
        without_time(net, network, images, labels, name, as_json, engine=engine, threads=threads, batch=batch)
        return
    if curve is not None:
        check_curve(curve, labels)
    differs = differences(network, as_json or not processes.first)
    opened = open_engine(network, engine, threads or processes.threads)
    if timing:
        require_timed(opened)
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
    report |= speed(result, seconds)
    report |= {"differs": differs} if differs else {}
    time_of_layers = timed(opened, own.images) if timing else None
    report |= {"timing": time_of_layers.to_dict()} if time_of_layers else {}
    if curve is not None:
        write_curve(result, curve, f"{net.name}, {result.images:,} images ({name})")
        report["curve"] = str(curve)
    if as_json:
        print_json(report)
    else:
        work = f"{result.images / seconds:,.1f} images/s ({engine}, {seconds:,.1f} s" + (
            f", {processes.size} processes)" if processes.size > 1 else ")"
        )
        show(f"{net} on {name}: {work}", *result.report(), *(time_of_layers.report() if time_of_layers else ()))


def without_time(
    net: Path, network: Network, images: Any, labels: np.ndarray | None, name: str, as_json: bool, **options: Any
) -> None:
    """Run and show the integer network."""
    from fastsnn_deploy.analysis.integer_evaluation import evaluate_integer

    start = time.perf_counter()
    with progress_bar("evaluating", unit="images") as update:
        result = evaluate_integer(network, images, labels, progress=update, **options)
    took = speed(result, time.perf_counter() - start)
    if as_json:
        print_json({"net": str(net), "data": name, "engine": options["engine"], **result.to_dict(), **took})
    else:
        rate = f"{took['images_per_second']:,.1f} images/s ({options['engine']}, {took['seconds']:,.1f} s)"
        show(f"{net} on {name}: {rate}", *result.report())


def speed(result: Evaluation | IntegerEvaluation, seconds: float) -> dict[str, float]:
    """What took how long."""
    return {"seconds": round(seconds, 3), "images_per_second": round(result.images / seconds, 2)}


def refuse(what: str, *given: Any) -> None:
    """Raise InputError for options that do not go with others."""
    if wrong := [str(name) for name in given if isinstance(name, str)]:
        raise InputError(f"{' and '.join(wrong)}: not {what}. Leave out")


def labelled(
    network: Network, task: Task | None, data: str | None, root: Path, samples: int | None, download: bool,
    preprocess: str | None,
) -> Scenes:  # fmt: skip
    """Test images with the truth, whatever the task."""
    from fastsnn_deploy.tasks import Scenes

    if task is not None and has_scenes(task):
        return drawn_scenes(network, task, data, root, samples, download)
    from fastsnn_deploy.training.data import load_for

    name = data or network.metadata.get("data")
    if name is None or name == "random":
        raise InputError("the table of all forms needs labelled images. Name a data set with --data")
    images = load_for(network.metadata, network.input, name, "test", root, download, preprocess)
    classes = tuple(map(str, range(images.classes)))
    levels = images.levels[slice(samples)]
    return Scenes(name, levels, classes, images.labels[:samples], (), images.step, images.highest).first(samples)


def every_form(
    network: Network, task: Task | None, scenes: Scenes, whole: bool, checkpoint_file: Path | None,
    float_file: Path | None, **options: Any,
) -> TaskEvaluation:  # fmt: skip
    """A network in all the forms that are at hand. whole: on all test images, so that known figures may be added."""
    from fastsnn_deploy.quantisation import load
    from fastsnn_deploy.tasks import Classification, evaluate_task
    from fastsnn_deploy.tasks.evaluate import with_known
    from fastsnn_deploy.tasks.trainer import float_network

    if float_file is not None and checkpoint_file is None:
        raise InputError("--float needs --checkpoint, which says what network it is and how its images are normalised")
    checkpoint = None if checkpoint_file is None else load(checkpoint_file)
    with progress_bar("evaluating", unit="images") as update:
        found = evaluate_task(
            network, task or Classification(scenes.classes), scenes,
            quantised=None if checkpoint is None else checkpoint.model,
            floating=None if checkpoint is None or float_file is None else float_network(checkpoint, float_file),
            progress=update, **options,
        )  # fmt: skip
    same = whole and scenes.name == network.metadata.get("data")
    return with_known(found, network.metadata) if same else found


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
