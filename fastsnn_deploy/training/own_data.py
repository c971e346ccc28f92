"""Arrays of the user's own as labelled images."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph.images import array_of
from fastsnn_deploy.training.images import Images, arrays
from fastsnn_deploy.training.stored import RealValues

CHANNELS = (1, 3)


def images_of(
    images: Any, labels: Any, name: str, classes: int | None = None, class_names: tuple[str, ...] = ()
) -> Images:
    """Arrays as a data set: pixels of 8 bits, or real values.

    Args:
        images: [N, C, H, W], [N, H, W, C] with 1 or 3 channels, or [N, H, W]; uint8, or float from 0 to 1 unless the
            network's own grid is another one.
        labels: integers [N].
        name: of the data set.
        classes: how many there are; None for the greatest label and one.
        class_names: their names, () where nobody says.

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
    known = max(int(numbers.max()) + 1 if classes is None else classes, len(class_names))
    plain = (0.0,) * pixels.shape[1], (1.0,) * pixels.shape[1]
    levels = (
        np.ascontiguousarray(pixels)
        if pixels.dtype == np.uint8
        else RealValues(lambda numbers: pixels[numbers], np.arange(len(pixels)), pixels.shape[1:], name)
    )
    held = arrays(levels, numbers.reshape(-1).astype(np.int64))
    return Images(name, *held, known, *plain, class_names=class_names)
