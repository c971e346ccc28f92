"""Files in a folder for each class, whatever they hold."""

from __future__ import annotations

from pathlib import Path

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.training.sources.base import SPLITS, Wanted


def class_files(wanted: Wanted, endings: tuple[str, ...]) -> tuple[Path, dict[str, list[str]], bool]:
    """(folder of the wanted split, files of each class in it, whether it holds this split only)."""
    root = wanted.place
    assert root is not None
    train = root / "train"
    if not train.is_dir():
        return root, _classes(root, endings), False
    folder = train
    if wanted.split == "test":
        folder = next((root / each for each in SPLITS["test"] if (root / each).is_dir()), root / "test")
    files, known = _classes(folder, endings), _classes(train, endings)
    if files.keys() != known.keys():
        raise InputError(
            f"'{folder}' and '{train}' hold different classes "
            f"({', '.join(sorted(files.keys() ^ known.keys())[:5])}). Give both the same folders"
        )
    return folder, files, True


def _classes(folder: Path, endings: tuple[str, ...]) -> dict[str, list[str]]:
    """Files of each class."""
    found = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return {
        path.name: sorted(str(file) for file in path.rglob("*") if file.suffix.lower() in endings) for path in found
    }


def numbered_files(
    folder: Path, classes: dict[str, list[str]], what: str = "images"
) -> tuple[list[str], list[int], tuple[str, ...]]:
    """(all files, the class of each, names of the classes). Raises InputError for empty classes, or one alone."""
    if not classes:
        raise FileNotFoundError(f"no folders of {what} in it")
    empty = [Problem(f"{folder}/{name}", f"holds no {what}") for name, found in classes.items() if not found]
    if empty:
        fix = f"Remove the folders, or put {what} there"
        if len(empty) == 1:
            raise InputError(f"{empty[0]}. {fix}")
        raise InputError(f"'{folder}': {len(empty)} of {len(classes)} classes have no {what}. {fix}", empty[:20])
    if len(classes) == 1:
        only = next(iter(classes))
        raise InputError(f"'{folder}': holds one class only, '{only}'. Give a folder for each class")
    labels = [number for number, each in enumerate(classes.values()) for _ in each]
    return [file for each in classes.values() for file in each], labels, tuple(classes)
