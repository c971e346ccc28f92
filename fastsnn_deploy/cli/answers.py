"""Images that a user names, and a network's answers to images: told, scored and drawn."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.files import planned, readable_file, write_file
from fastsnn_deploy.reading import reason_of
from fastsnn_deploy.tables import percent
from fastsnn_deploy.training.pictures import require_size

if TYPE_CHECKING:
    from fastsnn_deploy.formats import Network
    from fastsnn_deploy.tasks import Task

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


@dataclass(frozen=True)
class Pictures:
    """Images as the network takes them, and as people see them where they are drawn or come from files.

    levels: [N, *input shape]. truth: what a person says or drew, or None. notes: what the user should know.
    """

    levels: np.ndarray
    names: tuple[str, ...]
    images: tuple[Image.Image, ...] = ()
    truth: Any = None
    notes: tuple[str, ...] = ()


def pictures_of(levels: np.ndarray, truth: Any, highest: int, drawn: bool) -> Pictures:
    """Images of a data set. levels: [N, *input shape] from 0 to `highest`. drawn: whether people will look at them.

    Raises InputError if they should, and are no images of one or three channels.
    """
    found = Pictures(levels, tuple(f"image-{number:04d}" for number in range(len(levels))), truth=truth)
    if not drawn:
        return found
    if levels.ndim != 4 or levels.shape[1] not in (1, 3):
        raise InputError(f"--draw: the network takes input of shape {levels.shape[1:]}, no images. Leave it out")
    pixels = (levels.astype(np.float64) * (255 / highest)).round().clip(0, 255).astype(np.uint8)
    images = (Image.fromarray(each[0] if len(each) == 1 else each.transpose(1, 2, 0)) for each in pixels)
    return replace(found, images=tuple(images))


def pictures_in(network: Network, paths: Sequence[Path]) -> Pictures:
    """Image files and folders of them, in the network's size.

    Raises InputError naming every file that is no image, and if the network takes none.
    """
    from fastsnn_deploy.tasks.sources.base import images_in, resized

    shape, source = network.input.shape, network.input
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise InputError(f"the network takes input of shape {shape}, no images. Name data with --data")
    files = [file for path in paths for file in (images_in(path) if path.is_dir() else [path])]
    if not files:
        raise InputError(f"{', '.join(map(str, paths))}: no image files are there. Name others")
    levels, images, problems = [], [], []
    for file in files:
        try:
            with Image.open(readable_file(file, "image")) as opened:
                require_size(opened)
                image = opened.convert("RGB" if shape[0] == 3 else "L")
        except InputError as error:
            problems.append(Problem("", error.message))
        except Exception as error:  # whatever a damaged picture may set off
            problems.append(Problem(str(file), f"is not an image that Pillow can read ({reason_of(error)})"))
        else:
            images.append(image)
            levels.append(resized(image, (shape[1], shape[2])))
    if problems:
        raise InputError(f"{len(problems)} of {len(files)} images cannot be read", problems)
    others = sum((image.height, image.width) != shape[1:] for image in images)
    notes = (f"{others} of {len(images)} images were resized to {shape[2]}x{shape[1]}",) if others else ()
    pixels = np.stack(levels)
    fitting = pixels if (source.low, source.high) == (0, 255) else (pixels / 255).astype(np.float32)
    return Pictures(fitting, tuple(file.name for file in files), tuple(images), None, notes)


def places_of(draw: Path, names: Sequence[str]) -> list[Path]:
    """The files that pictures go to: the one that is named, or in a folder one for each image.

    Raises InputError if one cannot be written, or a single file is named for several images.
    """
    if draw.suffix.lower() in FORMATS:
        if len(names) > 1:
            raise InputError(f"--draw {draw}: {len(names)} images need {len(names)} pictures. Name a folder")
        return [planned(draw)]
    if draw.suffix:
        raise InputError(f"--draw {draw}: must end in {', '.join(FORMATS)}, or name a folder")
    return [planned(draw / f"{Path(name).stem}.png") for name in names]


def draw_answers(places: Sequence[Path], task: Task, answers: Sequence[Any], pictures: Pictures) -> None:
    """Write every image with its answer; beside what a person drew, where that is known."""
    from fastsnn_deploy.tasks.draw import beside

    shape = (pictures.levels.shape[-2], pictures.levels.shape[-1])
    for number, (place, image, answer) in enumerate(zip(places, pictures.images, answers, strict=True)):
        page = task.draw(image, answer, shape)
        if pictures.truth is not None and task.name != "classification":
            page = beside(task.draw(image, pictures.truth[number], shape), page, ("drawn by a person", "the network"))
        content = io.BytesIO()
        page.save(content, FORMATS[place.suffix.lower()])
        write_file(place, content.getvalue())


@dataclass(frozen=True)
class Told:
    """Answers of a network: facts for JSON, lines for people, and what is drawn."""

    facts: dict[str, Any]
    lines: list[str]
    answers: list[Any]


def told(task: Task, logits: np.ndarray, pictures: Pictures, row: bool) -> Told:
    """Answers in real units, [N, *outputs], in words, with how good they are where that is known.

    row: whether class numbers will do: test images of a classifier.
    """
    import torch

    from fastsnn_deploy.tasks.trainer import stored

    outputs = torch.from_numpy(np.asarray(logits, dtype=np.float32))
    shape = pictures.levels.shape[-2:] if pictures.levels.ndim == 4 else (1, 1)
    size = (shape[0], shape[1])
    found, facts, lines = task.predict(outputs, size), dict[str, Any](), list[str]()
    if pictures.truth is not None:
        meter = task.meter()
        meter.add(outputs, pictures.truth)
        facts[task.metric] = stored(meter.figures())[task.metric]
        lines.append(f"{task.metric} {percent(facts[task.metric])}")
    if row:
        facts["predictions"] = logits.reshape(len(logits), -1).argmax(1).tolist()
        lines.append("predictions " + " ".join(map(str, facts["predictions"])))
    else:
        sizes = [(image.height, image.width) for image in pictures.images] or [size] * len(found)
        facts["answers"] = [
            {"image": name, "answer": task.plain(answer, own, size)}
            for name, own, answer in zip(pictures.names, sizes, found, strict=True)
        ]
        lines += [f"{name}: {task.line(answer)}" for name, answer in zip(pictures.names, found, strict=True)]
    return Told(facts, lines, found)
