"""Labelled images by name: scikit-learn's digits (embedded), MNIST, CIFAR-10/100, and the user's own (`own_data`).

Images stay integers (`levels`): that is what the chip receives. A data set is found in `root` either as the `.npz`
files described below or as torchvision stores it; a new one is one function decorated with `@dataset`.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from fastsnn_deploy.errors import InputError, known_name, unknown, wrong_type
from fastsnn_deploy.files import path_of
from fastsnn_deploy.training.images import Images as Images
from fastsnn_deploy.training.images import Split as Split
from fastsnn_deploy.training.objects import names_an_object
from fastsnn_deploy.training.own_data import load_folder, load_npz, load_object, open_npz

Loader = Callable[[Path, Split, bool], Images]

DATASETS: dict[str, Loader] = {}
"""Every data set by name."""

DOWNLOADED = ("mnist", "cifar10", "cifar100")
"""Data sets that torchvision can fetch."""


def dataset(name: str) -> Callable[[Loader], Loader]:
    """Register loader(root, split, download) under a name."""

    def decorator(loader: Loader) -> Loader:
        DATASETS[name] = loader
        return loader

    return decorator


def load_images(name: str, split: Split, root: str | Path = "data", download: bool = False) -> Images:
    """Images of a data set.

    Args:
        name: of a known data set in `root`; or an .npz file or a folder of images, as a path or below `root`; or
            `package.module:function`, see `own_data`.
        split: which part.
        root: folder of the named data sets.
        download: fetch a named data set that torchvision knows.

    Raises:
        InputError: the name is unknown, or nothing readable is there.
    """
    name = os.fspath(name) if isinstance(name, os.PathLike) else name
    if not isinstance(name, str):
        raise wrong_type("the data set", name, "the name of one, or the path of an .npz file or a folder")
    known_name("split", split, get_args(Split))
    place: str | Path = path_of(root, "folder of data sets")
    try:
        if name in DATASETS:
            images = DATASETS[name](Path(root), split, download)
        elif names_an_object(name):
            images = load_object(name, split)
        elif (found := next((path for path in (Path(name), Path(root) / name) if path.exists()), None)) is not None:
            place = found
            images = load_folder(found, split, name) if found.is_dir() else load_npz(found, split, name)
        else:
            raise unknown(
                "data set", name, DATASETS, "give an .npz file, a folder of images, or package.module:function"
            )
        _check(images)
    except (OSError, RuntimeError, KeyError, ValueError, IndexError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        fix = "or pass --download to fetch it there" if name in DOWNLOADED else "and put the images there"
        raise InputError(
            f"data set '{name}' ({split}) cannot be read from '{place}' ({reason}). Name its folder with --data-root, "
            f"{fix}"
        ) from error
    return images


def _check(images: Images) -> None:
    """Raise ValueError unless the arrays are what `Images` says."""
    levels, labels = images.levels, images.labels
    if levels.dtype != torch.uint8 or levels.dim() != 4 or len(levels) != len(labels) or len(labels) == 0:
        raise ValueError(
            f"images are {levels.dtype} {tuple(levels.shape)} with {len(labels)} labels, not uint8 [N, C, H, W]"
        )
    if labels.min() < 0 or labels.max() >= images.classes:
        raise ValueError(f"labels reach from {labels.min()} to {labels.max()}, not from 0 to {images.classes - 1}")


@dataset("digits")
def _digits(root: Path, split: Split, download: bool) -> Images:
    """1,797 digits of 8x8 pixels with levels 0-16, shipped with scikit-learn; every fifth is a test image."""
    from sklearn.datasets import load_digits

    data = load_digits()
    test = np.arange(len(data.images)) % 5 == 0
    chosen = test if split == "test" else ~test
    levels = torch.from_numpy(data.images[chosen].astype(np.uint8))[:, None]
    labels = torch.from_numpy(data.target[chosen].astype(np.int64))
    return Images("digits", levels, labels, 10, (0.305,), (0.376,), step=1 / 16, highest=16)


@dataset("mnist")
def _mnist(root: Path, split: Split, download: bool) -> Images:
    """`mnist.npz` with x_train, y_train, x_test, y_test (uint8 NHWC), or torchvision's MNIST."""
    file = root / "mnist.npz"
    if file.exists():
        with open_npz(file) as data:
            levels, labels = data[f"x_{split}"], data[f"y_{split}"]
        images = torch.from_numpy(levels.reshape(len(levels), 28, 28, 1)).permute(0, 3, 1, 2)
    else:
        from torchvision.datasets import MNIST

        stored = MNIST(str(root), train=split == "train", download=download)
        images, labels = stored.data[:, None], stored.targets.numpy()
    targets = torch.from_numpy(labels.astype(np.int64))
    return Images("mnist", images.contiguous(), targets, 10, (0.1307,), (0.3081,))


COLOURS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}
"""Mean and standard deviation of the training images, per channel."""


def _colour_images(name: str, images: np.ndarray, labels: np.ndarray, classes: int) -> Images:
    levels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return Images(name, levels, torch.from_numpy(labels.astype(np.int64)), classes, *COLOURS[name])


@dataset("cifar10")
def _cifar10(root: Path, split: Split, download: bool) -> Images:
    """`cifar10/train_*.npz` and `cifar10/test.npz` with images (uint8 NHWC) and labels, or torchvision's CIFAR10."""
    files = sorted((root / "cifar10").glob("train_*.npz" if split == "train" else "test.npz"))
    if files:
        parts = []
        for file in files:
            with open_npz(file) as data:
                parts.append((data["images"], data["labels"]))
        images, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
        return _colour_images("cifar10", images, labels, 10)
    from torchvision.datasets import CIFAR10

    stored = CIFAR10(str(root), train=split == "train", download=download)
    return _colour_images("cifar10", stored.data, np.asarray(stored.targets), 10)


@dataset("cifar100")
def _cifar100(root: Path, split: Split, download: bool) -> Images:
    """torchvision's CIFAR100."""
    from torchvision.datasets import CIFAR100

    stored = CIFAR100(str(root), train=split == "train", download=download)
    return _colour_images("cifar100", stored.data, np.asarray(stored.targets), 100)


@dataset("folder")
def _folder(root: Path, split: Split, download: bool) -> Images:
    """`root` itself: `train/CLASS/*.png` and `test/CLASS/*.png`."""
    return load_folder(root, split, "folder")
