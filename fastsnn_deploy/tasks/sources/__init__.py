"""Annotated images by name or path. A layout of files is one file here, which registers itself; see `base`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.files import path_of
from fastsnn_deploy.reading import damaged
from fastsnn_deploy.tasks.scenes import IGNORED, Scenes, Split, Truth
from fastsnn_deploy.tasks.sources import coco, csv_boxes, mask_npz, masks, voc, yolo_txt  # noqa: F401  each registers
from fastsnn_deploy.tasks.sources.base import SOURCES as SOURCES
from fastsnn_deploy.tasks.sources.base import Size, collected, resized, resized_mask
from fastsnn_deploy.training.objects import named_object, names_an_object


def load_scenes(
    name: str,
    split: Split,
    root: str | Path = "data",
    *,
    task: str,
    size: Size | None = None,
    classes: Sequence[str] | None = None,
) -> Scenes:
    """Images with boxes or masks.

    Args:
        name: a file or folder, as a path or below `root`, with or without `.npz`; or `package.module:function`, which
            returns `Scenes` for a split.
        split: "train" or "test".
        root: folder of data sets.
        task: "detection" or "segmentation".
        size: (height, width) that images are resized to; None for their own.
        classes: those of a network, whose order the truth then follows; None for the data's own.

    Raises:
        InputError: nothing readable is there; or, all at once, annotations, images and masks that are missing or
            damaged, boxes outside their image, unknown classes, masks of another size.
    """
    wanted = None if classes is None else tuple(classes)
    if names_an_object(name):
        made = named_object(name)(split)
        if not isinstance(made, Scenes):
            raise InputError(f"data '{name}' returns a {type(made).__name__}. Return fastsnn_deploy.tasks.Scenes")
        return _fitted(made, size, wanted)
    places = (Path(name), path_of(root, "folder of data sets") / name)
    path = next((p for place in places for p in (place, place.with_name(f"{place.name}.npz")) if p.exists()), None)
    layouts = [each for each in SOURCES.values() if each.task == task]
    told = "; ".join(f"{each.name}: {each.about}" for each in layouts)
    if path is None:
        raise InputError(f"data '{name}' is neither there nor below '{root}'. For {task} give {told}")
    chosen = next((each for each in layouts if each.holds(path)), None)
    if chosen is None:
        raise InputError(f"{path}: holds nothing that {task} can read. Give {told}")
    with damaged(path, chosen.name):
        found = chosen.read(path, split)
        if isinstance(found, Scenes):
            return _fitted(replace(found, name=name), size, wanted)
        return collected(name, split, found, size, wanted)


def load_both(
    name: str, root: str | Path, *, task: str, size: Size | None, classes: Sequence[str] | None = None
) -> tuple[Scenes, Scenes]:
    """(training, test) images, with what is wrong in both of them told at once."""
    found: list[Scenes] = []
    errors: list[InputError] = []
    splits: tuple[Split, Split] = ("train", "test")
    for split in splits:
        classes = found[0].classes if found else classes
        try:
            found.append(load_scenes(name, split, root, task=task, size=size, classes=classes))
        except InputError as error:
            errors.append(error)
    if len(errors) == 2 and errors[0].message != errors[1].message:
        problems = [problem for error in errors for problem in error.problems]
        raise InputError("; ".join(error.message for error in errors), problems)
    if errors:
        raise errors[0]
    return found[0], found[1]


def _fitted(scenes: Scenes, size: Size | None, classes: tuple[str, ...] | None) -> Scenes:
    """Scenes that are in memory already, in another size and with the network's order of masks."""
    if classes is not None and classes != scenes.classes:
        unknown = [kind for kind in scenes.classes if kind not in classes]
        if unknown or not isinstance(scenes.truth, torch.Tensor):
            raise InputError(
                f"data '{scenes.name}' has the classes {', '.join(scenes.classes)}, the network {', '.join(classes)}"
            )
        table = torch.full((IGNORED + 1,), IGNORED, dtype=torch.uint8)
        for number, kind in enumerate(scenes.classes):
            table[number] = classes.index(kind)
        scenes = replace(scenes, classes=classes, truth=table[scenes.truth.long()])
    if size is None or size == scenes.shape[1:]:
        return scenes
    height, width = scenes.shape[1:]
    levels = [resized(Image.fromarray(each.permute(1, 2, 0).numpy()), size) for each in scenes.levels]
    if isinstance(scenes.truth, torch.Tensor):
        drawn = [resized_mask(mask.numpy(), size) for mask in scenes.truth]
        truth: Truth = torch.from_numpy(np.stack(drawn))
    else:
        truth = [boxes.scaled(size[1] / width, size[0] / height) for boxes in scenes.truth]
    return replace(scenes, levels=torch.from_numpy(np.stack(levels)), truth=truth)
