"""A folder with a folder for each class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fastsnn_deploy.training.images import Images, Split
from fastsnn_deploy.training.pictures import Files
from fastsnn_deploy.training.sources.base import Wanted, fifth, pictures, source
from fastsnn_deploy.training.sources.class_folders import class_files, numbered_files
from fastsnn_deploy.training.sources.named import dataset

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".webp", ".pgm", ".tif", ".tiff")


def _is_folder(wanted: Wanted) -> bool:
    return wanted.place is not None and wanted.place.is_dir()


@source("a folder of class folders", _is_folder)
def read_folder(wanted: Wanted) -> Images:
    """`train/CLASS/*.png` and `test/CLASS/*.png` (or val), or `CLASS/*.png`; classes in the order of their names."""
    folder, classes, split = class_files(wanted, ENDINGS)
    files, labels, names = numbered_files(folder, classes)
    found = pictures(wanted.name, Files(files), labels, names)
    return found if split else fifth(found, wanted.split)


@dataset("folder")
def _root_itself(root: Path, split: Split, download: bool) -> Images:
    """The data root itself: `train/CLASS/*.png` and `test/CLASS/*.png`."""
    if not root.is_dir():
        raise FileNotFoundError(f"no such folder: {root}")
    return replace(read_folder(Wanted(str(root), split, root)), name="folder")
