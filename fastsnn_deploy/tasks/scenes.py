"""Images with boxes or with a class for every pixel: blood cells (BCCD), streets (CamVid), and torchvision's VOC.

Folders of one's own: `tasks.folders`. Everything is held in memory, resized once; images stay integers, which is what
the chip receives.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.training.own_data import open_npz

Split = Literal["train", "test"]

BLOOD_CELLS = ("RBC", "WBC", "Platelets")

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


@dataclass(frozen=True)
class Boxes:
    """Boxes of one image. corners: float32 [n, 4], left, top, right, bottom in pixels; classes: int64 [n].

    scores: float32 [n], from 0 to 1; ones for boxes that a person drew.
    """

    corners: Tensor
    classes: Tensor
    scores: Tensor


@dataclass(frozen=True)
class Scenes:
    """levels: uint8 [N, 3, H, W], pixels 0-255. classes: their names."""

    name: str
    levels: Tensor
    classes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, H, W)."""
        _, channels, height, width = self.levels.shape
        return channels, height, width

    def raw(self, index: Tensor | slice) -> Tensor:
        """Chosen images as float32 in [0, 1], [n, 3, H, W]."""
        return self.levels[index].float() / 255

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of raw values per channel; the latter at least one level."""
        pixels = self.levels.double() / 255
        return tuple(pixels.mean((0, 2, 3)).tolist()), tuple(pixels.std((0, 2, 3)).clamp(min=1 / 255).tolist())


@dataclass(frozen=True)
class BoxScenes(Scenes):
    """Scenes for detection. boxes: one entry an image."""

    boxes: tuple[Boxes, ...] = ()


@dataclass(frozen=True)
class MaskScenes(Scenes):
    """Scenes for segmentation. masks: uint8 [N, H, W], class of each pixel; ignore: a class that does not count."""

    masks: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))
    ignore: int = 255


def drawn_boxes(corners: npt.ArrayLike, classes: npt.ArrayLike) -> Boxes:
    """Boxes from a person's numbers, in the dtypes of `Boxes`."""
    kinds = torch.as_tensor(np.asarray(classes, dtype=np.int64))
    placed = torch.as_tensor(np.asarray(corners, dtype=np.float32).reshape(len(kinds), 4))
    return Boxes(placed, kinds, torch.ones(len(kinds)))


def load_bccd(root: str | Path, split: Split, size: tuple[int, int] = (120, 160)) -> BoxScenes:
    """BCCD's blood cells, resized to (height, width). Two boxes without area are left out.

    root: a folder `bccd`, or the folder that holds it, with `images/*.jpg`, `boxes.csv` (file, class, xmin, ymin,
    xmax, ymax in pixels of the file), `trainval.txt` and `test.txt`. Source: Shenggan/BCCD_Dataset, MIT.
    Raises InputError if it cannot be read.
    """
    folder = Path(root) / "bccd" if (Path(root) / "bccd").is_dir() else Path(root)
    try:
        names = (folder / ("trainval.txt" if split == "train" else "test.txt")).read_text(encoding="utf-8").split()
        with (folder / "boxes.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        by_file: dict[str, list[tuple[int, list[float]]]] = {f"{name}.jpg": [] for name in names}
        for row in rows:
            corners = [float(row[key]) for key in ("xmin", "ymin", "xmax", "ymax")]
            if row["file"] in by_file and corners[2] > corners[0] and corners[3] > corners[1]:
                by_file[row["file"]].append((BLOOD_CELLS.index(row["class"]), corners))
    except (OSError, KeyError, TypeError, ValueError) as error:  # TypeError: a row with too few columns
        raise _unreadable("bccd", root, "images/, boxes.csv, trainval.txt and test.txt of BCCD", error) from error
    images, scales = read_images("bccd", [folder / "images" / name for name in by_file], size)
    boxes = [
        drawn_boxes([np.multiply(corners, scale) for _, corners in found], [kind for kind, _ in found])
        for found, scale in zip(by_file.values(), scales, strict=True)
    ]
    return BoxScenes("bccd", images, BLOOD_CELLS, tuple(boxes))


def read_images(name: str, files: Sequence[Path], size: tuple[int, int]) -> tuple[Tensor, list[tuple[float, ...]]]:
    """Image files resized to (height, width): uint8 [N, 3, height, width], and of each the factors of its box corners.

    Raises InputError naming every file that is missing or damaged, or if there are none.
    """
    images, scales, problems = [], [], []
    for file in files:
        try:
            with Image.open(file) as image:
                pixels, scale = _resized(image, size)
        except (OSError, ValueError, SyntaxError) as error:  # Pillow calls a broken PNG a SyntaxError
            problems.append(Problem(str(file), _reason(error) if file.exists() else "is missing"))
        else:
            images.append(pixels)
            scales.append(scale)
    if problems:
        raise InputError(f"data set '{name}': {len(problems)} of {len(files)} images cannot be read", shown(problems))
    return _stacked(images), scales


def shown(problems: Sequence[Problem], most: int = 10) -> list[Problem]:
    """The first few, and how many more there are."""
    more = len(problems) - most
    return [*problems[:most], *([Problem("", f"and {more} more")] if more > 0 else [])]


def load_camvid(root: str | Path, split: Split) -> MaskScenes:
    """CamVid's streets at 96x128 with 11 classes; class 11, unlabelled, is ignored.

    root: a folder with `camvid.npz`: x_train, x_test uint8 [N, 96, 128, 3], y_train, y_test uint8 [N, 96, 128],
    classes (12 names). Source: Brostow et al. 2008 in the split of SegNet, CC BY-NC 4.0, research only.
    Raises InputError if it cannot be read.
    """
    try:
        with open_npz(Path(root) / "camvid.npz") as data:
            levels, masks = data[f"x_{split}"], data[f"y_{split}"]
            names = tuple(str(name) for name in data["classes"])
        if levels.dtype != np.uint8 or levels.shape != (*masks.shape, 3) or int(masks.max()) >= len(names):
            raise ValueError(f"images are {levels.dtype} {levels.shape}, masks {masks.shape} up to {masks.max()}")
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _unreadable("camvid", root, "camvid.npz", error) from error
    images = torch.from_numpy(np.ascontiguousarray(levels.transpose(0, 3, 1, 2)))
    return MaskScenes("camvid", images, names[:-1], torch.from_numpy(masks), len(names) - 1)


def load_voc_boxes(
    root: str | Path, split: Split, size: tuple[int, int] = (416, 416), year: str = "2007", download: bool = False
) -> BoxScenes:
    """PASCAL VOC through torchvision, trainval or test, resized to (height, width). Objects marked difficult stay."""
    from torchvision.datasets import VOCDetection

    try:
        stored = VOCDetection(str(root), year, "trainval" if split == "train" else "test", download)
        images, boxes = [], []
        for image, notes in stored:
            pixels, scale = _resized(image, size)
            things = notes["annotation"]["object"]
            corners = [[float(t["bndbox"][key]) for key in ("xmin", "ymin", "xmax", "ymax")] for t in things]
            kinds = [VOC_CLASSES.index(thing["name"]) for thing in things]
            images.append(pixels)
            boxes.append(drawn_boxes([np.multiply(c, scale) for c in corners], kinds))
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise _unreadable("voc", root, f"torchvision's VOC {year}", error) from error
    return BoxScenes("voc", _stacked(images), VOC_CLASSES, tuple(boxes))


def load_voc_masks(
    root: str | Path, split: Split, size: tuple[int, int] = (513, 513), year: str = "2012", download: bool = False
) -> MaskScenes:
    """PASCAL VOC through torchvision, train or val, resized to (height, width); level 255, the borders, is ignored."""
    from torchvision.datasets import VOCSegmentation

    try:
        stored = VOCSegmentation(str(root), year, "train" if split == "train" else "val", download)
        images, masks = [], []
        for image, mask in stored:
            images.append(_resized(image, size)[0])
            masks.append(torch.from_numpy(np.array(mask.resize((size[1], size[0]), Image.Resampling.NEAREST))))
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreadable("voc", root, f"torchvision's VOC {year}", error) from error
    return MaskScenes("voc", _stacked(images), ("background", *VOC_CLASSES), torch.stack(masks).to(torch.uint8))


def _resized(image: Any, size: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], tuple[float, ...]]:
    """(uint8 [3, height, width], factors for left, top, right, bottom)."""
    across, down = size[1] / image.width, size[0] / image.height
    pixels = np.asarray(image.convert("RGB").resize((size[1], size[0]), Image.Resampling.BOX), dtype=np.uint8)
    return pixels.transpose(2, 0, 1), (across, down, across, down)


def _stacked(images: Iterable[npt.NDArray[np.uint8]]) -> Tensor:
    kept = list(images)
    if not kept:
        raise InputError("the data set holds no images. Name another folder with --data-root")
    return torch.from_numpy(np.stack(kept))


def _unreadable(name: str, root: str | Path, wanted: str, error: Exception) -> InputError:
    return InputError(f"data set '{name}' cannot be read from '{root}' ({_reason(error)}). Put there {wanted}")


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):  # its text repeats the whole path
        return "is not an image that Pillow can read"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return (str(error) or type(error).__name__).splitlines()[0]
