"""The images of a search: some set steps, others judge, none do both."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastsnn_deploy.errors import InputError, wrong_type
from fastsnn_deploy.graph.images import PIXEL, array_of, labels_of, levels_of
from fastsnn_deploy.training.images import Images, apart


def labelled(data: Any, name: str) -> Images:
    """Labelled images, from what `load_data` gives or (images, labels): pixels, uint8 or floats from 0 to 1.

    Raises InputError for anything else.
    """
    if isinstance(data, Images):
        return data
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise wrong_type(name, data, "(images, labels), or what fd.load_data gives")
    array = array_of(data[0], name)
    if array.ndim not in (2, 4) or not len(array):
        raise InputError(f"{name}: images are {list(array.shape)}, needs [N, C, H, W] or [N, values], one at least")
    levels = levels_of(array, shape=array.shape[1:], step=PIXEL, low=0, high=255, name=name)
    labels = torch.from_numpy(labels_of(data[1], len(array), name))
    if int(labels.min()) < 0:
        raise InputError(f"{name}: labels begin at {int(labels.min())}. Number the classes from 0")
    channels = array.shape[1]
    return Images(
        name, torch.from_numpy(levels.astype(np.uint8)), labels, int(labels.max()) + 1, (0.0,) * channels,
        (1.0,) * channels,
    )  # fmt: skip


def split(images: Images, judges: Images | None, judging: int, teaching: int, seed: int) -> tuple[Images, Tensor]:
    """(images that judge, raw images that set steps as float32 [N, ...]), always the same ones for one seed.

    judges: those that judge, of which the first so many are taken; None: of the training images, which then do nothing
    else. Raises InputError if there are too few.
    """
    needed = [(images, teaching + (judging if judges is None else 0)), *([] if judges is None else [(judges, judging)])]
    for given, count in needed:
        if count > len(given.labels):
            raise InputError(
                f"{given.described}: {len(given.labels):,} images are too few, {count:,} are needed. Ask for fewer "
                "that judge (samples, --samples) or that set steps (images, --images)"
            )
    rest = images
    if judges is None:
        rest, judges = apart(images, judging, seed)
    judges = judges.select(slice(0, judging))
    chosen = torch.randperm(len(rest.labels), generator=torch.Generator().manual_seed(seed))[:teaching]
    return judges, rest.raw(chosen)
