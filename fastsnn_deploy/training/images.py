"""Labelled images on a grid of integers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph.images import PIXEL, ImageReader, levels_of
from fastsnn_deploy.graph.nodes import Input
from fastsnn_deploy.graph.preprocessing import Preprocessing, shape_words
from fastsnn_deploy.graph.spike_trains import BIN_US, SpikeReader, spike_trains
from fastsnn_deploy.training.event_frames import EventFrames, TrainReader
from fastsnn_deploy.training.pictures import Pictures, of_arrays
from fastsnn_deploy.training.stored import RealValues, Stored
from fastsnn_deploy.training.unpacked import Unpacked

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fastsnn_deploy.training.stored import Index

Split = Literal["train", "test"]

IN_MEMORY = 2**30
"""Bytes of a data set that training reads but once; larger ones are read from their files again and again."""

SHOWN = 5


class Steps(Protocol):
    """Integers that stand for real values."""

    @property
    def step(self) -> float: ...
    @property
    def low(self) -> int: ...
    @property
    def high(self) -> int: ...


class Grid(Steps, Protocol):
    """Images of such integers, as a network's `Input` has them."""

    @property
    def shape(self) -> tuple[int, ...]: ...


class _Tensor:
    """A field that keeps what it was given, and is a tensor when it is read: who reads arrays needs no PyTorch."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, images: Images | None, kind: type | None = None) -> Any:
        if images is None:
            raise AttributeError(self.name)
        found = images.__dict__[self.name]
        if isinstance(found, (np.ndarray, Unpacked)):
            import torch

            found = images.__dict__[self.name] = torch.from_numpy(np.ascontiguousarray(found[:]))
        return found

    def __set__(self, images: Images, value: Any) -> None:
        images.__dict__[self.name] = value


def arrays(
    levels: npt.NDArray[Any] | Unpacked | Stored, labels: npt.NDArray[np.int64]
) -> tuple[Tensor | Stored, Tensor]:
    """`levels` and `labels` of an `Images` from NumPy, which become tensors when somebody reads them as such."""
    return cast("tuple[Tensor | Stored, Tensor]", (levels, labels))


@dataclass(frozen=True)
class Images:
    """levels: uint8 [N, C, H, W]; labels: int64 [N]. A level times `step` is the raw value, `highest` the top level.

    Levels that stay in their files are `Stored`, which reads what an index asks for. On a grid that the user gives
    (`preprocessing`) they may be int32, and begin below 0, at `lowest`. `array` and `numbers` give levels and labels
    without PyTorch.

    mean, std: per channel, of raw values over the training images; what networks are normalised with. 0 and 1 where
    nothing is known. grey: the three channels are equal, because the files hold grey images. class_names: in the order
    of the labels, () where nobody says. chosen: what the user asked to be done to each picture.
    """

    name: str
    levels: Tensor | Stored
    labels: Tensor
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    step: float = PIXEL
    highest: int = 255
    grey: bool = False
    lowest: int = 0
    class_names: tuple[str, ...] = ()
    chosen: Preprocessing | None = None

    @property
    def described(self) -> str:
        """What messages call it."""
        return f"data set '{self.name}'" + (
            ", whose images are grey and have three equal channels" if self.grey else ""
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image."""
        return tuple(self._kept("levels").shape[1:])

    @property
    def count(self) -> int:
        """N, of images."""
        return int(self._kept("levels").shape[0])

    @property
    def real(self) -> bool:
        """Whether they are real values, which are rounded when they are read."""
        return isinstance(self._kept("levels"), RealValues)

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """The labels as NumPy, int64 [N]."""
        labels = self._kept("labels")
        return labels if isinstance(labels, np.ndarray) else np.asarray(labels.cpu().numpy())

    def array(self, index: Index = slice(None)) -> npt.NDArray[Any]:
        """Chosen levels as NumPy, [n, C, H, W]."""
        levels = self._kept("levels")
        if isinstance(levels, Stored):
            return levels.array(index)
        if isinstance(levels, (np.ndarray, Unpacked)) and isinstance(index, (slice, np.ndarray)):
            return levels[index]
        return np.asarray(self.levels[index].cpu().numpy())

    def _kept(self, name: str) -> Any:
        """`levels` or `labels` as they were given."""
        return self.__dict__[name]

    def _with(self, **changes: Any) -> Images:
        """`dataclasses.replace` that makes no tensors."""
        return replace(self, **{name: self._kept(name) for name in ("levels", "labels")} | changes)

    @property
    def preprocessing(self) -> Preprocessing:
        """What has been done to these images, and what their numbers mean: what a network for them is stored with."""
        levels = self._kept("levels")
        done = levels.wanted if isinstance(levels, Pictures) else self.chosen or Preprocessing()
        return replace(
            done, step=self.step, levels=(self.lowest, self.highest), mean=self.mean, std=self.std,
            classes=self.class_names,
        )  # fmt: skip

    def raw(self, index: Index) -> Tensor:
        """Chosen images as float32 in units of the data, [n, C, H, W]."""
        return self.levels[index].float() * self.step

    def select(self, index: Index) -> Images:
        """Some of the images; those in files stay there, unread."""
        levels, labels = self._kept("levels"), self._kept("labels")
        plain = isinstance(index, (slice, np.ndarray))
        if isinstance(levels, Stored) or (isinstance(levels, Unpacked) and isinstance(index, slice)):
            levels = levels.select(index)  # type: ignore[arg-type]
        else:
            levels = (levels if plain else self.levels)[index]
        return self._with(levels=levels, labels=(labels if plain else self.labels)[index])

    def check(self) -> None:
        """Raise InputError naming every image that is known, without decoding it, to be of no use."""
        levels = self._kept("levels")
        if isinstance(levels, Stored):
            levels.check()

    def held(self) -> Images:
        """The same images in memory, read but once, if they are not too many."""
        levels = self._kept("levels")
        if not isinstance(levels, Stored) or math.prod(levels.shape) > IN_MEMORY:
            return self
        found = levels.numpy()
        grey = self.grey and bool((found == found[:, :1]).all())
        return self._with(levels=found, grey=grey, chosen=self.preprocessing)

    def preprocessed(self, wanted: Preprocessing) -> Images:
        """The images with something else done to each, and with the mean, std and classes that go with it.

        Pixels keep their grid, real values get the wanted one. Raises InputError if they are no pictures and have not
        the size already, and for classes that the wanted ones do not have.
        """
        levels, grid = self._kept("levels"), (self.step, (self.lowest, self.highest))
        if isinstance(levels, RealValues):
            levels, grid = levels.preprocessed(wanted), (wanted.step, wanted.levels)
            self._require_size(wanted)
        elif isinstance(levels, Pictures):
            levels = levels.preprocessed(wanted)
        elif wanted.moves and wanted.geometry() != self.preprocessing.geometry():
            if self._are_pixels:
                levels = Pictures(of_arrays(self.array(), f"data set '{self.name}'"), wanted=wanted)
            else:
                self._require_size(wanted)
        made = self._with(
            levels=levels, step=grid[0], lowest=grid[1][0], highest=grid[1][1], mean=wanted.mean, std=wanted.std,
            chosen=wanted,
        )  # fmt: skip
        return made.relabelled(wanted.classes)

    @property
    def _are_pixels(self) -> bool:
        grid = (self.lowest, self.highest) == (0, 255) and math.isclose(self.step, PIXEL)
        return grid and self.shape[0] in (1, 3) and self.kind == "uint8"

    @property
    def kind(self) -> str:
        """Name of the levels' type, as uint8."""
        return str(self._kept("levels").dtype).removeprefix("torch.")

    def _require_size(self, wanted: Preprocessing) -> None:
        """Raise InputError unless images that cannot be resized have the wanted size already."""
        _, height, width = self.shape
        size = wanted.crop or (wanted.resize if isinstance(wanted.resize, tuple) else None)
        if (size or (height, width)) != (height, width) or wanted.resize not in (None, size, min(height, width)):
            raise InputError(
                f"{self.described}: its values are no 8-bit pixels, which could be resized. Give images of the size "
                f"{shape_words(size or wanted.resize or (height, width))}"
            )

    def relabelled(self, wanted: tuple[str, ...]) -> Images:
        """Labels by the names of the wanted classes, where both sides have names; a warning says what differed.

        Raises InputError naming the classes of images that are not among the wanted ones.
        """
        own = self.class_names
        if not wanted or own == wanted:
            return self
        if not own:
            return self._with(class_names=wanted, classes=max(self.classes, len(wanted)))
        present = sorted(set(self.numbers.tolist()))
        names = [own[label] for label in present]
        if foreign := [name for name in names if name not in wanted]:
            raise InputError(
                f"{self.described}: {len(foreign)} of its {len(names)} classes are none of the network's "
                f"({_some(foreign)}; the network has {_some(wanted)}). Give them the network's names, or take the "
                "numbers of the labels as they are with --preprocess classes=none"
            )
        number = {name: place for place, name in enumerate(wanted)}
        mapping = np.asarray([number.get(name, 0) for name in own], dtype=np.int64)
        missing = [name for name in wanted if name not in names]
        said = f"has {len(names)} of the network's {len(wanted)} classes, without {_some(missing)}" if missing else (
            "names its classes in another order than the network"
        )  # fmt: skip
        warnings.warn(f"{self.described} {said}; labels follow the names", UserWarning, stacklevel=2)
        return self._with(labels=mapping[self.numbers], classes=len(wanted), class_names=wanted)

    def suited(self, metadata: Mapping[str, Any]) -> Images:
        """The images as a network's metadata say that it takes them: preprocessing and order of classes.

        What the user has chosen stays; a warning says where it is not the network's.
        """
        stored = Preprocessing.of(metadata)
        if stored is None:
            return self
        if self.chosen is None:
            return self.preprocessed(stored)
        own, theirs = self.chosen.geometry(), stored.geometry()
        if differing := [f"{name} {own[name]} in place of {theirs[name]}" for name in own if own[name] != theirs[name]]:
            what = f"{self.described}: not preprocessed as the network says: {', '.join(differing)}"
            warnings.warn(what, UserWarning, stacklevel=2)
        return self.relabelled(stored.classes)

    def for_input(self, target: Grid, index: Index = slice(None)) -> npt.NDArray[np.integer]:
        """Chosen images as levels of a network's input. It may have another grid: real values stay what they are.

        Args:
            target: the network's input.
            index: which images.

        Returns:
            [n, C, H, W], uint8 where both have the grid of 8-bit pixels, else int64.

        Raises:
            InputError: the network takes images of another shape, or of a smaller range.
        """
        name, levels = f"the network ({self.described})", self._kept("levels")
        shape, step, low, high = tuple(target.shape), target.step, target.low, target.high

        def checked(images: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
            return levels_of(images, shape=shape, step=step, low=low, high=high, name=name)

        if isinstance(levels, RealValues):
            found = levels.preprocessed(Preprocessing(step=step, levels=(low, high))).array(index)
            return checked(found.astype(np.int64))
        found = self.array(index)
        if not math.isclose(step, self.step) or low > self.lowest or high < self.highest:
            return checked(found.astype(np.float64) * self.step)
        checked(found[:1].astype(np.int64))  # of the right shape
        pixels = high == 255 and math.isclose(step, PIXEL) and found.dtype == np.uint8
        return found if pixels else found.astype(np.int64)

    def reader(self, target: Grid) -> ImageReader:
        """All images as `for_input` gives them, unread: whoever takes them asks for a slice at a time.

        Raises InputError as `for_input` does for the first image, and for files that are known to be of no use.
        """
        self.for_input(target, slice(0, 1))
        self.check()
        levels = self._kept("levels")
        if isinstance(levels, Unpacked):
            levels.begin()
        return _Reader(self, target)

    def spikes(self, target: Input, bin_us: float = BIN_US) -> SpikeReader:
        """All recordings of an event camera as the spikes of a network's input, unread: one event is one spike.

        Args:
            target: the network's input, `graph.input`.
            bin_us: microseconds of a time step.

        Raises:
            InputError: these are images, or the network does not count events.
        """
        if not isinstance(self.levels, EventFrames):
            raise InputError(f"{self.described}: holds images, no events. Name a data set of events (docs/events.md)")
        spike_trains([], target, bin_us)  # raises before anything is read
        return TrainReader(self.levels, target, bin_us)

    def to(self, device: torch.device) -> Images:
        """The same images with levels and labels in the memory of a device; images in files stay there."""
        levels = self.levels if isinstance(self.levels, Stored) else self.levels.to(device)
        return replace(self, levels=levels, labels=self.labels.to(device))


for _name in ("levels", "labels"):
    setattr(Images, _name, _Tensor(_name))


class _Reader(ImageReader):
    def __init__(self, images: Images, target: Grid) -> None:
        self.images, self.target = images, target
        self.shape = (len(images.numbers), *images.shape)

    def __getitem__(self, index: slice) -> npt.NDArray[np.integer]:
        return self.images.for_input(self.target, index)

    def part(self, chosen: slice) -> ImageReader:
        return _Reader(self.images.select(chosen), self.target)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def apart(images: Images, count: int, seed: int) -> tuple[Images, Images]:
    """(all but `count` images, those `count`), the same ones for one seed.

    Raises InputError if so many cannot be kept apart.
    """
    found = len(images.labels)
    if count >= found:
        raise InputError(f"{images.described}: {count} training images cannot be held out: it has {found}")
    import torch

    order = torch.randperm(found, generator=torch.Generator().manual_seed(seed)).to(images.labels.device)
    first, second = order[count:].sort().values, order[:count].sort().values
    return images.select(first), images.select(second)
