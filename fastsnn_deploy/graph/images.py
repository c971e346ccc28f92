"""Raw images, as users have them, on the grid of a network's input."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError, wrong_type
from fastsnn_deploy.graph.spike_trains import SpikeReader, SpikeTrains

Int64 = npt.NDArray[np.int64]

PIXEL = 1 / 255
"""Step of pixels 0..255 that stand for 0..1."""

NEEDS = "one array or tensor of numbers, channels first: (N, C, H, W) or one image"


class ImageReader(ABC):
    """Images [N, C, H, W] that lie elsewhere: what takes a batch after the other asks for slices, and holds no more."""

    shape: tuple[int, ...]
    """(N, C, H, W)"""

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def __getitem__(self, index: slice) -> npt.NDArray[np.integer]:
        """Raw images as an input's `encode` takes them."""

    @abstractmethod
    def part(self, chosen: slice) -> ImageReader:
        """Some of them, unread."""


def sliceable(images: Any, dimensions: int, events: bool = False) -> Any:
    """What a slice takes a batch of: an `ImageReader`, or an array with N in front. Raises as `array_of`.

    dimensions: of one image. events: SpikeTrains, or what reads them, will do, too; otherwise they are refused.
    """
    if isinstance(images, (SpikeReader, SpikeTrains)) and not events:
        raise InputError("this takes whole frames, not events one by one. Give the frames: trains.total()")
    if isinstance(images, (ImageReader, SpikeReader, SpikeTrains)):
        return images
    array = images if isinstance(images, np.ndarray) else array_of(images)
    if array.ndim == 0:
        raise wrong_type("images", images, "an array of images, with N in front")
    return array[None] if array.ndim == dimensions else array


def array_of(images: Any, name: str = "the network") -> npt.NDArray[Any]:
    """A NumPy array of numbers, from a tensor of torch or from what NumPy takes.

    Raises InputError for anything without numbers, or with rows of different lengths.
    """
    what = f"images for {name}"
    if hasattr(images, "detach"):
        try:
            tensor = images.detach()
            tensor = tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor
            images = tensor.cpu().numpy()
        except (TypeError, RuntimeError) as error:  # sparse, quantised, or on the meta device
            found = f"a tensor ({images.layout}, {images.dtype}, on '{images.device}')"
            raise InputError(f"{what}: got {found}, needs a dense tensor with values") from error
    try:
        array = np.asarray(images)
    except (TypeError, ValueError) as error:
        found = f"a {type(images).__name__} of things that differ in shape"
        raise InputError(f"{what}: got {found}, needs {NEEDS}") from error
    if array.dtype.kind not in "biufc":
        if isinstance(images, np.ndarray):
            raise InputError(f"{what}: got an array of dtype {array.dtype}, needs {NEEDS}")
        raise wrong_type(what, images, NEEDS)
    if not array.ndim:
        raise InputError(f"{what}: got a single number, needs {NEEDS}")
    return array


def labels_of(labels: Any, images: int, name: str) -> Int64:
    """One class number for each of `images` images, int64 [images].

    Raises InputError for anything else: numbers that are not whole, class names, another number of them.
    """
    try:
        array = np.asarray(labels.detach().cpu().numpy() if hasattr(labels, "detach") else labels)
    except (ValueError, TypeError, RuntimeError):  # rows of different lengths; sparse, or without memory
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "iu" or array.shape != (images,):
        raise InputError(
            f"labels for {name} are {array.dtype} {array.shape}, needs integers ({images},), one for each image. Give "
            "one class number an image"
        )
    return array.astype(np.int64)


def image_shape(shape: Any, lengths: tuple[int, ...] = (1, 3)) -> tuple[int, ...]:
    """The shape of one image as users write it. Raises InputError unless it is (C, H, W) or (N,), positive integers.

    lengths: numbers of dimensions that it may have.
    """
    try:
        sizes = tuple(shape) if isinstance(shape, Iterable) and not isinstance(shape, (str, bytes)) else None
    except TypeError:  # an array of no dimensions
        sizes = None
    if sizes is None or len(sizes) not in lengths or any(type(size) is not int or size < 1 for size in sizes):
        shown = repr(shape) if sizes is None else sizes
        raise InputError(f"input_shape {shown} is not (C, H, W) or (N,) with positive sizes. Leave out the batch")
    return sizes


def levels_of(
    images: Any, *, shape: tuple[int, ...], step: float, low: int, high: int, name: str = "the network"
) -> Int64:
    """Levels of raw images on a grid.

    Args:
        images: NumPy array or torch tensor [N, *shape] or one image [*shape]. Floating point is in units of the data,
            from low * step to high * step; uint8 is pixels 0..255, for a grid of 256 steps of 1/255; other integers
            are levels of the grid; bool is 0 and 1.
        shape: of one image, (C, H, W) or (N,).
        step: real value of one level.
        low: the least level.
        high: the greatest level.
        name: what takes the images, for messages.

    Returns:
        int64 [N, *shape], levels from low to high; real values are rounded half up.

    Raises:
        InputError: wrong shape or channel order, NaN, values outside the grid, images that seem normalised.
    """
    array = _batch(array_of(images, name), shape, name)
    if array.dtype == np.bool_:
        array = array.astype(np.float64)
    if np.issubdtype(array.dtype, np.floating):
        return _rounded(array, step, low, high, name)
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"images for {name} have dtype {array.dtype}. Give uint8 from 0 to 255 or floats from 0 to 1")
    if array.dtype == np.uint8 and not (low == 0 and high == 255 and math.isclose(step, PIXEL)):
        raise InputError(
            f"images for {name} are uint8 pixels, but it takes values from {low * step:g} to {high * step:g} in "
            f"{high - low} steps. Divide the pixels by 255"
        )
    if array.size and (array.min() < low or array.max() > high):
        raise InputError(
            f"integer images for {name} span [{array.min()}, {array.max()}], outside its levels [{low}, {high}]. Give "
            "levels in range, or floating-point images in units of the data"
        )
    return array.astype(np.int64)


def _batch(array: npt.NDArray[Any], shape: tuple[int, ...], name: str) -> npt.NDArray[Any]:
    if array.shape == shape:
        return array[None]
    if array.ndim == len(shape) + 1 and array.shape[1:] == shape:
        return array
    last = array.shape[-len(shape) :] == (*shape[1:], shape[0]) and len(shape) == 3
    fix = "Put the channels first, before height and width" if last else "Give them that shape, channels first"
    raise InputError(
        f"images have shape {array.shape}, but {name} takes (N, {', '.join(map(str, shape))}) or one image. {fix}"
    )


def _rounded(array: npt.NDArray[Any], step: float, low: int, high: int, name: str) -> Int64:
    if not np.isfinite(array).all():
        raise InputError(f"images for {name} hold NaN or infinity. Clean the data")
    levels = np.floor(array.astype(np.float64) / step + 0.5)
    if levels.size and (levels.min() < low or levels.max() > high):  # before they become integers, which would wrap
        least, most = float(array.min()), float(array.max())
        if least < low * step - step / 2:
            fix = "They seem normalised: give raw images, the network knows its mean and std"
        elif most > 2 and most <= 255:
            fix = "They seem to be pixels from 0 to 255: divide them by 255"
        else:
            fix = "Scale them into that range"
        raise InputError(
            f"images for {name} span [{least:.4g}, {most:.4g}], outside [{low * step:g}, {high * step:g}]. {fix}"
        )
    return levels.astype(np.int64)


def images_and_labels(network: Any, images: Any) -> tuple[Any, Any]:
    """(what the network's `encode` takes, labels or None) of images, or of a data set's images."""
    if hasattr(images, "answers"):  # boxes or masks, which are no labels
        return images.images().for_input(network.input), None
    if hasattr(images, "for_input"):
        suited = images.suited(network.metadata)
        return suited.reader(network.input), suited.numbers
    return images, None
