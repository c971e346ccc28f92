"""Boxes in one table: a line for each box."""

from __future__ import annotations

import csv
from pathlib import Path

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.tasks.scenes import Split
from fastsnn_deploy.tasks.sources.base import (
    BoxItem,
    Corners,
    Listing,
    class_names,
    image_file,
    images_in,
    listed,
    part,
    source,
    split_of,
)

COLUMNS = {
    "image": ("image", "file", "filename", "image_id", "path"),
    "class": ("class", "label", "name", "category"),
    **{side: (side, f"x{side}") for side in ("xmin", "ymin", "xmax", "ymax")},
}
"""What the columns may be called."""


def _table(path: Path) -> Path | None:
    """The CSV file that is meant: the file itself, or the only one in the folder."""
    if path.is_file():
        return path if path.suffix.lower() == ".csv" else None
    found = sorted(path.glob("*.csv")) or sorted(path.glob("annotations/*.csv"))
    return found[0] if len(found) == 1 else None


def _own(path: Path, split: Split) -> Path:
    return part(path, split) or path if path.is_dir() else path


@source(
    "csv", "detection", "a .csv with the columns image, class, xmin, ymin, xmax, ymax beside images/",
    lambda path: any(_table(place) for place in (path, path / "train")),
)  # fmt: skip
def read(path: Path, split: Split) -> Listing:
    """Corners in pixels. Splits: train/ and test/ with a table each, lists of names, or every fifth image is a test
    image. classes.txt orders the classes; without it they are those of the table by name.
    """
    place = _own(path, split)
    file = _table(place)
    if file is None:
        raise InputError(f"{place}: holds no .csv of boxes, or several. Leave one there")
    folder = file.parent
    problems: list[Problem] = []
    boxes = _boxes(file, problems)
    held = class_names(path if path.is_dir() else folder)
    classes = held or tuple(sorted({kind for own in boxes.values() for kind, _ in own}))
    pictures = [folder / "images", folder / "JPEGImages", folder, folder.parent / "images", folder.parent]
    stems = {Path(name).stem: name for name in boxes}
    names = listed(folder, split)
    if names is None:
        alone = {file.stem: file.name for file in images_in(pictures[0])} | stems
        names = sorted(alone.values())
        names = names if place != path else split_of(names, split)
    items = []
    for name in names:
        own = boxes.get(name) or boxes.get(stems.get(Path(name).stem, ""), [])
        unknown = sorted({kind for kind, _ in own} - set(classes))
        problems += [Problem(f"{file}: {name}", f"class '{kind}' is not in classes.txt") for kind in unknown]
        items.append(BoxItem(image_file(pictures, name), tuple(own), file))
    return Listing(classes, items, problems)


def _boxes(file: Path, problems: list[Problem]) -> dict[str, list[tuple[str, Corners]]]:
    """Boxes by image, in the order of the file."""
    found: dict[str, list[tuple[str, Corners]]] = {}
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream)
        names = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
        columns = {key: next((names[n] for n in known if n in names), None) for key, known in COLUMNS.items()}
        missing = [key for key, name in columns.items() if name is None]
        if missing:
            raise InputError(f"{file}: has no column {', '.join(missing)}. Name them {', '.join(COLUMNS)}")
        for row in rows:
            given = {key: (row[str(name)] or "").strip() for key, name in columns.items()}
            try:
                left, top, right, bottom = (float(given[side]) for side in ("xmin", "ymin", "xmax", "ymax"))
            except ValueError:
                problems.append(Problem(f"{file}: line {rows.line_num}", "lacks a number among xmin, ymin, xmax, ymax"))
                continue
            found.setdefault(given["image"], []).append((given["class"], (left, top, right, bottom)))
    return found
