"""A class for every pixel: folders of images and of masks with the same names."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.tasks.scenes import IGNORED, Split
from fastsnn_deploy.tasks.sources.base import (
    Listing,
    MaskItem,
    class_names,
    image_file,
    images_in,
    listed,
    part,
    source,
    split_of,
)
from fastsnn_deploy.training.pictures import MOST_PIXELS, require_size

PAIRS = (("images", "masks"), ("JPEGImages", "SegmentationClass"), ("images", "labels"), ("images", "annotations"))
"""Folders of images and of their masks."""

Colour = tuple[int, int, int]


def _pair(folder: Path) -> tuple[Path, Path] | None:
    found = ((folder / images, folder / masks) for images, masks in PAIRS)
    return next((pair for pair in found if all(place.is_dir() for place in pair)), None)


@source(
    "masks", "segmentation",
    "images/NAME.jpg and masks/NAME.png, classes.txt, and train.txt and test.txt or the folders train/ and test/",
    lambda path: any(_pair(place) for place in (path, path / "train")),
)  # fmt: skip
def read(path: Path, split: Split) -> Listing:
    """A mask is a PNG of class numbers (grey or palette), 255 where nothing counts; or of colours, which a table
    class_dict.csv (name, r, g, b) names. classes.txt has the names by number, one a line.
    """
    folder = part(path, split) or path
    pair = _pair(folder)
    if pair is None:
        told = " or ".join(f"{images}/ and {masks}/" for images, masks in PAIRS[:2])
        raise InputError(f"{folder}: lacks {told}. Put images and masks of the {split} split there")
    colours = _colours(path)
    names = listed(path, split)
    if names is None:
        held = sorted({file.stem for place in pair for file in images_in(place)})
        names = held if folder != path else split_of(held, split)
    problems: list[Problem] = []
    items, files = [], []
    for name in names:
        image, file = image_file([pair[0]], name), image_file([pair[1]], name)
        if not file.is_file():
            problems.append(Problem(str(pair[1] / f"{name}.png"), "is missing", f"Draw a mask for '{image.name}'"))
            continue
        items.append(MaskItem(image, partial(_mask, file, colours), file))
        files.append(file)
    classes = tuple(colours) if colours else class_names(path)
    if classes is not None:
        return Listing(classes, items, problems)
    return Listing(tuple(map(str, range(_highest(pair[1]) + 1))), items, problems, named=False)


def _highest(folder: Path) -> int:
    """The greatest class number of all masks of a folder."""
    highest = 0
    for file in images_in(folder):
        try:
            levels = _mask(file, {})
        except (OSError, ValueError, SyntaxError):  # told where all masks are read
            continue
        counted = levels[levels < IGNORED]
        highest = max(highest, int(counted.max(initial=0)))
    return highest


def _colours(path: Path) -> dict[str, Colour]:
    """The colours of classes by name, in order; empty if there is no table."""
    file = next((path / n for n in ("class_dict.csv", "classes.csv", "colours.csv") if (path / n).is_file()), None)
    if file is None:
        return {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = [{(k or "").strip().lower(): v for k, v in row.items()} for row in csv.DictReader(stream)]
        return {row["name"].strip(): (int(row["r"]), int(row["g"]), int(row["b"])) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: is no table of colours. Its columns must be name, r, g, b") from error


def _mask(file: Path, colours: dict[str, Colour]) -> npt.NDArray[np.int64]:
    """Class numbers, int64 [H, W]. Raises ValueError for what is none."""
    with Image.open(file) as opened:
        require_size(opened, MOST_PIXELS // 4)  # of 8 bytes each
        coloured = opened.mode == "RGBA" or (opened.mode == "P" and bool(colours))  # a palette says the colours, too
        image = opened.convert("RGB") if coloured else opened.copy()
    bands, pixels = image.getbands(), np.array(image, dtype=np.int64)
    if len(bands) == 1:
        return pixels
    if bands != ("R", "G", "B"):
        raise ValueError(f"has channels {''.join(bands)}. Save class numbers in a PNG with one channel")
    if not colours:
        raise ValueError("has colours. Say in class_dict.csv (name, r, g, b) what they mean, or save class numbers")
    codes = pixels @ np.array([65536, 256, 1])
    found = np.full(codes.shape, -1, dtype=np.int64)
    for number, (red, green, blue) in enumerate(colours.values()):
        found[codes == red * 65536 + green * 256 + blue] = number
    if (found < 0).any():
        y, x = np.argwhere(found < 0)[0]
        raise ValueError(f"has the colour {tuple(pixels[y, x].tolist())} at {x},{y}, which the table does not name")
    return found
