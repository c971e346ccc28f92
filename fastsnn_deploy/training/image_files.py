"""Images that stay in their files until they are asked for, for data sets larger than memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from fastsnn_deploy.errors import InputError

GREY = ("1", "L", "LA")
"""Pillow's modes of images without colour."""

EIGHT_BITS = (*GREY, "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "PA", "La", "RGBa")
"""Those whose pixels have 8 bits a channel at most; the others would be cut off."""


@contextmanager
def _opened(file: str) -> Iterator[Image.Image]:
    """An image of 8 bits. Raises InputError naming the file for anything else."""
    try:
        with Image.open(file) as image:
            if image.mode not in EIGHT_BITS:
                raise InputError(f"{file}: has pixels of mode {image.mode}. Save it with 8 bits a channel")
            yield image
    except (OSError, Image.DecompressionBombError) as error:
        raise InputError(f"{file}: cannot be read as an image ({error}). Remove or replace it") from error


class ImageFiles:
    """Stands in for a uint8 tensor [N, 3, H, W]; an index gives the tensor of the images that it names.

    files: paths of N images; the first one says H and W. Nothing is kept. Grey images get three equal channels; grey:
    whether the first one is. Reading raises InputError naming the file if it is no image, of another size, or of more
    than 8 bits a channel.
    """

    dtype = torch.uint8

    def __init__(self, files: Sequence[str]) -> None:
        self.files = tuple(files)
        with _opened(self.files[0]) as first:
            self.shape = (len(self.files), 3, first.height, first.width)
            self.grey = first.mode in GREY

    def dim(self) -> int:
        return 4

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """index: a slice, or integers int64 [n]. Returns uint8 [n, 3, H, W]."""
        chosen = np.arange(len(self))[index if isinstance(index, slice) else index.cpu().numpy()]
        found = torch.empty((len(chosen), *self.shape[1:]), dtype=torch.uint8)
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoders leave the interpreter to others
            for i, image in enumerate(pool.map(self._read, chosen.tolist())):
                found[i] = torch.from_numpy(image).permute(2, 0, 1)
        return found

    def numpy(self) -> npt.NDArray[np.uint8]:
        """All images, uint8 [N, 3, H, W]: needs the memory that this class is there to avoid."""
        return np.asarray(self[:].numpy())

    def _read(self, number: int) -> npt.NDArray[np.uint8]:
        """uint8 [H, W, 3]"""
        file = self.files[number]
        with _opened(file) as image:
            pixels = np.array(image.convert("RGB"))
        if pixels.shape[:2] != self.shape[2:]:
            height, width = self.shape[2:]
            raise InputError(
                f"{file}: is not {width}x{height} pixels like '{self.files[0]}': they differ in size. Resize them all"
            )
        return pixels
