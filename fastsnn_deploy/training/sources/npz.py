"""Arrays in an .npz file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.reading import Arrays, read_arrays
from fastsnn_deploy.training.images import Images, Split
from fastsnn_deploy.training.own_data import images_of
from fastsnn_deploy.training.sources.base import SPLITS, Wanted, fifth, source, split_of, start_of

IMAGE_NAMES, LABEL_NAMES = ("images", "x", "X", "data"), ("labels", "y", "Y", "targets")
CLASS_NAMES = ("classes", "class_names")

Pair = tuple[npt.NDArray[Any], npt.NDArray[Any]]


def _is_npz(wanted: Wanted) -> bool:
    return start_of(wanted.place, 4) == b"PK\x03\x04" or (wanted.name.endswith(".npz") and wanted.place is not None)


@source("an .npz file", _is_npz)
def read_npz(wanted: Wanted) -> Images:
    """`x_train`, `y_train`, `x_test`, `y_test` and the like, or `images` and `labels`; `classes` may hold names.

    A file named after a split has the other one beside it: train.npz, test.npz.
    """
    file, split, name = wanted.place, wanted.split, wanted.name
    assert file is not None
    held = read_arrays(file)
    names = _names(held, file)
    train, test = (_pair(held, SPLITS[key]) for key in SPLITS)
    if train is not None and test is not None:
        classes = 1 + max(int(np.max(labels, initial=0)) for _, labels in (train, test))
        return images_of(*(train if split == "train" else test), name=name, classes=classes, class_names=names)
    pair = _pair(held, ("",))
    if pair is None:
        known = "x_train, y_train, x_test and y_test, or images and labels"
        raise InputError(f"{file}: holds {', '.join(held)}. Name its arrays {known}")
    own = split_of(file.stem)
    if own is None:
        return fifth(images_of(*pair, name, class_names=names), split)
    if own != split:
        pair = _beside(file, own, split)
    return images_of(*pair, name, class_names=names)


def _names(held: Arrays, file: Path) -> tuple[str, ...]:
    """Names of classes, where the file has them."""
    found = next((held[name] for name in CLASS_NAMES if name in held), None)
    if found is None:
        return ()
    if found.dtype.kind != "U" or found.ndim != 1:
        raise InputError(f"{file}: its classes are {found.dtype} {found.shape}. Give names, one a class, as text")
    return tuple(map(str, found))


def _beside(file: Path, own: Split, split: Split) -> Pair:
    """(images, labels) of the other split's file."""
    called = next(each for each in SPLITS[own] if each in file.stem.lower())
    for each in SPLITS[split]:
        other = file.with_name(file.name.replace(called, each))
        if other.exists() and other != file and (pair := _pair(read_arrays(other), ("",))) is not None:
            return pair
    wanted = file.with_name(file.name.replace(called, SPLITS[split][0]))
    raise InputError(f"{file}: is the {own} split; the {split} split is missing. Put it into {wanted.name} beside it")


def _pair(held: Arrays, splits: Sequence[str]) -> Pair | None:
    """(images, labels) under any of the usual names."""
    for split in splits:
        found = []
        for names in (IMAGE_NAMES, LABEL_NAMES):
            keys = [key for n in names for key in ((f"{n}_{split}", f"{split}_{n}") if split else (n,)) if key in held]
            found += keys[:1]
        if len(found) == 2:
            return held.numbers(found[0]), held.numbers(found[1])
    return None
