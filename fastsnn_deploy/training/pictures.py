"""Pictures in files, archives, tables and data sets of others, preprocessed as torchvision and timm do it."""

from __future__ import annotations

import copy
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.graph.preprocessing import Preprocessing
from fastsnn_deploy.training.stored import Int64, Stored

if TYPE_CHECKING:
    from torch import Tensor

    from fastsnn_deploy.training.stored import Index

GREY = ("1", "L", "LA")
"""Pillow's modes of images without colour."""

EIGHT_BITS = (*GREY, "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "PA", "La", "RGBa")
"""Those whose pixels have 8 bits a channel at most; the others would be cut off."""

SHOWN = 20
"""So many pictures that cannot be used are named."""

AT_ONCE = 64
"""Pictures that are decoded before they go into the result."""


class Items(Protocol):
    """Pictures by number. parallel: several threads may open them. cheap: opening one does not read all of it.

    mode: of Pillow, that of images whose preprocessing names no channels.
    """

    parallel: bool
    cheap: bool
    mode: str

    def __len__(self) -> int: ...

    def open(self, number: int) -> Image.Image:
        """The picture, perhaps not decoded yet; raises OSError or ValueError if it is none."""

    def where(self, number: int) -> str:
        """What messages call it."""


class Files:
    """Pictures in files of their own."""

    parallel = cheap = True
    mode = "RGB"

    def __init__(self, files: Sequence[str]) -> None:
        self.files = tuple(files)

    def __len__(self) -> int:
        return len(self.files)

    def open(self, number: int) -> Image.Image:
        return Image.open(self.files[number])

    def where(self, number: int) -> str:
        return self.files[number]


class FileBytes:
    """Pictures as the bytes of their files. read: bytes by number; where: what messages call one."""

    parallel, cheap, mode = True, False, "RGB"

    def __init__(self, count: int, read: Callable[[int], bytes], where: Callable[[int], str]) -> None:
        self.count, self.read, self.where = count, read, where

    def __len__(self) -> int:
        return self.count

    def open(self, number: int) -> Image.Image:
        return Image.open(io.BytesIO(self.read(number)))


class Made:
    """Pictures that a function makes one after the other: of a data set of torch, or of arrays.

    picture: by number; where: what messages call one.
    """

    parallel = cheap = False

    def __init__(
        self, count: int, picture: Callable[[int], Image.Image], where: Callable[[int], str], mode: str = "RGB"
    ) -> None:
        self.count, self.open, self.where, self.mode = count, picture, where, mode

    def __len__(self) -> int:
        return self.count


def of_arrays(pixels: npt.NDArray[np.uint8] | Tensor, name: str) -> Made:
    """Arrays [N, C, H, W] of 8-bit pixels, 1 or 3 channels, as pictures."""
    array = np.asarray(pixels)
    return Made(
        len(array),
        lambda n: Image.fromarray(array[n, 0] if array.shape[1] == 1 else array[n].transpose(1, 2, 0).copy()),
        lambda n: f"{name}: image {n}",
        "L" if array.shape[1] == 1 else "RGB",
    )


MOST_PIXELS = 2**26
"""Of one picture. A file of a few bytes can claim to have any number."""


def require_size(image: Image.Image, most: int = MOST_PIXELS) -> None:
    """Raise ValueError for a picture of too many pixels, before they take memory."""
    if image.width * image.height > most:
        raise ValueError(f"has {image.width:,} x {image.height:,} pixels, more than {most:,}. Scale it down")


class _UnusableError(ValueError):
    """A picture that is decoded but of no use. fix: what to do about it."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


@contextmanager
def _opened(items: Items, number: int) -> Iterator[Image.Image]:
    with items.open(number) as image:
        require_size(image)
        if image.mode not in EIGHT_BITS:
            raise _UnusableError(f"has pixels of mode {image.mode}", "Save it with 8 bits a channel")
        if isinstance(image.info.get("transparency"), bytes):  # it goes, and Pillow would warn of it
            del image.info["transparency"]
        yield image


class Pictures(Stored):
    """Pictures as images of one size.

    items: where they are. chosen: int64 [N], which of them. wanted: what is done to each; without a size there, the
    first picture says it. grey: whether the first one has no colour. Colour is as `Image.convert` gives it, as in
    torchvision's own loader: transparency goes, and what a camera says about the rotation is not looked at.

    Reading raises InputError naming all pictures of these that cannot be used: no image, cut off, another size, more
    than 8 bits a channel.
    """

    def __init__(self, items: Items, chosen: Int64 | None = None, wanted: Preprocessing | None = None) -> None:
        self.items, self.wanted = items, wanted or Preprocessing()
        self.chosen = np.arange(len(items)) if chosen is None else chosen
        self.checked = False
        self.mode = {None: items.mode, "L": "L"}.get(self.wanted.channels, "RGB")
        self.first, size = self._first_usable()
        self.shape = (len(self.chosen), len(self.mode), *self._size(size))
        if self.first != self.chosen[0]:
            self._raise(self._header)

    def _first_usable(self) -> tuple[int, tuple[int, int]]:
        """(number, height and width) of the first picture that can be opened; sets `grey`. Raises InputError."""
        problems = []
        for number in self.chosen[: SHOWN + 1].tolist():
            try:
                with _opened(self.items, number) as image:
                    self.grey = image.mode in GREY and self.mode != "L"
                    return number, (image.height, image.width)
            except Exception as error:  # whatever a damaged picture may set off
                problems.append(_problem(self.items, number, error))
        raise self._told(problems)

    def _size(self, size: tuple[int, int]) -> tuple[int, int]:
        resize = self.wanted.resize
        if isinstance(resize, int):  # as torchvision scales the shorter side
            short, long = sorted(size)
            scaled = (resize, int(resize * long / short))
            size = scaled if size[0] <= size[1] else scaled[::-1]
        return self.wanted.crop or (resize if isinstance(resize, tuple) else size)

    def select(self, index: Index) -> Pictures:
        found = copy.copy(self)
        found.chosen = self._numbers(index)
        found.shape = (len(found.chosen), *self.shape[1:])
        return found

    def preprocessed(self, wanted: Preprocessing) -> Pictures:
        return self if wanted.geometry() == self.wanted.geometry() else Pictures(self.items, self.chosen, wanted)

    def check(self) -> None:
        if not self.checked and self.items.cheap:
            self._raise(self._header)
        self.checked = True

    def _read(self, numbers: Int64) -> npt.NDArray[np.uint8]:
        found = np.empty((len(numbers), *self.shape[1:]), dtype=np.uint8)
        order = np.argsort(numbers, kind="stable")  # as they lie in their files
        try:
            for place, image in zip(order.tolist(), self._each(self._picture, numbers[order].tolist()), strict=True):
                found[place] = image
        except Exception:  # look at all of them, to name all that are like this one
            self._raise(self._picture)
            raise
        return found

    def _each(self, function: Callable[[int], Any], numbers: Sequence[int]) -> Iterable[Any]:
        if not self.items.parallel or len(numbers) < 2:
            yield from map(function, numbers)
            return
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoders leave the interpreter to others
            for start in range(0, len(numbers), AT_ONCE):
                yield from pool.map(function, numbers[start : start + AT_ONCE])

    def _raise(self, look: Callable[[int], Any]) -> None:
        """Raise InputError if there are pictures that `look` fails on."""

        def problem(number: int) -> Problem | None:
            try:
                look(number)
            except Exception as error:  # whatever a damaged picture may set off
                return _problem(self.items, number, error)
            return None

        found = list(islice(filter(None, self._each(problem, self.chosen.tolist())), SHOWN + 1))
        if found:
            raise self._told(found)

    def _told(self, found: Sequence[Problem]) -> InputError:
        if len(found) == 1:
            return InputError(str(found[0]))
        count = f"more than {SHOWN}" if len(found) > SHOWN else str(len(found))
        return InputError(f"{count} of {len(self.chosen):,} images cannot be used", found[:SHOWN])

    def _header(self, number: int) -> None:
        with _opened(self.items, number) as image:
            self._require(self._size((image.height, image.width)))

    def _require(self, size: tuple[int, ...]) -> None:
        if size != self.shape[2:]:
            height, width = self.shape[2:]
            raise _UnusableError(
                f"is not {width}x{height} pixels like '{self.items.where(self.first)}': they differ in size",
                "Resize them all, or say --preprocess resize=256,crop=224 (of your choice)",
            )

    def _picture(self, number: int) -> npt.NDArray[np.uint8]:
        """uint8 [C, H, W]"""
        with _opened(self.items, number) as image:
            made = transformed(image.convert(self.mode), self.wanted)
        self._require((made.height, made.width))
        array = np.array(made)
        array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
        return array[::-1].copy() if self.wanted.channels == "BGR" else array


def transformed(image: Image.Image, wanted: Preprocessing) -> Image.Image:
    """A picture resized and cropped by torchvision's own functions."""
    if wanted.resize is None and wanted.crop is None:
        return image
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as F

    if wanted.resize is not None:
        size = [wanted.resize] if isinstance(wanted.resize, int) else list(wanted.resize)
        image = F.resize(image, size, InterpolationMode(wanted.interpolation))
    return image if wanted.crop is None else F.center_crop(image, list(wanted.crop))


def _problem(items: Items, number: int, error: Exception) -> Problem:
    where = items.where(number)
    if isinstance(error, _UnusableError):
        return Problem(where, str(error), error.fix)
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return Problem(where, f"cannot be read as an image ({reason:.200})", "Remove or replace it")
