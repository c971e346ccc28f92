"""What the kinds of data have in common: what the user says, and how a kind is registered.

A new kind is one file in this folder with one function under `@source`, named in `__init__`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.training.images import Images, Split, arrays
from fastsnn_deploy.training.pictures import Items, Pictures

SPLITS: dict[Split, tuple[str, ...]] = {"train": ("train",), "test": ("test", "val", "valid", "validation")}
"""What a split may be called, the best name first."""

FIFTH = 5


@dataclass(frozen=True)
class Wanted:
    """What the user says about data. name: without options. root: folder of data sets. options: written in brackets."""

    name: str
    split: Split
    root: Path
    download: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> Path | None:
        """The file or folder of that name, as it is or below the root; None if there is none."""
        candidates = (Path(self.name), self.root / self.name)
        return next((path for path in candidates if _exists(path)), None)

    def option(self, name: str) -> str | None:
        """A text among the options."""
        value = self.options.get(name)
        if value is not None and not isinstance(value, str):
            raise InputError(f"data '{self.name}': {name}={value!r} must be a name in quotation marks")
        return value


Reader = Callable[[Wanted], Images]


@dataclass(frozen=True)
class Source:
    """One kind of data. name, about: in words. holds: whether it is meant. options: their names, None for any."""

    name: str
    about: str
    holds: Callable[[Wanted], bool]
    read: Reader
    options: tuple[str, ...] | None


SOURCES: list[Source] = []
"""Every kind of data."""


def source(
    name: str, holds: Callable[[Wanted], bool], options: tuple[str, ...] | None = ()
) -> Callable[[Reader], Reader]:
    """Register how data of a kind are read; the first line of the function's docstring says what it is."""

    def decorator(read: Reader) -> Reader:
        about = (read.__doc__ or "").strip().split("\n")[0].rstrip(".")
        SOURCES.append(Source(name, about, holds, read, options))
        return read

    return decorator


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False


def start_of(path: Path | None, count: int = 512) -> bytes:
    """First bytes of a file; none of anything else."""
    if path is None or not os.path.isfile(path):
        return b""
    with path.open("rb") as file:
        return file.read(count)


def split_of(text: str) -> Split | None:
    """The split that a file's name names, None if none."""
    return next((split for split, names in SPLITS.items() if any(name in text.lower() for name in names)), None)


def pictures(
    name: str, items: Items, labels: Sequence[int] | npt.NDArray[Any], class_names: Sequence[str] = ()
) -> Images:
    """Labelled pictures that are read when they are needed.

    Raises InputError unless there is a class number from 0 on for each.
    """
    numbers = np.asarray(labels)
    if not len(items):
        raise InputError(f"data '{name}': holds no images. Check its place and its split")
    if numbers.dtype.kind not in "iu" or numbers.shape != (len(items),):
        raise InputError(f"data '{name}': labels are {numbers.dtype} {numbers.shape} for {len(items):,} images")
    if numbers.min() < 0:
        count = int((numbers < 0).sum())
        raise InputError(
            f"data '{name}': {count:,} of {len(items):,} images have no label (a class number below 0). Choose another "
            "split, or number the classes from 0"
        )
    levels, highest = Pictures(items), int(numbers.max())
    channels = levels.shape[1]
    return Images(
        name, *arrays(levels, numbers.astype(np.int64)), max(highest + 1, len(class_names)),
        (0.0,) * channels, (1.0,) * channels, grey=levels.grey, class_names=tuple(class_names),
    )  # fmt: skip


def fifth(images: Images, split: Split) -> Images:
    """Every fifth image of each class for the test, the others to learn from."""
    order = np.argsort(images.numbers, kind="stable")
    test = np.zeros(len(order), dtype=np.bool_)
    test[order[::FIFTH]] = True
    return images.select(np.flatnonzero(test if split == "test" else ~test))


def numbered(labels: Sequence[Any]) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """(class numbers, names) of labels that are numbers, or names, which are sorted as folders of classes are."""
    if all(isinstance(label, (int, np.integer)) and not isinstance(label, bool) for label in labels):
        return np.asarray(labels, dtype=np.int64), ()
    odd = next((label for label in labels if not isinstance(label, (str, bytes))), None)
    if odd is not None:
        raise InputError(f"a label is {odd!r:.60} ({type(odd).__name__}). Give one class number, or one name, an image")
    texts = [label.decode("utf-8", "replace") if isinstance(label, bytes) else label for label in labels]
    names = sorted(set(texts))
    number = {name: place for place, name in enumerate(names)}
    return np.asarray([number[text] for text in texts], dtype=np.int64), tuple(names)
