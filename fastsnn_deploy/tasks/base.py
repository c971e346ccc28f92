"""What a task is: the question that a network answers, with all that is needed to read the answer.

A task is a frozen data class of plain values in one file, registered with `@task`. It travels with the network, as
`metadata["task"]` of checkpoints and exported files, so that no later command has to be told.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from fastsnn_deploy.analysis.verify import Agreement
from fastsnn_deploy.errors import InputError, known_name, unknown
from fastsnn_deploy.files import kind_of_file
from fastsnn_deploy.quantisation import load
from fastsnn_deploy.reading import damaged, json_of, problems_of, read_yaml
from fastsnn_deploy.tasks.augment import Views
from fastsnn_deploy.tasks.scenes import Scenes, Truth

KEY = "task"
"""Where networks keep their task among their metadata."""


class Meter(ABC):
    """Adds up over batches how good answers are."""

    @abstractmethod
    def add(self, output: Tensor, truth: Truth) -> None:
        """Answers of a network, float [n, *outputs], and what a person says of the same images."""

    @abstractmethod
    def figures(self) -> dict[str, float]:
        """Fractions from 0 to 1, the figure of merit first; NaN where there was nothing to find."""


@dataclass(frozen=True)
class Task(ABC):
    """classes: their names, in the order of the network's outputs."""

    name: ClassVar[str]
    metric: ClassVar[str]
    """The figure of merit among those of a `Meter`."""

    of_class: ClassVar[str] = ""
    """What the figures of single classes are called, before their names."""

    resampled: ClassVar[bool] = True
    """Images of another size are resized to the network's, and answers back to theirs."""

    classes: tuple[str, ...] = ()

    @classmethod
    @abstractmethod
    def learned(cls, scenes: Scenes, output: tuple[int, ...], options: Mapping[str, int]) -> Self:
        """The task of training images, for a network that answers with shape `output` [channels, h, w].

        Raises InputError if the network cannot answer it.
        """

    @classmethod
    def network_options(cls, options: Mapping[str, int]) -> dict[str, int]:
        """Options of the network that follow from the task, besides channels and classes."""
        return {}

    @abstractmethod
    def loss(self, output: Tensor, truth: Any) -> Tensor:
        """Scalar loss of a batch. truth: what `seen` gives."""

    @abstractmethod
    def seen(self, views: Views, truth: Truth, shape: tuple[int, int]) -> Any:
        """What a person drew on images of (height, width), as it lies in random views of them."""

    @abstractmethod
    def predict(self, output: Any, shape: tuple[int, int]) -> list[Any]:
        """The answer to each image of (height, width) in the form in which people draw it.

        output: real values, [N, *outputs], NumPy or torch.
        """

    @abstractmethod
    def meter(self) -> Meter:
        """An empty meter. Raises InputError if a library is missing."""

    @abstractmethod
    def agreement(self, first: Tensor, second: Tensor, shape: tuple[int, int]) -> Agreement:
        """How far two forms of one network answer alike, counted in what people look at."""

    @abstractmethod
    def draw(self, image: Image.Image, answer: Any, shape: tuple[int, int]) -> Image.Image:
        """The image, of any size, with the answer on it. shape: (height, width) that the answer counts in."""

    @abstractmethod
    def plain(self, answer: Any, size: tuple[int, int], shape: tuple[int, int]) -> Any:
        """The answer as plain values, in pixels of an image of `size` (height, width)."""

    @abstractmethod
    def line(self, answer: Any) -> str:
        """The answer in a few words."""

    def named(self, kind: int) -> str:
        """Name of a class; its number if it has none."""
        return self.classes[kind] if kind < len(self.classes) else str(kind)

    def description(self) -> dict[str, Any]:
        """Plain data from which `task_of` makes the task again."""
        return {"name": self.name, **_listed(asdict(self))}


TASKS: dict[str, type[Task]] = {}
"""Every task by name."""


def task(kind: type[Task]) -> type[Task]:
    """Register a task."""
    TASKS[kind.name] = kind
    return kind


def task_of(description: Any, where: str = "the task") -> Task:
    """The task that plain data describes. Raises InputError for what describes none."""
    if not isinstance(description, Mapping):
        raise InputError(f"{where}: is not a description of a task: name, classes, and what the task needs besides")
    kind = TASKS[known_name("task", description.get("name"), TASKS)]
    known = {field.name for field in fields(kind)}
    given = {key: _tupled(value) for key, value in description.items() if key != "name"}
    names = given.get("classes", ())
    if not isinstance(names, tuple) or not all(isinstance(each, str) for each in names):
        raise InputError(f"{where}: classes are {names!r:.60}. Give a list of names")
    if unknown := sorted(given.keys() - known):
        raise InputError(f"{where}: {kind.name} has no {', '.join(unknown)}. Known: {', '.join(sorted(known))}")
    try:
        return TypeAdapter(kind).validate_python(given)
    except ValidationError as error:
        raise InputError(f"{where}: {kind.name} is not described rightly", problems_of(error, "the task")) from error


def task_in(metadata: Mapping[str, Any]) -> Task | None:
    """The task that a checkpoint or an exported network says it has, if it says so."""
    held = metadata.get(KEY)
    if held is None:
        return None
    where = "the network's task"
    return task_of(json_of(held, where, "description") if isinstance(held, str) else held, where)


def read_task(given: str) -> Task:
    """A task by its name, where a name says all; or out of a checkpoint, or of a .yaml file that describes it.

    Raises InputError if nothing there is a task.
    """
    if given in TASKS:
        return task_of({"name": given}, f"task {given}")
    if not Path(given).suffix:
        raise unknown("task", given, TASKS, "give a checkpoint, or the path of a .yaml file that describes it")
    if kind_of_file(Path(given)) == "checkpoint":
        if (found := task_in(load(given).metadata)) is None:
            raise InputError(f"{given}: the checkpoint does not say what it answers. Describe the task in a .yaml file")
        return found
    with damaged(given, "description of a task"):
        return task_of(read_yaml(given, "description of a task"), given)


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(own) for key, own in value.items()}
    return [_listed(own) for own in value] if isinstance(value, (list, tuple)) else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(own) for own in value) if isinstance(value, (list, tuple)) else value


def real(output: Any) -> Tensor:
    """An answer as a float32 tensor."""
    return torch.as_tensor(output).float()


def batched(output: Tensor, most: int = 32) -> Sequence[Tensor]:
    """Parts of an answer to many images: whole maps of all of them at once would need gigabytes."""
    return torch.split(output, most)
