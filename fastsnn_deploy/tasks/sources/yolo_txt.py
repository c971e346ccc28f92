"""Boxes as YOLO programs write them: a text file for each image."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.reading import read_yaml
from fastsnn_deploy.tasks.scenes import Split
from fastsnn_deploy.tasks.sources.base import (
    NAMES,
    BoxItem,
    Corners,
    Listing,
    class_names,
    image_file,
    images_in,
    listed,
    source,
    split_of,
)


def _folders(path: Path) -> list[tuple[str, Path, Path]]:
    """(split or "", images, labels) of every pair of folders that is there."""
    found = [("", path / "images", path / "labels")]
    for names in NAMES.values():
        for name in names:
            found += [(name, path / "images" / name, path / "labels" / name)]
            found += [(name, path / name / "images", path / name / "labels")]
    return [each for each in found if each[1].is_dir() and each[2].is_dir()]


@source(
    "yolo", "detection", "images/NAME.jpg, labels/NAME.txt, and classes.txt or data.yaml",
    lambda path: path.is_dir() and bool(_folders(path)),
)  # fmt: skip
def read(path: Path, split: Split) -> Listing:
    """A line for each box: number of the class, centre x, y, width, height as shares of the image.

    An image without a text file has no boxes.
    """
    classes = class_names(path) or _names(path)
    pairs = [pair for pair in _folders(path) if pair[0] in NAMES[split]]
    own = bool(pairs)
    _, pictures, notes = (pairs or _folders(path))[0]
    names = listed(path, split) if not own else None
    if names is None:
        held = sorted({file.stem for file in images_in(pictures)} | {file.stem for file in notes.glob("*.txt")})
        names = held if own else split_of(held, split)
    problems: list[Problem] = []
    items = []
    for name in names:
        file, image = notes / f"{Path(name).stem}.txt", image_file([pictures], Path(name).stem)
        boxes = _boxes(file, image, classes, problems) if file.is_file() and image.is_file() else []
        items.append(BoxItem(image, tuple(boxes), file))
    return Listing(classes, items, problems)


def _names(path: Path) -> tuple[str, ...]:
    """Classes of data.yaml."""
    for file in sorted(path.glob("*.yaml")):
        content = read_yaml(file, "description of a data set")
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, dict):
            return tuple(str(names[key]) for key in sorted(names, key=lambda key: (isinstance(key, str), key)))
        if isinstance(names, list):
            return tuple(map(str, names))
    raise InputError(f"{path}: the classes have no names. Write them into classes.txt, one a line, or data.yaml")


def _boxes(file: Path, image: Path, classes: tuple[str, ...], problems: list[Problem]) -> list[tuple[str, Corners]]:
    try:
        with Image.open(image) as opened:
            width, height = opened.size
    except (OSError, SyntaxError):
        return []  # told where all images are read
    found: list[tuple[str, Corners]] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        where = f"{file}: line {number}"
        try:
            kind, x, y, w, h = (float(word) for word in line.split()[:5])
        except ValueError:
            problems.append(Problem(where, "is not a class number and four numbers"))
            continue
        if kind != int(kind) or not 0 <= kind < len(classes):
            problems.append(Problem(where, f"has class {kind:g}, must be from 0 to {len(classes) - 1}"))
        else:
            corners = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
            found.append((classes[int(kind)], corners))
    return found
