"""A class for every pixel: images and masks in one .npz file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.reading import read_arrays
from fastsnn_deploy.tasks.scenes import IGNORED, Scenes, Split
from fastsnn_deploy.tasks.sources.base import UNCOUNTED, source, split_of


@source(
    "npz", "segmentation", "x_train, y_train, x_test, y_test (or images, masks) and classes in an .npz file",
    lambda path: path.is_file() and path.suffix == ".npz",
)  # fmt: skip
def read(path: Path, split: Split) -> Scenes:
    """Images uint8 [N, H, W, 3], masks of integers [N, H, W], names of classes; 255, and classes named "unlabelled",
    "void" or "ignore", do not count.
    """
    held = read_arrays(path)
    pairs = (((f"x_{split}", f"y_{split}"), True), (("images", "masks"), False), (("x", "y"), False))
    names, alone = next(((names, own) for names, own in pairs if all(n in held for n in names)), ((), True))
    if not names:
        raise InputError(f"{path}: holds {', '.join(held)}. Name its arrays x_train, y_train, x_test, y_test, classes")
    levels, masks = (held.numbers(name) for name in names)
    classes = tuple(map(str, held["classes"].reshape(-1))) if "classes" in held else ()
    fit = levels.dtype == np.uint8 and levels.shape == (*masks.shape, 3) and masks.dtype.kind in "iu"
    if not fit or not len(levels):
        raise InputError(
            f"{path}: images are {levels.dtype} {levels.shape}, masks {masks.dtype} {masks.shape}. Give images uint8 "
            "(N, H, W, 3) and masks of integers (N, H, W)"
        )
    counted = masks[masks != IGNORED]
    highest = int(counted.max(initial=0))
    classes = classes or tuple(map(str, range(highest + 1)))
    if highest >= len(classes) or counted.min(initial=0) < 0:
        raise InputError(
            f"{path}: masks reach to {highest}, but {len(classes)} classes have names. Name all in classes"
        )
    kept = [name for name in classes if name.lower() not in UNCOUNTED]
    table = np.full(IGNORED + 1, IGNORED, dtype=np.uint8)
    for number, name in enumerate(classes):
        table[number] = kept.index(name) if name in kept else IGNORED
    images = np.ascontiguousarray(levels.transpose(0, 3, 1, 2))
    chosen: Tensor = torch.arange(len(images)) if alone else torch.tensor(split_of(range(len(images)), split))
    return Scenes(path.stem, torch.from_numpy(images)[chosen], tuple(kept), torch.from_numpy(table[masks])[chosen])
