"""Boxes as PASCAL VOC has them: an XML file for each image."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from fastsnn_deploy.errors import Problem
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

SIDES = ("xmin", "ymin", "xmax", "ymax")


@source(
    "voc", "detection", "Annotations/NAME.xml, JPEGImages/NAME.jpg, and train.txt and test.txt or ImageSets/Main",
    lambda path: any((folder / "Annotations").is_dir() for folder in (path, path / "train")),
)  # fmt: skip
def read(path: Path, split: Split) -> Listing:
    """Of each `object` its `name` and `bndbox` in pixels; objects marked difficult stay.

    classes.txt orders the classes; without it they are those of all annotations by name.
    """
    folder = part(path, split) or path
    notes, pictures = folder / "Annotations", [folder / "JPEGImages", folder / "images", folder]
    names = listed(path, split)
    if names is None:
        held = sorted({file.stem for place in pictures[:2] for file in images_in(place)} | _stems(notes))
        names = held if folder != path else split_of(held, split)
    problems: list[Problem] = []
    given, items, found = class_names(path), list[BoxItem](), set[str]()
    for file in notes.parent.parent.glob("*/Annotations/*.xml") if folder != path else notes.glob("*.xml"):
        if given is None:  # of all splits: the order must be the same in each
            found |= {kind for kind, _ in _objects(file, [])}
    classes = given or tuple(sorted(found))
    for name in names:
        file = notes / f"{name}.xml"
        if not file.is_file():
            problems.append(Problem(str(file), "is missing", f"Draw boxes for image '{name}', or take it out"))
            continue
        boxes = _objects(file, problems)
        for kind in sorted({kind for kind, _ in boxes} - set(classes)):
            problems.append(Problem(str(file), f"class '{kind}' is not in classes.txt"))
        items.append(BoxItem(image_file(pictures, name), tuple(boxes), file))
    return Listing(classes, items, problems)


def _stems(folder: Path) -> set[str]:
    return {file.stem for file in folder.glob("*.xml")}


def _objects(file: Path, problems: list[Problem]) -> list[tuple[str, Corners]]:
    try:
        things = list(ElementTree.parse(file).getroot().iter("object"))
    except (OSError, ElementTree.ParseError) as error:
        problems.append(Problem(str(file), f"is not an XML file ({error})"))
        return []
    found: list[tuple[str, Corners]] = []
    for thing in things:
        name = (thing.findtext("name") or "").strip()
        try:
            left, top, right, bottom = (float(thing.findtext(f"bndbox/{side}") or "") for side in SIDES)
        except ValueError:
            problems.append(Problem(str(file), f"a box of '{name}' lacks a number among {', '.join(SIDES)}"))
        else:
            found.append((name, (left, top, right, bottom)))
    return found
