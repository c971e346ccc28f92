"""Data sets by names of this program: scikit-learn's digits, MNIST and CIFAR-10. Another one is a function decorated
with `@dataset`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from fastsnn_deploy.reading import read_arrays
from fastsnn_deploy.training.images import Images, Split, arrays
from fastsnn_deploy.training.sources.base import Wanted, source
from fastsnn_deploy.training.unpacked import Unpacked

Loader = Callable[[Path, Split, bool], Images]

DATASETS: dict[str, Loader] = {}
"""Every data set by name."""

STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "mnist": ((0.1307,), (0.3081,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}
"""Mean and standard deviation of the training images, per channel."""

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DIGITS = tuple("0123456789")


def dataset(name: str) -> Callable[[Loader], Loader]:
    """Register loader(root, split, download) under a name."""

    def decorator(loader: Loader) -> Loader:
        DATASETS[name] = loader
        return loader

    return decorator


@source("a name", lambda wanted: wanted.name in DATASETS)
def read_named(wanted: Wanted) -> Images:
    """One of `fastsnn-deploy list data`."""
    return DATASETS[wanted.name](wanted.root, wanted.split, wanted.download)


@dataset("digits")
def _digits(root: Path, split: Split, download: bool) -> Images:
    """1,797 digits of 8x8 pixels with levels 0-16, shipped with scikit-learn; every fifth is a test image."""
    from sklearn.datasets import load_digits

    data = load_digits()
    test = np.arange(len(data.images)) % 5 == 0
    chosen = test if split == "test" else ~test
    held = arrays(data.images[chosen].astype(np.uint8)[:, None], data.target[chosen].astype(np.int64))
    return Images("digits", *held, 10, (0.305,), (0.376,), step=1 / 16, highest=16, class_names=DIGITS)


@dataset("mnist")
def _mnist(root: Path, split: Split, download: bool) -> Images:
    """`mnist.npz` with x_train, y_train, x_test, y_test (uint8 NHWC), or torchvision's MNIST."""
    file = root / "mnist.npz"
    if file.exists():
        data = read_arrays(file)
        images, labels = data.numbers(f"x_{split}"), data.numbers(f"y_{split}", "iu")
        images = images.reshape(len(images), 1, 28, 28)
    else:
        from torchvision.datasets import MNIST

        stored = MNIST(str(root), train=split == "train", download=download)
        images, labels = stored.data[:, None].numpy(), stored.targets.numpy()
    return Images("mnist", *arrays(images, labels.astype(np.int64)), 10, *STATISTICS["mnist"], class_names=DIGITS)


@dataset("cifar10")
def _cifar10(root: Path, split: Split, download: bool) -> Images:
    """`cifar10/train_*.npz` and `cifar10/test.npz` with images (uint8 NHWC) and labels, or torchvision's CIFAR10."""
    files = sorted((root / "cifar10").glob("train_*.npz" if split == "train" else "test.npz"))
    if files:
        labels = []
        for file in files:
            labels.append(read_arrays(file).numbers("labels", "iu"))
        held = arrays(Unpacked(files, "images"), np.concatenate(labels).astype(np.int64))
    else:
        from torchvision import datasets

        stored = datasets.CIFAR10(str(root), train=split == "train", download=download)
        images = np.ascontiguousarray(stored.data.transpose(0, 3, 1, 2))
        held = arrays(images, np.asarray(stored.targets).astype(np.int64))
    return Images("cifar10", *held, 10, *STATISTICS["cifar10"], class_names=CIFAR10)
