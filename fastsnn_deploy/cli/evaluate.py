"""`fastsnn-deploy evaluate`: accuracy, spikes and operations over a whole data set."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from fastsnn_deploy.cli.common import (
    Data,
    DataRoot,
    Download,
    Json,
    messages,
    output,
    percent,
    print_json,
    sample_images,
    this_process,
)
from fastsnn_deploy.errors import InputError

if TYPE_CHECKING:
    from fastsnn_deploy.analysis.evaluation import Evaluation, TopK
    from fastsnn_deploy.graph import SpikingGraph
    from fastsnn_deploy.processes import Processes

RANDOM_IMAGES = 100
"""Random images where the user names no number: there is no whole data set of them."""

CURVE_LINES = 40
"""Most lines of the printed accuracy curve."""


def evaluate(
    net: Annotated[Path, typer.Argument(help="Exported network (model.net).")],
    data: Data = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    samples: Annotated[int | None, typer.Option(min=1, help="Number of test images. Default: all.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images at a time. Never changes a result.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps for each image. Default: until settled.")] = None,
    engine: Annotated[str, typer.Option(help="Simulator: cpu, reference, or gpu.")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="Processor cores for each process. Default: all.")] = None,
    curve: Annotated[Path | None, typer.Option(help="Also write accuracy at each step to this .csv or .png.")] = None,
    as_json: Json = False,
) -> None:
    """Accuracy, accuracy at each step, spikes and synaptic operations of a network on all test images.

    Under torchrun each process takes a share of the images: torchrun --nproc-per-node 2 -m fastsnn_deploy evaluate ...
    """
    from fastsnn_deploy.analysis.evaluate import evaluate as run_evaluation
    from fastsnn_deploy.analysis.gathering import gather
    from fastsnn_deploy.formats import netx
    from fastsnn_deploy.simulators import open_engine

    processes = this_process(download)
    graph = netx.read(net)
    images, labels, name = chosen_images(graph, data, data_root, samples, download)
    if curve is not None:
        check_curve(curve, labels)
    opened = open_engine(graph, engine, threads or processes.threads)
    share = processes.share(len(images))
    start = time.perf_counter()
    with image_bar("evaluating", processes) as update:
        own = run_evaluation(
            graph, images[share], None if labels is None else labels[share],
            engine=opened, batch=batch, steps=steps, progress=update,
        )  # fmt: skip
    result = gather(own, processes)
    seconds = time.perf_counter() - start
    if not processes.first:
        return
    report = {"net": str(net), "data": name, "engine": engine, "processes": processes.size, **result.to_json()}
    report |= {"seconds": round(seconds, 3), "images_per_second": round(result.images / seconds, 2)}
    if curve is not None:
        write_curve(result, curve, f"{net.name}, {result.images:,} images ({name})")
        report["curve"] = str(curve)
    if as_json:
        print_json(report)
    else:
        render(result, report)


def chosen_images(
    graph: SpikingGraph, data: str | None, root: Path, samples: int | None, download: bool
) -> tuple[np.ndarray, np.ndarray | None, str]:
    """As `sample_images`; without a number of samples, all test images."""
    name = data or graph.metadata.get("data")
    if samples is not None or name in (None, "random"):
        return sample_images(graph, data, root, samples or RANDOM_IMAGES, download)
    from fastsnn_deploy.training.data import load_images

    images = load_images(str(name), "test", root, download)
    return images.levels.numpy(), images.labels.numpy(), images.name


class _Rate(ProgressColumn):
    """Images per second since the start."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.completed / task.elapsed:,.1f} images/s" if task.elapsed else "")


@contextmanager
def image_bar(text: str, processes: Processes) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with images/s on stderr, of the first process; silent when stderr is not a terminal."""
    console = messages()
    shown = console.is_terminal and processes.first
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task(text if processes.size == 1 else f"{text}, 1 of {processes.size} processes", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def check_curve(path: Path, labels: np.ndarray | None) -> None:
    """Raise InputError, before a long run, if the curve could not be written after it."""
    if path.suffix not in (".csv", ".png"):
        raise InputError(f"{path}: the curve is written as .csv or .png. Name a file that ends in one of them")
    if labels is None:
        raise InputError("--curve needs labels, and these images have none. Name a data set with --data")
    if path.is_dir():
        raise InputError(f"{path}: is a folder. Name a file to write")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise InputError(f"{path}: cannot be written ({folder} is not a folder that can be written)")


def write_curve(result: Evaluation, path: Path, title: str) -> None:
    """The curve as CSV or PNG, by the file's name."""
    from fastsnn_deploy.analysis.curve import curve_csv, draw_curve
    from fastsnn_deploy.files import atomic_path, atomic_write_text

    if path.suffix == ".csv":
        atomic_write_text(path, curve_csv(result))
        return
    with atomic_path(path) as temporary:
        draw_curve(result, temporary, title)


def render(result: Evaluation, report: dict[str, Any]) -> None:
    """The tables for people."""
    console = output()
    table = Table(show_header=False, title=f"{report['net']} on {report['data']}", title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for row in summary(result, report).items():
        table.add_row(*row)
    console.print(table)
    if result.length:
        console.print(curve_table(result))


def summary(result: Evaluation, report: dict[str, Any]) -> dict[str, str]:
    """Headings and values of the first table."""
    settle, each = report["settle_steps"], report["per_image"]
    rows = {"images": f"{result.images:,}"}
    for entry in telling(result):
        rows[f"top-{entry.k}"] = f"{percent(result.accuracy(entry.k))} ({entry.correct:,} right)"
    rows["settled after"] = f"{settle['mean']:.2f} steps on average, 99 % by {settle['p99']}, {settle['max']} at most"
    if result.steps is not None:
        rows["stopped after"] = f"{result.steps} steps"
    rows |= {
        "spikes per image": f"{each['spikes']:,.1f}",
        "synaptic operations an image": f"{each['synaptic_operations']:,.1f}",
        "neuron updates an image": f"{each['neuron_updates']:,.1f}",
        "speed": f"{report['images_per_second']:,.1f} images/s ({report['engine']}, {report['seconds']:,.1f} s, "
        f"{report['processes']} process{'es' if report['processes'] > 1 else ''})",
    }
    return rows


def telling(result: Evaluation) -> tuple[TopK, ...]:
    """The top-k worth printing: of k or fewer classes every answer would be right."""
    classes = result.graph[result.graph.outputs[0]].size
    return tuple(entry for entry in result.topk if entry.k < classes)


def curve_table(result: Evaluation) -> Table:
    """Accuracy after each step, or after evenly spread ones where there are many; always the last."""
    from fastsnn_deploy.analysis.curve import curve_rows

    rows = curve_rows(result)
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), CURVE_LINES)).round().astype(int))
    images = max(result.images, 1)
    table = Table(title="After each step", title_justify="left")
    entries = telling(result)
    for heading in ("steps", *(f"top-{entry.k}" for entry in entries), "images settled", "spikes per image"):
        table.add_column(heading, justify="right")
    for row in (rows[index] for index in chosen):
        cells = [percent(row[f"top{entry.k}"]) for entry in entries]
        settled, sent = percent(row["settled"] / images), f"{row['spikes'] / images:,.1f}"
        table.add_row(str(row["steps"]), *cells, settled, sent)
    return table
