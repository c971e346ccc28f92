"""Labelled images of the user's own: an .npz file, a folder, or a function that returns them.

Pixels are uint8 from 0 to 255 or floats from 0 to 1, channels first or last. What has no split of its own is split
here: every fifth image is a test image.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.files import existing_file
from fastsnn_deploy.graph.images import PIXEL, array_of, levels_of
from fastsnn_deploy.quantisation.images import stacked
from fastsnn_deploy.training.image_files import ImageFiles
from fastsnn_deploy.training.images import Images, Split
from fastsnn_deploy.training.objects import named_object

IN_MEMORY = 2**30
"""Bytes of a folder of images beyond which they stay in their files."""

NAMES = {"train": ("train",), "test": ("test", "val", "valid", "validation")}
"""What a split may be called."""

IMAGE_NAMES, LABEL_NAMES = ("images", "x", "X", "data"), ("labels", "y", "Y", "targets")
CHANNELS = (1, 3)
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".webp")
FIFTH = 5

Arrays = Mapping[str, npt.NDArray[Any]]


def images_of(images: Any, labels: Any, name: str, classes: int | None = None) -> Images:
    """Arrays as a data set of 8-bit pixels.

    Args:
        images: [N, C, H, W], [N, H, W, C] with 1 or 3 channels, or [N, H, W]; uint8 or float from 0 to 1.
        labels: integers [N].
        name: of the data set.
        classes: how many there are; None for the greatest label and one.

    Raises:
        InputError: they are not like that.
    """
    pixels, numbers = array_of(images), array_of(labels)
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    if pixels.ndim != 4:
        raise InputError(f"'{name}': images have shape {pixels.shape}. Give (N, channels, height, width)")
    if pixels.shape[-1] in CHANNELS and pixels.shape[1] not in CHANNELS:
        pixels = pixels.transpose(0, 3, 1, 2)
    if not np.issubdtype(numbers.dtype, np.integer) or numbers.size != len(pixels) or numbers.size == 0:
        raise InputError(
            f"'{name}': labels are {numbers.dtype} {numbers.shape} for {len(pixels)} images. Give one class number an "
            "image"
        )
    if int(numbers.min()) < 0:
        raise InputError(f"'{name}': labels reach down to {numbers.min()}. Number the classes from 0")
    levels = np.empty(pixels.shape, dtype=np.uint8)
    for start in range(0, len(pixels), 1000):
        part = pixels[start : start + 1000]
        levels[start : start + 1000] = levels_of(
            part, shape=part.shape[1:], step=PIXEL, low=0, high=255, name=f"'{name}'"
        )
    known = int(numbers.max()) + 1 if classes is None else classes
    plain = (0.0,) * pixels.shape[1], (1.0,) * pixels.shape[1]
    return Images(name, torch.from_numpy(levels), torch.from_numpy(numbers.reshape(-1).astype(np.int64)), known, *plain)


def load_object(name: str, split: Split) -> Images:
    """What a user's function returns for a split: a data set of torch, (images, labels), or `Images`."""
    made = named_object(name)
    try:
        found = made(split)
    except Exception as error:  # whatever the user's own code may set off
        raise InputError(
            f"data '{name}' failed for split '{split}' ({type(error).__name__}: {error}). It must be a function of "
            "'train' or 'test' that returns a data set or (images, labels)"
        ) from error
    if isinstance(found, Images):
        return replace(found, name=name)
    if isinstance(found, tuple) and len(found) == 2:
        return images_of(*found, name)
    if hasattr(found, "__getitem__") and hasattr(found, "__len__"):
        items = [found[i] for i in range(len(found))]
        return images_of(stacked([image for image, _ in items]), np.asarray([int(y) for _, y in items]), name)
    raise InputError(
        f"data '{name}' returns something of type {type(found).__name__}. Return a data set or (images, labels)"
    )


@contextmanager
def open_npz(file: Path) -> Iterator[Any]:
    """The arrays of an .npz file by name. Raises InputError if it is none, or damaged."""
    with existing_file(file, "data file").open("rb") as stream:
        try:
            try:
                held = np.load(stream, allow_pickle=False)
            except ValueError as error:  # NumPy takes it for a pickle
                raise zipfile.BadZipFile from error
            if not isinstance(held, np.lib.npyio.NpzFile):
                raise zipfile.BadZipFile("it holds a single array")
            with held:
                yield held
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise InputError(f"{file}: is not an .npz file or is damaged ({error})".replace(" ()", "")) from error


def load_npz(file: Path, split: Split, name: str) -> Images:
    """Arrays of a file: `x_train`, `y_train`, `x_test`, `y_test` and the like, or `images` and `labels`.

    A file named after a split has the other one beside it: train.npz, test.npz.
    """
    with open_npz(file) as held:
        train, test = (_pair(held, NAMES[key]) for key in NAMES)
        if train is not None and test is not None:
            classes = 1 + max(int(np.max(labels, initial=0)) for _, labels in (train, test))
            return images_of(*(train if split == "train" else test), name=name, classes=classes)
        pair = _pair(held, ("",))
        found = ", ".join(held.files)
    if pair is None:
        raise InputError(
            f"{file}: holds {found}. Name its arrays x_train, y_train, x_test and y_test, or images and labels"
        )
    own = next((key for key, names in NAMES.items() if any(each in file.stem.lower() for each in names)), None)
    if own is None:
        return _fifth(images_of(*pair, name), split)
    if own == split:
        return images_of(*pair, name)
    return images_of(*_beside(file, own, split), name)


def _beside(file: Path, own: str, split: Split) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """(images, labels) of the other split's file."""
    called = next(each for each in NAMES[own] if each in file.stem.lower())
    for each in NAMES[split]:
        other = file.with_name(file.name.replace(called, each))
        if other.exists() and other != file:
            with open_npz(other) as held:
                if (pair := _pair(held, ("",))) is not None:
                    return pair
    wanted = file.with_name(file.name.replace(called, NAMES[split][0]))
    raise InputError(f"{file}: is the {own} split; the {split} split is missing. Put it into {wanted.name} beside it")


def _pair(held: Arrays, splits: Sequence[str]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
    """(images, labels) under any of the usual names."""
    for split in splits:
        found = []
        for names in (IMAGE_NAMES, LABEL_NAMES):
            keys = [key for n in names for key in ((f"{n}_{split}", f"{split}_{n}") if split else (n,)) if key in held]
            found += keys[:1]
        if len(found) == 2:
            return held[found[0]], held[found[1]]
    return None


def load_folder(root: Path, split: Split, name: str) -> Images:
    """`train/CLASS/*.png` and `test/CLASS/*.png` (or val), or `CLASS/*.png`; all images of one size.

    Images stay in their files if there are many.
    """
    train = root / "train"
    if not train.is_dir():
        return _fifth(_folder(_files(root), name, str(root)), split)
    folder = train
    if split == "test":
        folder = next((root / each for each in NAMES["test"] if (root / each).is_dir()), root / "test")
    files = _files(folder)
    if files.keys() != _files(train).keys():
        raise InputError(f"'{folder}' and '{train}' hold different classes. Give both the same folders")
    return _folder(files, name, str(folder))


def _files(folder: Path) -> dict[str, list[str]]:
    """Image files of each class."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    return {
        path.name: sorted(str(file) for file in path.rglob("*") if file.suffix.lower() in ENDINGS) for path in classes
    }


def _folder(files: Mapping[str, Sequence[str]], name: str, place: str) -> Images:
    if not all(files.values()) or not files:
        empty = next((each for each, found in files.items() if not found), None)
        raise FileNotFoundError("no folders of images in it" if empty is None else f"'{place}/{empty}' holds no images")
    labels = torch.tensor([number for number, each in enumerate(files.values()) for _ in each])
    stored = ImageFiles([file for each in files.values() for file in each])
    plain = (0.0,) * 3, (1.0,) * 3
    if np.prod(stored.shape) > IN_MEMORY:
        return Images(name, stored, labels, len(files), *plain, grey=stored.grey)
    held = stored[:]
    return Images(name, held, labels, len(files), *plain, grey=bool((held == held[:, :1]).all()))


def _fifth(images: Images, split: Split) -> Images:
    """Every fifth image of each class for the test, the others to learn from."""
    order = torch.argsort(images.labels, stable=True)
    test = torch.zeros(len(order), dtype=torch.bool)
    test[order[::FIFTH]] = True
    chosen = torch.nonzero(test if split == "test" else ~test).flatten()
    levels = images.levels
    kept = ImageFiles([levels.files[i] for i in chosen]) if isinstance(levels, ImageFiles) else levels[chosen]
    return replace(images, levels=kept, labels=images.labels[chosen])
