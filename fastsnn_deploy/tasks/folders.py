"""Folders of one's own, laid out as PASCAL VOC: boxes in XML files, or masks whose levels are class numbers.

- `classes.txt`: names of the classes, one a line.
- `train.txt`, `test.txt`: names of the images, one a line, without ending.
- `JPEGImages/NAME.jpg`, or .jpeg, .png, .bmp.
- `Annotations/NAME.xml` for boxes, `SegmentationClass/NAME.png` for masks.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.tasks.scenes import BoxScenes, MaskScenes, Split, drawn_boxes, read_images, shown

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp")
IGNORED = 255
"""Level of pixels that do not count, as in VOC."""


def load_box_folder(root: str | Path, split: Split, size: tuple[int, int]) -> BoxScenes:
    """Images with the boxes of VOC's XML files, resized to (height, width).

    Of each `object` its `name` and `bndbox` (xmin, ymin, xmax, ymax in pixels of the file) are read; boxes without
    area are left out, objects marked difficult stay. Raises InputError naming every file that is missing or wrong.
    """
    folder = Path(root)
    classes, names = _lists(folder, split)
    problems: list[Problem] = []
    found: list[list[tuple[int, list[float]]]] = []
    for name in names:
        file = folder / "Annotations" / f"{name}.xml"
        try:
            found.append(_objects(file, classes))
        except (OSError, ValueError, ElementTree.ParseError) as error:
            problems.append(Problem(str(file), str(error) if file.exists() else "is missing"))
    if problems:
        raise InputError(f"{len(problems)} of {len(names)} annotations cannot be read", shown(problems))
    images, scales = read_images(folder.name, _image_files(folder, names), size)
    boxes = [
        drawn_boxes([np.multiply(corners, scale) for _, corners in own], [kind for kind, _ in own])
        for own, scale in zip(found, scales, strict=True)
    ]
    return BoxScenes(folder.name, images, classes, tuple(boxes))


def load_mask_folder(root: str | Path, split: Split, size: tuple[int, int]) -> MaskScenes:
    """Images with a class for every pixel, both resized to (height, width), masks without mixing classes.

    A mask is a PNG with one channel (grey or palette) whose level is the number of the class, the line of classes.txt
    counted from 0; level 255 does not count. Raises InputError naming every file that is missing or wrong.
    """
    folder = Path(root)
    classes, names = _lists(folder, split)
    problems: list[Problem] = []
    masks = []
    for name in names:
        file = folder / "SegmentationClass" / f"{name}.png"
        try:
            masks.append(_mask(file, size, len(classes)))
        except (OSError, ValueError, SyntaxError) as error:  # Pillow calls a broken PNG a SyntaxError
            problems.append(Problem(str(file), str(error).split(" '")[0] if file.exists() else "is missing"))
    if problems:
        raise InputError(f"{len(problems)} of {len(names)} masks cannot be read", shown(problems))
    images, _ = read_images(folder.name, _image_files(folder, names), size)
    return MaskScenes(folder.name, images, classes, torch.from_numpy(np.stack(masks)), IGNORED)


def _lists(folder: Path, split: Split) -> tuple[tuple[str, ...], list[str]]:
    """(names of classes, names of images)."""
    found = []
    for file, holds in ((folder / "classes.txt", "classes"), (folder / f"{split}.txt", "images")):
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, ValueError) as error:
            reason = "is not a text file" if file.is_file() else "is missing"
            raise InputError(f"{file}: {reason}. It must hold the names of the {holds}, one a line") from error
        if not lines:
            raise InputError(f"{file}: is empty. It must hold the names of the {holds}, one a line")
        found.append(lines)
    return tuple(found[0]), found[1]


def _image_files(folder: Path, names: list[str]) -> list[Path]:
    """Where an image lies; where it should lie if it is nowhere."""
    files = []
    for name in names:
        candidates = [folder / "JPEGImages" / f"{name}{ending}" for ending in ENDINGS]
        files.append(next((file for file in candidates if file.exists()), candidates[0]))
    return files


def _objects(file: Path, classes: tuple[str, ...]) -> list[tuple[int, list[float]]]:
    objects = []
    for thing in ElementTree.parse(file).getroot().iter("object"):
        name = (thing.findtext("name") or "").strip()
        if name not in classes:
            raise ValueError(f"class '{name}' is not in classes.txt")
        texts = [thing.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        try:
            corners = [float(text or "") for text in texts]
        except ValueError:
            raise ValueError(f"a box of '{name}' lacks a number among xmin, ymin, xmax, ymax") from None
        if corners[2] > corners[0] and corners[3] > corners[1]:
            objects.append((classes.index(name), corners))
    return objects


def _mask(file: Path, size: tuple[int, int], classes: int) -> npt.NDArray[np.uint8]:
    """uint8 [height, width]."""
    with Image.open(file) as image:
        if len(image.getbands()) != 1:
            raise ValueError(f"has {len(image.getbands())} channels. Save class numbers in a PNG with one channel")
        levels = np.array(image, dtype=np.int64)  # all of them: resizing may drop the wrong ones
        wrong = levels[(levels >= classes) & (levels != IGNORED)]
        if wrong.size:
            raise ValueError(f"has level {wrong.max()}, must be from 0 to {classes - 1}, or 255 where nothing counts")
        return np.array(image.resize((size[1], size[0]), Image.Resampling.NEAREST), dtype=np.uint8)
