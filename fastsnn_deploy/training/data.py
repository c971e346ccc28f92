"""Labelled images by name: scikit-learn's digits (embedded), MNIST, CIFAR-10/100, and folders of images.

Images stay integers (`levels`): that is what the chip receives. A data set is found in `root` either as the `.npz`
files described below or as torchvision stores it; a new one is one function decorated with `@dataset`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fastsnn_deploy.errors import InputError, unknown
from fastsnn_deploy.training.image_files import ImageFiles

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Images:
    """levels: uint8 [N, C, H, W]; labels: int64 [N]. A level times `step` is the raw value, `highest` the top level.

    Levels of a data set too large for memory are an `ImageFiles`, which reads what an index asks for.

    mean, std: per channel, of raw values over the training images; what networks are normalised with.
    """

    name: str
    levels: Tensor | ImageFiles
    labels: Tensor
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    step: float = 1 / 255
    highest: int = 255

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image."""
        return tuple(self.levels.shape[1:])

    def raw(self, index: Tensor | slice) -> Tensor:
        """Chosen images as float32 in units of the data, [n, C, H, W]."""
        return self.levels[index].float() * self.step

    def to(self, device: torch.device) -> Images:
        """The same images with levels and labels in the memory of a device; images in files stay there."""
        levels = self.levels if isinstance(self.levels, ImageFiles) else self.levels.to(device)
        return replace(self, levels=levels, labels=self.labels.to(device))


Loader = Callable[[Path, Split, bool], Images]

DATASETS: dict[str, Loader] = {}
"""Every data set by name."""

IN_MEMORY = 2**30
"""Bytes of a folder of images beyond which they stay in their files."""

DOWNLOADED = ("mnist", "cifar10", "cifar100")
"""Data sets that torchvision can fetch."""


def dataset(name: str) -> Callable[[Loader], Loader]:
    """Register loader(root, split, download) under a name."""

    def decorator(loader: Loader) -> Loader:
        DATASETS[name] = loader
        return loader

    return decorator


def load_images(name: str, split: Split, root: str | Path = "data", download: bool = False) -> Images:
    """Images of a data set. Raises InputError if the name is unknown or nothing readable lies in `root`."""
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    try:
        images = DATASETS[name](Path(root), split, download)
        _check(images)
    except (OSError, RuntimeError, KeyError, ValueError, IndexError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        fix = "or pass --download to fetch it there" if name in DOWNLOADED else "and put the images there"
        raise InputError(
            f"data set '{name}' ({split}) cannot be read from '{root}' ({reason}). Name its folder with --data-root, "
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
        with np.load(file, allow_pickle=False) as data:
            levels, labels = data[f"x_{split}"], data[f"y_{split}"]
        images = torch.from_numpy(levels.reshape(len(levels), 28, 28, 1)).permute(0, 3, 1, 2)
    else:
        from torchvision.datasets import MNIST

        stored = MNIST(str(root), train=split == "train", download=download)
        images, labels = stored.data[:, None], stored.targets.numpy()
    targets = torch.from_numpy(labels.astype(np.int64))
    return Images("mnist", images.contiguous(), targets, 10, (0.1307,), (0.3081,))


def _colour_images(name: str, images: np.ndarray, labels: np.ndarray, classes: int) -> Images:
    levels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    return Images(name, levels, torch.from_numpy(labels.astype(np.int64)), classes, mean, std)


@dataset("cifar10")
def _cifar10(root: Path, split: Split, download: bool) -> Images:
    """`cifar10/train_*.npz` and `cifar10/test.npz` with images (uint8 NHWC) and labels, or torchvision's CIFAR10."""
    files = sorted((root / "cifar10").glob("train_*.npz" if split == "train" else "test.npz"))
    if files:
        parts = []
        for file in files:
            with np.load(file, allow_pickle=False) as data:
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
    """`root/train/<class>/*.png` and `root/test/<class>/*.png`; all images of one size. Streamed if there are many."""
    from torchvision.datasets import ImageFolder

    stored = ImageFolder(str(root / split))
    trained = sorted(path.name for path in (root / "train").iterdir() if path.is_dir())
    if stored.classes != trained:
        raise InputError(f"'{root / split}' and '{root / 'train'}' hold different classes. Give both the same folders")
    labels = np.asarray([label for _, label in stored.samples])
    files = ImageFiles([file for file, _ in stored.samples])
    if np.prod(files.shape) > IN_MEMORY:
        few = _colour_images("folder", np.zeros((0, 1, 1, 3), dtype=np.uint8), labels, len(stored.classes))
        return replace(few, levels=files)
    arrays = [np.asarray(image, dtype=np.uint8) for image, _ in stored]
    sizes = {array.shape for array in arrays}
    if len(sizes) != 1:
        raise InputError(f"images in '{root / split}' differ in size: {sorted(sizes)[:3]}. Resize them to one size")
    return _colour_images("folder", np.stack(arrays), labels, len(stored.classes))
