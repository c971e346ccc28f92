"""What the commands share: consoles, progress bars, options, images to work on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.processes import Processes

if TYPE_CHECKING:
    from fastsnn_deploy.graph import SpikingGraph

WIDE = 200
"""Columns of a table that goes into a pipe or a file, where nothing should be cut."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Data = Annotated[
    str | None,
    typer.Option(
        help="Data set: digits, mnist, cifar10, cifar100, folder, or random. Default: what it was trained on."
    ),
]
DataRoot = Annotated[Path, typer.Option(envvar="FASTSNN_DATA_ROOT", help="Folder that holds the data set.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch the data set into the data root if it is missing.")]
Samples = Annotated[int, typer.Option(min=1, help="Number of test images.")]


def output() -> Console:
    """Console for results (stdout)."""
    return Console() if sys.stdout.isatty() else Console(width=WIDE, soft_wrap=False)


def messages() -> Console:
    """Console for what happens meanwhile (stderr)."""
    return Console(stderr=True)


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    typer.echo(json.dumps(value, indent=2))


@contextmanager
def progress_bar(text: str, shown: bool = True) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, silent when stderr is not a terminal. Yields update(done, total)."""
    console = messages()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task(text, total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield update


def this_process(download: bool) -> Processes:
    """This process among those that torchrun has started. Raises InputError if several would download."""
    processes = Processes.from_environment()
    if download and processes.size > 1:
        raise InputError("--download would fetch the data once in each process. Run once with one process first")
    return processes


def sample_images(
    graph: SpikingGraph, data: str | None, root: Path, samples: int, download: bool = False
) -> tuple[np.ndarray, np.ndarray | None, str]:
    """(integer levels [n, *input shape], labels [n] or None, name) of the first test images.

    Raises InputError if fewer than `samples` exist, or if the network does not name its data set and neither does
    the user.
    """
    name = data or graph.metadata.get("data")
    if name is None:
        raise InputError(
            "the network does not say which data it was trained on. Name it with --data; --data random gives "
            "random images"
        )
    if name == "random":
        source = graph.input
        levels = np.random.default_rng(0).integers(source.low, source.high + 1, (samples, *source.shape))
        return levels, None, "random"
    from fastsnn_deploy.training.data import load_images

    images = load_images(name, "test", root, download)
    if samples > len(images.labels):
        raise InputError(f"data set '{name}' has {len(images.labels)} test images, {samples} were asked for")
    return images.levels[:samples].numpy(), images.labels[:samples].numpy(), name


def percent(fraction: float) -> str:
    """0.98333 -> '98.33 %'."""
    return f"{100 * fraction:.2f} %"
