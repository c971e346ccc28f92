"""Boxes as COCO has them: one JSON file for each split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.reading import read_json
from fastsnn_deploy.tasks.scenes import Split
from fastsnn_deploy.tasks.sources.base import NAMES, BoxItem, Corners, Listing, image_file, source, split_of


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" else []
    return sorted(file for place in (path, path / "annotations") for file in place.glob("*.json")) or sorted(
        path.glob("*/*.json")  # train/_annotations.coco.json
    )


def _file(path: Path, split: Split) -> tuple[Path, bool]:
    """(the file of a split, whether it holds that split alone)."""
    files = _files(path)
    if len(files) == 1:
        return files[0], False
    for name in NAMES[split]:
        held = [file for file in files if name in file.stem.lower() or file.parent.name.lower() == name]
        boxes = [file for file in held if "instances" in file.stem] or held
        if len(boxes) == 1:
            return boxes[0], True
    told = ", ".join(file.name for file in files)
    raise InputError(f"{path}: which of {told} holds the {split} split cannot be seen. Name them train.json, test.json")


@source(
    "coco", "detection", "instances_train.json and instances_val.json, or one .json, in annotations/ or beside images/",
    lambda path: bool(_files(path)),
)  # fmt: skip
def read(path: Path, split: Split) -> Listing:
    """`bbox` is left, top, width, height in pixels. Regions marked as a crowd are left out.

    One file for all: every fifth image is a test image.
    """
    file, alone = _file(path, split)
    try:
        content = read_json(file, "COCO file")
        names = {entry["id"]: str(entry["name"]) for entry in sorted(content["categories"], key=lambda e: e["id"])}
        images = {entry["id"]: str(entry["file_name"]) for entry in content["images"]}
        drawn = list(content["annotations"])
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise InputError(f"{file}: is no COCO file ({reason}). It needs images, annotations and categories") from error
    problems: list[Problem] = []
    boxes: dict[Any, list[tuple[str, Corners]]] = {key: [] for key in images}
    for number, entry in enumerate(drawn):
        where = f"{file}: annotation {entry.get('id', number) if isinstance(entry, dict) else number}"
        try:
            if entry.get("iscrowd"):
                continue
            left, top, width, height = map(float, entry["bbox"])
            kind, own = names.get(entry["category_id"]), boxes.get(entry["image_id"])
        except (KeyError, TypeError, ValueError, AttributeError):
            problems.append(Problem(where, "lacks bbox, category_id or image_id"))
            continue
        if kind is None or own is None:
            lost = f"category {entry['category_id']}" if kind is None else f"image {entry['image_id']}"
            problems.append(Problem(where, f"is of {lost}, which the file does not list"))
        else:
            own.append((kind, (left, top, left + width, top + height)))
    folder, named = file.parent, file.stem.removeprefix("instances_")
    places = [folder, folder.parent]
    pictures = [place / each for each in ("images", named, f"images/{named}", ".", *NAMES[split]) for place in places]
    chosen = list(images) if alone else split_of(list(images), split)
    items = [BoxItem(image_file(pictures, images[key]), tuple(boxes[key]), file) for key in chosen]
    return Listing(tuple(names.values()), items, problems)
