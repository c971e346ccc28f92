"""What the commands share: output, progress, options, images to work on."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from fastsnn_deploy.cli.tasks import chosen_task, drawn_scenes, has_scenes
from fastsnn_deploy.errors import InputError, legible
from fastsnn_deploy.files import planned, readable_file
from fastsnn_deploy.processes import Processes
from fastsnn_deploy.tables import Table, text_of

if TYPE_CHECKING:
    from fastsnn_deploy.formats import Network
    from fastsnn_deploy.graph.images import ImageReader
    from fastsnn_deploy.training.images import Images

QUIET_SECONDS = 2.0
"""Work that ends sooner prints no lines of progress into a pipe."""


def output(path: Path | None) -> Path | None:
    """Callback of every option that names a file to write: refused before the work where it cannot be."""
    return None if path is None else planned(path)


def data_file(name: str | None) -> str | None:
    """Callback of --data: a file counts as read, also where a command has no need of images."""
    if name is not None and Path(name).is_file():
        readable_file(name, "data file")
    return name


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Data = Annotated[
    str | None,
    typer.Option(
        callback=data_file,
        help="Data set: a name (see `fastsnn-deploy list data`), one of torchvision, as SVHN; an .npz file; a folder "
        "of images, of Hugging Face, or of .tar shards; package.module:function; or random. Default: the one that the "
        "network was trained on.",
    ),
]
DataRoot = Annotated[Path, typer.Option(envvar="FASTSNN_DATA_ROOT", help="Folder that holds the data set.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch the data set into the data root if it is missing.")]
Preprocess = Annotated[
    str | None,
    typer.Option(
        help="What is done to each picture: resize=256,crop=224,interpolation=bicubic,channels=RGB. Default: as the "
        "network was stored, else nothing."
    ),
]
Samples = Annotated[int, typer.Option(min=1, help="Number of test images.")]
HardwareName = Annotated[str, typer.Option(help="Hardware profile by name, or a .yaml file.")]
MappingFile = Annotated[
    Path | None, typer.Option(help="Tiles and places from this mapping.json of `map`. Default: fewest cores.")
]


def show(*report: Table | str) -> None:
    """Tables and lines on stdout: as wide as the screen, or as they need in a pipe, where nothing is folded."""
    screen = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if screen or os.environ.get("COLUMNS", "").isdecimal() else None
    color = screen and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    write(text_of(report, width, color))


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    write(json.dumps(value, indent=2))


def write(text: str) -> None:
    """Text on stdout. A reader that has gone away (`| head -1`) is no error: the exit code stays what was found."""
    try:
        print(text, flush=True)
    except OSError as error:
        silence(1)
        if not isinstance(error, BrokenPipeError):
            raise InputError(f"the output cannot be written ({error.strerror or error})") from error


def silence(descriptor: int) -> None:
    """Let what Python still flushes to stdout (1) or stderr (2) go nowhere: it would end with another exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def messages() -> Console:
    """Console for what happens meanwhile (stderr)."""
    return Console(stderr=True)


class _Rate(ProgressColumn):
    """Images, epochs, ... per second since the start."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.completed / task.elapsed:,.1f} {self.unit}/s" if task.elapsed and self.unit else "")


@contextmanager
def progress_bar(text: str, shown: bool = True, unit: str = "") -> Iterator[Callable[[int, int], None]]:
    """Progress on stderr: a bar on a terminal, a line for each tenth elsewhere. Yields update(done, total).

    shown: False for a process that should stay silent. unit: what is counted, for a rate such as images/s.
    """
    console = messages()
    if not console.is_terminal:
        yield _lines(text) if shown else lambda done, total: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task(legible(text), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(text: str) -> Callable[[int, int], None]:
    """update(done, total) that prints one line for each tenth of long work."""
    start, tenths = time.monotonic(), 0

    def update(done: int, total: int) -> None:
        nonlocal tenths
        reached = 10 * done // max(total, 1)
        if reached <= tenths:
            return
        tenths, seconds = reached, time.monotonic() - start
        if seconds >= QUIET_SECONDS:
            print(
                f"{legible(text)}: {done:,} of {total:,} ({10 * tenths} %), {seconds:,.0f} s",
                file=sys.stderr,
                flush=True,
            )

    return update


def this_process(download: bool) -> Processes:
    """This process among those that torchrun has started. Raises InputError if several would download."""
    processes = Processes.from_environment()
    if download and processes.size > 1:
        raise InputError("--download would fetch the data once in each process. Run once with one process first")
    return processes


RANDOM_IMAGES = 100
"""Random images where the user names no number: there is no whole data set of them."""


def sample_images(
    network: Network,
    data: str | None,
    root: Path,
    samples: int | None,
    download: bool = False,
    task: str | None = None,
    preprocess: str | None = None,
) -> tuple[ImageReader | np.ndarray, Any, str]:
    """The first test images, or all, preprocessed as the network was stored, and on its grid: real values stay.

    task: what the user says that the network answers; None if it says so itself.

    Returns:
        (levels [n, *input shape], as `Input.encode` takes them, read when a slice is asked for; labels [n], boxes or
        masks, or None; name).

    Raises:
        InputError: fewer than `samples` exist, the network cannot take the images, or neither it nor the user names a
            data set.
    """
    name = data or network.metadata.get("data")
    if name is None:
        raise InputError(
            "the network does not say which data it was trained on. Name it with --data; --data random gives "
            "random images"
        )
    source = network.input
    if name == "random":
        return random_levels(samples or RANDOM_IMAGES, source.shape, source.low, source.high), None, "random"
    chosen_for = chosen_task(network.metadata, task)
    if chosen_for is not None and has_scenes(chosen_for):
        scenes = drawn_scenes(network, chosen_for, data, root, samples, download)
        return scenes.images().for_input(source), scenes.truth, name
    from fastsnn_deploy.training.data import load_for

    images = first_images(load_for(network.metadata, source, name, "test", root, download, preprocess), samples)
    return images.reader(source), images.numbers, name


def random_levels(count: int, shape: Sequence[int], low: int, high: int) -> np.ndarray:
    """Random raw images on a grid, int64 [count, *shape], always the same."""
    return np.random.default_rng(0).integers(low, high + 1, (count, *shape))


def first_images(images: Images, count: int | None) -> Images:
    """So many of a data set's images, the first ones; None for all. Raises InputError if there are fewer."""
    if count is not None and count > images.count:
        raise InputError(f"data set '{images.name}' has {images.count} test images, {count} were asked for")
    return images.select(slice(0, count))


def differences(network: Any, quiet: bool = False) -> list[str]:
    """What a file of another program means here and may mean elsewhere, shown before the network runs unless quiet."""
    lines: list[str] = network.metadata.get("differs", "").splitlines()
    if lines and not quiet:
        show(f"{network.metadata.get('source', 'the file')} comes from another program. What may differ there:", *lines)
    return lines
