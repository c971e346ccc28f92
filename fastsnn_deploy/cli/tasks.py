"""What the commands share about detectors and segmentation networks: their options, data and answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastsnn_deploy.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastsnn_deploy.formats import Network
    from fastsnn_deploy.tasks import Scenes, Task

TaskName = Annotated[
    str | None,
    typer.Option(
        "--task",
        help="What the network answers, where it does not say so itself: classification, segmentation, a checkpoint "
        "of the same task, or a .yaml file that describes it (name, classes, anchors, stride).",
    ),
]


def chosen_task(metadata: Mapping[str, Any], given: str | None) -> Task | None:
    """The task that the user names, else the network's own; None where nobody says."""
    if given is None and "task" not in metadata:  # without PyTorch, too
        return None
    from fastsnn_deploy.tasks import read_task, task_in

    return task_in(metadata) if given is None else read_task(given)


def height_width(shape: Sequence[int] | None) -> tuple[int, int] | None:
    """(height, width) of images of a shape, if it is known."""
    return None if shape is None or len(shape) != 3 else (shape[1], shape[2])


def has_scenes(task: Task | None) -> bool:
    """Whether a task needs images with boxes or masks."""
    return task is not None and task.name != "classification"


def drawn_scenes(
    network: Network, task: Task, data: str | None, root: Path, samples: int | None, download: bool = False
) -> Scenes:
    """The first test images, or all, in the network's size, with the truth in its classes.

    Raises InputError if neither the user nor the network names data, or they do not fit.
    """
    from fastsnn_deploy.tasks import load_scenes

    if download:
        raise InputError(f"data of {task.name} cannot be fetched. Leave out --download")
    name = data or network.metadata.get("data")
    if name is None or name == "random":
        raise InputError("the network does not say which data it was trained on. Name a file or folder with --data")
    shape = network.input.shape
    if len(shape) != 3 or shape[0] != 3:
        raise InputError(f"the network takes images of shape {shape}; {task.name} needs (3, height, width)")
    size = height_width(shape)
    found = load_scenes(name, "test", root, task=task.name, size=size, classes=task.classes or None)
    return found.first(samples)
