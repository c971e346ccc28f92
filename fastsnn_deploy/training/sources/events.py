"""Recordings of event cameras: data sets of tonic, files, and MNIST's digits before a model of a camera."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError, Problem, known_name, whole_number
from fastsnn_deploy.graph.events import Events
from fastsnn_deploy.reading import read_entries
from fastsnn_deploy.training.event_camera import MARGIN, STROKE_FRAMES, STROKE_US, EventCamera, moving
from fastsnn_deploy.training.event_files import CAMERAS, NAMES, SIZES, npz_arrays, read_events
from fastsnn_deploy.training.event_frames import OPTIONS, EventFrames, Recordings, chosen_part, smaller
from fastsnn_deploy.training.images import Images, Split, arrays
from fastsnn_deploy.training.sources.base import SPLITS, Wanted, fifth, source, split_of
from fastsnn_deploy.training.sources.class_folders import class_files, numbered_files
from fastsnn_deploy.training.sources.named import DATASETS, DIGITS

ENDINGS = (".aedat", ".aedat2", ".aedat4")


def event_images(
    wanted: Wanted, recordings: Recordings, size: tuple[int, ...], labels: Any, class_names: tuple[str, ...] = ()
) -> Images:
    """Recordings as a data set. recordings: reads some by number. size: (H, W) of the sensor.

    Raises InputError for labels that do not number the classes from 0, and for options that cannot be used.
    """
    numbers = np.asarray(labels)
    if not numbers.size:
        raise InputError(f"data '{wanted.name}': holds no recordings. Check its place and its split")
    if numbers.dtype.kind not in "iu" or numbers.ndim != 1 or numbers.min() < 0:
        raise InputError(f"data '{wanted.name}': labels are {numbers.dtype} {numbers.shape}. Give class numbers from 0")
    most, change = chosen_part(dict(wanted.options))
    frames = EventFrames(
        lambda chosen: [change(events) for events in recordings(chosen)], np.arange(len(numbers)),
        smaller(size, dict(wanted.options)), wanted.name, most,
    )  # fmt: skip
    return Images(
        wanted.name, *arrays(frames, numbers.astype(np.int64)), max(int(numbers.max()) + 1, len(class_names)),
        (0.0, 0.0), (1.0, 1.0), step=1.0, highest=most, class_names=class_names,
    )  # fmt: skip


@source("moving-mnist", lambda wanted: wanted.name == "moving-mnist", (*OPTIONS, "digits"))
def read_moving_mnist(wanted: Wanted) -> Images:
    """MNIST's digits, moved along a triangle before a model of an event camera; `digits`: so many, the first ones."""
    digits = DATASETS["mnist"](wanted.root, wanted.split, wanted.download)
    digits = digits.select(slice(whole_number("digits", wanted.options.get("digits", len(digits.labels)), 1)))
    camera = EventCamera()

    def recordings(numbers: npt.NDArray[np.int64]) -> list[Events]:
        pictures = np.asarray(digits.levels[numbers])[:, 0] / 255
        return camera.record(moving(pictures), STROKE_US / STROKE_FRAMES)

    height, width = digits.shape[1:]
    return event_images(wanted, recordings, (height + MARGIN, width + MARGIN), digits.labels.numpy(), DIGITS)


@dataclass(frozen=True)
class TonicSet:
    """A data set of tonic. kind: its class. split: whether it has a training and a test part."""

    kind: str
    split: bool = True


TONIC = {
    "nmnist": TonicSet("NMNIST"),
    "dvs-gesture": TonicSet("DVSGesture"),
    "cifar10-dvs": TonicSet("CIFAR10DVS", split=False),
}
"""By the names that --data takes."""


@source("event data sets of tonic: nmnist, dvs-gesture, cifar10-dvs", lambda wanted: wanted.name in TONIC, OPTIONS)
def read_tonic(wanted: Wanted) -> Images:
    """Below the data root, where tonic puts them; with --download it fetches them."""
    try:
        from tonic import datasets
    except ImportError as error:
        raise InputError(f"data '{wanted.name}' needs tonic. Install it with `pip install tonic aedat`") from error
    chosen = TONIC[wanted.name]
    kind = getattr(datasets, chosen.kind)
    if not wanted.download:  # tonic would fetch what it does not find

        def missing(self: Any) -> None:
            raise FileNotFoundError(f"tonic finds it not complete in {self.location_on_system}")

        kind = type(chosen.kind, (kind,), {"download": missing})
    data = kind(str(wanted.root), **({"train": wanted.split == "train"} if chosen.split else {}))
    names = DIGITS if wanted.name == "nmnist" else tuple(data.classes)  # a dictionary of CIFAR's is in their order
    width, height, _ = kind.sensor_size

    def recordings(numbers: npt.NDArray[np.int64]) -> list[Events]:
        return [_of_tonic(data, int(number), wanted.name) for number in numbers]

    found = event_images(wanted, recordings, (height, width), data.targets, names)
    return found if chosen.split else fifth(found, wanted.split)


def _of_tonic(data: Any, number: int, name: str) -> Events:
    try:
        found, _ = data[number]
        return Events(*(np.asarray(found[field]).astype(np.int64) for field in NAMES))
    except Exception as error:  # a damaged file may set off anything in tonic
        where = getattr(data, "data", [])[number : number + 1]
        place = where[0] if where and isinstance(where[0], str) else f"recording {number}"
        raise InputError(f"data '{name}': {place} cannot be read ({type(error).__name__}: {error})") from error


def _is_npz(wanted: Wanted) -> bool:
    place = wanted.place
    if place is None or not place.is_file() or not zipfile.is_zipfile(place):  # a pipe would never open
        return False
    return {f"{name}.npy" for name in "txp"} <= {entry.filename for entry in read_entries(place, "data file")}


@source("an .npz file of events", _is_npz, OPTIONS)
def read_npz_events(wanted: Wanted) -> Images:
    """Arrays `t`, `x`, `y`, `p` of all events, `starts` of recordings, `labels`; and `size` (H, W), `classes`."""
    file, split = wanted.place, wanted.split
    assert file is not None
    own = split_of(file.stem)
    if own is None:
        return fifth(_of_npz(wanted, file), split)
    return _of_npz(wanted, file if own == split else _beside(file, own, split))


def _beside(file: Path, own: Split, split: Split) -> Path:
    """The other split's file."""
    called = next(each for each in SPLITS[own] if each in file.stem.lower())
    names = [file.with_name(file.name.replace(called, each)) for each in SPLITS[split]]
    found = next((each for each in names if each.exists() and each != file), None)
    if found is None:
        raise InputError(f"{file}: is the {own} split; the {split} split is missing. Put it into {names[0]} beside it")
    return found


def _of_npz(wanted: Wanted, file: Path) -> Images:
    parts, others = npz_recordings(file)
    labels = others.get("labels")
    if labels is None or labels.shape != (len(parts),):
        shape = "none" if labels is None else str(labels.shape)
        raise InputError(f"{file}: has {len(parts)} recordings and labels {shape}. Give labels, one for each")
    names = others.get("classes", np.zeros(0, dtype=str))
    if names.dtype.kind != "U" or names.ndim != 1:
        raise InputError(f"{file}: its classes are {names.dtype} {names.shape}. Give names, one a class, as text")
    most = (max((int(getattr(part, axis).max(initial=0)) for part in parts), default=0) + 1 for axis in "yx")
    size = tuple(others["size"].reshape(-1).tolist()) if "size" in others else tuple(most)
    if len(size) != 2 or not all(type(side) is int and 0 < side < 2**15 for side in size):
        raise InputError(f"{file}: its size is {size}. Give (height, width) of the sensor")
    return event_images(wanted, lambda numbers: [parts[n] for n in numbers], size, labels, tuple(map(str, names)))


def npz_recordings(file: Path) -> tuple[list[Events], dict[str, npt.NDArray[Any]]]:
    """Recordings of an .npz file, and its other arrays. Raises InputError for starts that do not divide its events."""
    joined, others = npz_arrays(file)
    count = len(joined[0])
    starts = others.get("starts", np.zeros(1, dtype=np.int64))
    if starts.dtype.kind not in "iu" or starts.ndim != 1 or not len(starts) or starts[0] != 0:
        raise InputError(f"{file}: starts are {starts.dtype} {starts.shape}. Number the first events, from 0")
    ends = [*starts[1:].tolist(), count]
    if any(end < start for start, end in zip(starts.tolist(), ends, strict=True)):
        raise InputError(f"{file}: starts must not fall, nor go beyond its {count:,} events")
    problems, parts = [], []
    for number, (start, end) in enumerate(zip(starts.tolist(), ends, strict=True)):
        try:
            parts.append(Events(*(values[start:end] for values in joined)))
        except InputError as error:
            problems.append(Problem(f"recording {number}", "; ".join(map(str, error.problems)) or str(error)))
    if problems:
        raise InputError(f"{file}: {len(problems)} recordings cannot be used", problems[:20])
    return parts, others


def _is_folder(wanted: Wanted) -> bool:
    place = wanted.place
    if place is None or not place.is_dir():
        return False
    return any(next(place.glob(f"{depth}*{ending}"), None) for depth in ("*/", "*/*/") for ending in ENDINGS)


@source("a folder of class folders of AEDAT files", _is_folder, (*OPTIONS, "camera", "height", "width"))
def read_aedat_folder(wanted: Wanted) -> Images:
    """`train/CLASS/*.aedat4` and `test/CLASS/*.aedat4`, or `CLASS/*.aedat4`; AEDAT 2 and 3.1 end in .aedat."""
    folder, classes, split = class_files(wanted, ENDINGS)
    files, labels, names = numbered_files(folder, classes, "recordings")
    camera = wanted.option("camera")
    size = SIZES[known_name("camera", camera, CAMERAS)] if camera is not None else _size(wanted)

    def recordings(numbers: npt.NDArray[np.int64]) -> list[Events]:
        return [read_events(files[number], camera) for number in numbers]

    found = event_images(wanted, recordings, size, labels, names)
    return found if split else fifth(found, wanted.split)


def _size(wanted: Wanted) -> tuple[int, int]:
    found = [wanted.options.get(name) for name in ("height", "width")]
    if None in found:
        raise InputError(
            f"data '{wanted.name}': say what sensor it is of, as {wanted.name}(height=128, width=128), or with camera= "
            f"one of {', '.join(CAMERAS)}"
        )
    height, width = (whole_number(name, side, 1, 2**15) for name, side in zip(("height", "width"), found, strict=True))
    return height, width
