"""A folder with a folder for each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.training.images import Images, Split
from fastsnn_deploy.training.pictures import Files
from fastsnn_deploy.training.sources.base import SPLITS, Wanted, fifth, pictures, source
from fastsnn_deploy.training.sources.named import dataset

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".webp", ".pgm", ".tif", ".tiff")


def _is_folder(wanted: Wanted) -> bool:
    return wanted.place is not None and wanted.place.is_dir()


@source("a folder of class folders", _is_folder)
def read_folder(wanted: Wanted) -> Images:
    """`train/CLASS/*.png` and `test/CLASS/*.png` (or val), or `CLASS/*.png`; classes in the order of their names."""
    root = wanted.place
    assert root is not None
    train = root / "train"
    if not train.is_dir():
        return fifth(_pictures(wanted.name, root, _classes(root)), wanted.split)
    folder = train
    if wanted.split == "test":
        folder = next((root / each for each in SPLITS["test"] if (root / each).is_dir()), root / "test")
    files, known = _classes(folder), _classes(train)
    if files.keys() != known.keys():
        raise InputError(
            f"'{folder}' and '{train}' hold different classes "
            f"({', '.join(sorted(files.keys() ^ known.keys())[:5])}). Give both the same folders"
        )
    return _pictures(wanted.name, folder, files)


@dataset("folder")
def _root_itself(root: Path, split: Split, download: bool) -> Images:
    """The data root itself: `train/CLASS/*.png` and `test/CLASS/*.png`."""
    if not root.is_dir():
        raise FileNotFoundError(f"no such folder: {root}")
    return replace(read_folder(Wanted(str(root), split, root)), name="folder")


def _classes(folder: Path) -> dict[str, list[str]]:
    """Image files of each class."""
    found = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return {
        path.name: sorted(str(file) for file in path.rglob("*") if file.suffix.lower() in ENDINGS) for path in found
    }


def _pictures(name: str, folder: Path, files: dict[str, Sequence[str]] | dict[str, list[str]]) -> Images:
    if not files:
        raise FileNotFoundError("no folders of images in it")
    empty = [Problem(f"{folder}/{name}", "holds no images") for name, found in files.items() if not found]
    if empty:
        fix = "Remove the folders, or put images there"
        if len(empty) == 1:
            raise InputError(f"{empty[0]}. {fix}")
        raise InputError(f"'{folder}': {len(empty)} of {len(files)} classes have no images. {fix}", empty[:20])
    if len(files) == 1:
        only = next(iter(files))
        raise InputError(f"'{folder}': holds one class only, '{only}'. Give a folder for each class")
    labels = [number for number, each in enumerate(files.values()) for _ in each]
    return pictures(name, Files([file for each in files.values() for file in each]), labels, tuple(files))
