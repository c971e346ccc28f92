"""What reads annotated images: a source finds out what its files say, `collected` makes `Scenes` of it.

A source is one file that decorates a function with `@source`. Everything wrong is gathered, and told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.tasks.scenes import IGNORED, Scenes, Split, drawn_boxes
from fastsnn_deploy.training.pictures import require_size

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".webp")
"""Of image files."""

NAMES = {"train": ("train",), "test": ("test", "val", "valid", "validation")}
"""What a split may be called."""

FIFTH = 5
"""What has no split of its own: one image of so many is a test image."""

UNCOUNTED = ("unlabelled", "unlabeled", "void", "ignore", "ignored")
"""Names of classes whose pixels do not count."""

MOST = 20
"""Problems that one message names."""

Size = tuple[int, int]
"""(height, width)"""

Corners = tuple[float, float, float, float]
"""left, top, right, bottom in pixels of the file"""


@dataclass(frozen=True)
class BoxItem:
    """An image file and its boxes (class, corners). where: the file that says so."""

    image: Path
    boxes: tuple[tuple[str, Corners], ...]
    where: Path


@dataclass(frozen=True)
class MaskItem:
    """An image file and the reader of its mask: class numbers, int64 [H, W]. where: the mask's file."""

    image: Path
    mask: Callable[[], npt.NDArray[np.int64]]
    where: Path


@dataclass
class Listing:
    """What the files of one split say. problems: what is wrong with them, so far. named: classes are not numbers."""

    classes: tuple[str, ...]
    items: list[Any]
    problems: list[Problem] = field(default_factory=list)
    named: bool = True


@dataclass(frozen=True)
class Source:
    """A layout of files. about: what the user has to put there; holds: whether a file or folder looks like it."""

    name: str
    task: str
    about: str
    holds: Callable[[Path], bool]
    read: Callable[[Path, Split], Listing | Scenes]


SOURCES: dict[str, Source] = {}
"""Every layout by name."""

Read = Callable[[Path, Split], Listing | Scenes]


def source(name: str, task: str, about: str, holds: Callable[[Path], bool]) -> Callable[[Read], Read]:
    """Register read(path, split) as a source; fields as in `Source`."""

    def decorator(read: Read) -> Read:
        SOURCES[name] = Source(name, task, about, holds, read)
        return read

    return decorator


# what sources share


def image_file(folders: Iterable[Path], name: str) -> Path:
    """Where an image lies, its ending given or not; where it should lie if it is nowhere."""
    places = list(folders)
    for folder in places:
        for ending in ("", *ENDINGS, *(each.upper() for each in ENDINGS)):
            if (file := folder / f"{name}{ending}").is_file():
                return file
    return places[0] / name


def images_in(folder: Path) -> list[Path]:
    """Image files of a folder by name."""
    return sorted(file for file in folder.glob("*") if file.suffix.lower() in ENDINGS)


def listed(folder: Path, split: Split) -> list[str] | None:
    """Names of the images of a split, from train.txt, trainval.txt, val.txt and test.txt; None without such lists.

    The lists lie in the folder itself or in VOC's ImageSets/Main or ImageSets/Segmentation.
    """
    for place in (folder, folder / "ImageSets" / "Main", folder / "ImageSets" / "Segmentation"):
        held = {file.stem: file for file in place.glob("*.txt")}
        tests = [name for name in ("test", *NAMES["test"]) if name in held]
        trains = [name for name in (("trainval", "train") if tests[:1] == ["test"] else ("train",)) if name in held]
        if tests and trains:
            chosen = held[(trains if split == "train" else tests)[0]]
            lines = [line.split() for line in chosen.read_text(encoding="utf-8").splitlines()]
            names = [line[0] for line in lines if line]
            if not names:
                raise InputError(f"{chosen}: is empty. It must hold the names of the images, one a line")
            return names
    return None


def part(folder: Path, split: Split) -> Path | None:
    """The folder of a split (train, test, val, ...); None where all images lie together."""
    if not (folder / "train").is_dir():
        return None
    return next((folder / name for name in NAMES[split] if (folder / name).is_dir()), folder / split)


def split_of(names: Sequence[Any], split: Split) -> list[Any]:
    """What has no split of its own, split."""
    return [name for i, name in enumerate(names) if (i % FIFTH == 0) == (split == "test")]


def class_names(folder: Path) -> tuple[str, ...] | None:
    """The lines of classes.txt; None if there is none."""
    file = folder / "classes.txt"
    if not file.is_file():
        return None
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{file}: is empty. It must hold the names of the classes, one a line")
    return tuple(lines)


# from files to scenes


def collected(name: str, split: Split, listing: Listing, size: Size | None, classes: tuple[str, ...] | None) -> Scenes:
    """The images of a listing, resized. size: None for their own; classes: those of the network, in its order.

    Raises InputError naming everything that is missing, damaged or does not fit.
    """
    work = _Work(listing, size, classes)
    for item in listing.items:
        work.add(item)
    problems = [*listing.problems, *work.problems]
    if problems:
        many = "1 thing is" if len(problems) == 1 else f"{len(problems)} things are"
        raise InputError(f"data '{name}' ({split}): {many} wrong", first_of(problems))
    if not work.pixels:
        raise InputError(f"data '{name}' ({split}): holds no images. Name another file or folder with --data")
    truth: Any = torch.from_numpy(np.stack(work.truth)) if isinstance(listing.items[0], MaskItem) else tuple(work.truth)
    notes = [f"{len(work.flat)} boxes without area are left out: {'; '.join(work.flat[:3])}"] if work.flat else []
    return Scenes(name, torch.from_numpy(np.stack(work.pixels)), work.names, truth, tuple(notes))


def first_of(problems: Sequence[Problem]) -> list[Problem]:
    """The first of them, and how many more there are."""
    more = len(problems) - MOST
    return [*problems[:MOST], *([Problem("", f"and {more} more")] if more > 0 else [])]


class _Work:
    """Images one after the other."""

    def __init__(self, listing: Listing, size: Size | None, classes: tuple[str, ...] | None) -> None:
        counted = tuple(kind for kind in listing.classes if kind.lower() not in UNCOUNTED)
        self.names, self.size, self.sized_by = classes or counted, size, ""
        self.problems: list[Problem] = []
        self.pixels: list[npt.NDArray[np.uint8]] = []
        self.truth: list[Any] = []
        self.flat: list[str] = []
        known = self.names if listing.named else listing.classes[: len(self.names)]
        for kind in counted:
            if kind not in known:
                told = ", ".join(self.names)
                self.problems.append(Problem(f"class '{kind}'", f"is none of the network's classes: {told}"))
        # number of a class in the files -> its number in the network
        self.table = np.array([known.index(k) if k in known else IGNORED for k in listing.classes], dtype=np.uint8)

    def add(self, item: BoxItem | MaskItem) -> None:
        try:
            with Image.open(item.image) as image:
                require_size(image)
                own = image.height, image.width
                pixels = image.convert("RGB")
        except Exception as error:  # whatever a damaged picture may set off
            self._wrong(item.image, _reason(error) if item.image.exists() else "is missing")
            return
        if self.size is None:
            self.size, self.sized_by = own, item.image.name
        elif self.sized_by and own != self.size:
            other = f"{self.size[1]}x{self.size[0]} like '{self.sized_by}'"
            self._wrong(item.image, f"is {own[1]}x{own[0]} pixels, not {other}", "Give a size for all with --size")
            return
        found = self._boxes(item, own) if isinstance(item, BoxItem) else self._mask(item, own)
        if found is not None:
            self.pixels.append(resized(pixels, self.size))
            self.truth.append(found)

    def _boxes(self, item: BoxItem, own: Size) -> Any:
        assert self.size is not None
        height, width = own
        scale = np.array([self.size[1] / width, self.size[0] / height] * 2)
        corners, kinds, before = [], [], len(self.problems)
        for kind, (left, top, right, bottom) in item.boxes:
            place = f"{left:g},{top:g},{right:g},{bottom:g}"
            if min(left, top) < -1 or right > width + 1 or bottom > height + 1:
                self._wrong(item.where, f"box {place} lies outside the image '{item.image.name}', {width}x{height}")
            elif right <= left or bottom <= top:
                self.flat.append(f"{item.image.name} {place}")
            elif kind in self.names:
                inside = np.clip((left, top, right, bottom), 0, (width, height, width, height))
                corners.append(inside * scale)
                kinds.append(self.names.index(kind))
        return drawn_boxes(corners, kinds) if len(self.problems) == before else None

    def _mask(self, item: MaskItem, own: Size) -> Any:
        assert self.size is not None
        try:
            mask = item.mask()
        except (OSError, ValueError, SyntaxError) as error:  # Pillow calls a broken PNG a SyntaxError
            self._wrong(item.where, _reason(error) if item.where.exists() else "is missing")
            return None
        if mask.shape != own:
            told = f"{mask.shape[1]}x{mask.shape[0]}, its image '{item.image.name}' {own[1]}x{own[0]}"
            self._wrong(item.where, f"is {told} pixels", "Draw both in one size")
            return None
        wrong = mask[(mask < 0) | ((mask >= len(self.table)) & (mask != IGNORED))]
        if wrong.size:
            last = f"0 to {len(self.table) - 1}, or {IGNORED} where nothing counts"
            self._wrong(item.where, f"has class number {wrong[0]}, must be from {last}")
            return None
        known = np.concatenate([self.table, np.full(IGNORED + 1 - len(self.table), IGNORED, np.uint8)])[mask]
        return resized_mask(known, self.size)

    def _wrong(self, file: Path, what: str, fix: str = "") -> None:
        self.problems.append(Problem(str(file), what, fix))


def resized(image: Image.Image, size: Size) -> npt.NDArray[np.uint8]:
    """uint8 [channels, height, width]; smaller images are means over areas."""
    pixels = image if (image.height, image.width) == size else image.resize((size[1], size[0]), Image.Resampling.BOX)
    array = np.asarray(pixels, dtype=np.uint8)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def resized_mask(mask: npt.NDArray[np.uint8], size: Size) -> npt.NDArray[np.uint8]:
    """uint8 [height, width], no classes mixed."""
    return np.array(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST), dtype=np.uint8)


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):  # its text repeats the whole path
        return "is not an image that Pillow can read"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).splitlines()[0]
