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
    """Stands in for a uint8 tensor [N, C, H, W]; an index gives the tensor of the images that it names.

    files: paths of N images; the first one says H, W and C, which is 1 for a grey image and 3 for a coloured one.
    Nothing is kept. Reading raises InputError naming the file if it is no image, of another size, coloured where the
    first is grey, or of more than 8 bits. A grey image among coloured ones gets three equal channels.
    """

    dtype = torch.uint8

    def __init__(self, files: Sequence[str]) -> None:
        self.files = tuple(files)
        with _opened(self.files[0]) as first:
            self.shape = (len(self.files), 1 if first.mode in GREY else 3, first.height, first.width)

    def dim(self) -> int:
        return 4

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """index: a slice, or integers int64 [n]. Returns uint8 [n, C, H, W]."""
        chosen = np.arange(len(self))[index if isinstance(index, slice) else index.cpu().numpy()]
        found = torch.empty((len(chosen), *self.shape[1:]), dtype=torch.uint8)
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoders leave the interpreter to others
            for i, image in enumerate(pool.map(self._read, chosen.tolist())):
                found[i] = torch.from_numpy(image.reshape(*self.shape[2:], -1)).permute(2, 0, 1)
        return found

    def numpy(self) -> npt.NDArray[np.uint8]:
        """All images, uint8 [N, C, H, W]: needs the memory that this class is there to avoid."""
        return np.asarray(self[:].numpy())

    def _read(self, number: int) -> npt.NDArray[np.uint8]:
        """uint8 [H, W] or [H, W, 3]"""
        file, grey = self.files[number], self.shape[1] == 1
        with _opened(file) as image:
            if grey and image.mode not in GREY:
                raise InputError(
                    f"{file}: is in colour, while '{self.files[0]}' is grey. Save them all in colour or all in grey"
                )
            pixels = np.array(image.convert("L" if grey else "RGB"))
        if pixels.shape[:2] != self.shape[2:]:
            height, width = self.shape[2:]
            raise InputError(
                f"{file}: is not {width}x{height} pixels like '{self.files[0]}': they differ in size. Resize them all"
            )
        return pixels
