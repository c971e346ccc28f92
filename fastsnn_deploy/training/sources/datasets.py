"""Data sets of torch: torchvision's by their names, and what a function of the user's own returns."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph.images import array_of
from fastsnn_deploy.training.images import IN_MEMORY, Images, Split, arrays
from fastsnn_deploy.training.objects import named_object, names_an_object
from fastsnn_deploy.training.own_data import CHANNELS, images_of
from fastsnn_deploy.training.pictures import Made
from fastsnn_deploy.training.sources.base import Wanted, fifth, numbered, pictures, source
from fastsnn_deploy.training.sources.named import DIGITS, STATISTICS
from fastsnn_deploy.training.stored import RealValues

PREFIX = "torchvision:"

SETS = (
    "CIFAR10", "CIFAR100", "CLEVRClassification", "Caltech101", "Caltech256", "Country211", "DTD", "EMNIST", "EuroSAT",
    "FER2013", "FGVCAircraft", "FakeData", "FashionMNIST", "Flowers102", "Food101", "GTSRB", "INaturalist", "ImageNet",
    "Imagenette", "KMNIST", "LFWPeople", "MNIST", "Omniglot", "OxfordIIITPet", "PCAM", "Places365", "QMNIST",
    "RenderedSST2", "SEMEION", "STL10", "SUN397", "SVHN", "StanfordCars", "USPS",
)  # fmt: skip
"""Those of torchvision whose items are an image and a class number."""

SPLITS = {"train": ("train", "trainval", "train-standard"), "test": ("test", "val", "valid")}
"""What they call a split; the first that one has is taken."""

LABELS = ("targets", "labels", "_labels", "y", "_samples", "samples", "_flat_character_images", "tensors")
"""Where data sets keep their labels, which spares reading every image for them."""


def _torchvision_name(wanted: Wanted) -> str | None:
    name = wanted.name.removeprefix(PREFIX)
    return next((each for each in SETS if each.lower() == name.lower()), None)


def _is_torchvision(wanted: Wanted) -> bool:
    return wanted.name.startswith(PREFIX) or _torchvision_name(wanted) is not None


@source("torchvision's by their names", _is_torchvision, options=None)
def read_torchvision(wanted: Wanted) -> Images:
    """`SVHN`, `STL10`, `torchvision:GTSRB`, ... below the data root; with options, `EMNIST(split='balanced')`."""
    from torchvision import datasets

    name = _torchvision_name(wanted)
    if name is None:
        asked = wanted.name.removeprefix(PREFIX)
        close = difflib.get_close_matches(asked, SETS, n=3)
        guess = f"Did you mean {' or '.join(close)}? " if close else ""
        raise InputError(
            f"data set '{asked}' is none of torchvision's that hold an image and a class number. {guess}Known: "
            f"{', '.join(SETS)}"
        )
    kind = getattr(datasets, name)
    taken = set(inspect.signature(kind).parameters)
    if issubclass(kind, datasets.MNIST):  # some hand their options on to it
        taken |= set(inspect.signature(datasets.MNIST).parameters)
    options: dict[str, Any] = {"root": str(wanted.root)} if "root" in taken else {}
    if "download" in taken and wanted.download:
        options["download"] = True
    if "train" in taken:
        options["train"] = wanted.split == "train"
    calls: list[dict[str, Any]] = [options | dict(wanted.options)]
    if "split" in taken and name != "EMNIST" and "split" not in wanted.options:
        calls = [calls[0] | {"split": split} for split in SPLITS[wanted.split]]
    data = _first_that_exists(wanted.name, kind, calls)
    images = of_dataset(data, wanted.name, _class_names(data))
    if name.lower() in STATISTICS:
        mean, std = STATISTICS[name.lower()]
        images = replace(images, mean=mean, std=std)
    return images if {"train", "split"} & taken else fifth(images, wanted.split)


def _first_that_exists(name: str, kind: Callable[..., Any], calls: Sequence[dict[str, Any]]) -> Any:
    """A data set, by the first of its splits that there is."""
    for call in calls:
        try:
            return kind(**call)
        except TypeError as error:
            raise InputError(f"data '{name}': {error}. Options are written as SVHN(split='extra')") from error
        except ValueError as error:  # no split of that name
            if call is calls[-1]:
                raise InputError(f"data '{name}': {str(error).splitlines()[0]}") from error
    raise AssertionError


def _class_names(data: Any) -> tuple[str, ...]:
    """Names of a data set's classes, () where it has none."""
    found = getattr(data, "classes", None)
    names = tuple(found) if isinstance(found, (list, tuple)) else ()
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        return ()
    short = tuple(name[0] for name in names if re.match(r"\d - ", name))  # MNIST's "0 - zero"
    return DIGITS if short == DIGITS else names


@source("a function of one's own", lambda wanted: names_an_object(wanted.name))
def read_function(wanted: Wanted) -> Images:
    """`package.module:function` or `file.py:function`, called with "train" or "test": a data set, (images, labels)."""
    name, split = wanted.name, wanted.split
    found = _made(name, split)
    if isinstance(found, Images):
        return replace(found, name=name)
    if isinstance(found, tuple) and len(found) == 2:
        return images_of(*found, name)
    if hasattr(found, "__getitem__") and hasattr(found, "__len__"):
        return of_dataset(found, name, _class_names(found))
    raise InputError(
        f"data '{name}' returns something of type {type(found).__name__}. Return a data set that has a length, or "
        "(images, labels)"
    )


def _made(name: str, split: Split) -> Any:
    made = named_object(name)
    try:
        return made(split)
    except Exception as error:  # whatever the user's own code may set off
        raise InputError(
            f"data '{name}' failed for split '{split}' ({type(error).__name__}: {error}). It must be a function of "
            "'train' or 'test' that returns a data set or (images, labels)"
        ) from error


def of_dataset(data: Any, name: str, class_names: tuple[str, ...] = ()) -> Images:
    """A data set of (image, label), read item by item; images are of Pillow, or arrays.

    Raises InputError if its items are something else, or it fails.
    """
    from fastsnn_deploy.quantisation.images import stacked

    count = len(data)
    if not count:
        raise InputError(f"data '{name}': holds no images")
    image, label = _item(data, 0, name)

    def where(number: int) -> str:
        return f"data '{name}': image {number}"

    if hasattr(image, "convert"):
        labels, names = numbered(_labels_of(data, label, name))
        return pictures(name, Made(count, lambda n: _item(data, n, name)[0], where), labels, class_names or names)
    array = _array(image)
    if count * array.nbytes <= IN_MEMORY:
        items = [_item(data, n, name) for n in range(count)]
        held = stacked([_array(each) for each, _ in items])
        labels, names = numbered([_plain(each) for _, each in items])
        return images_of(held, labels, name, class_names=class_names or names)
    labels, names = numbered(_labels_of(data, label, name))
    made = images_of(array[None], labels[:1], name, 1 + int(labels.max()), class_names or names)
    levels = RealValues(
        lambda numbers: stacked([_array(_item(data, int(n), name)[0]) for n in numbers]), np.arange(count), array.shape,
        name, at_hand=False,
    )  # fmt: skip
    found, numbers = arrays(levels, labels)
    return replace(made, levels=found, labels=numbers)


def _item(data: Any, number: int, name: str) -> tuple[Any, Any]:
    try:
        item = data[number]
    except Exception as error:  # whatever the user's own code, or a damaged file, may set off
        raise InputError(f"data '{name}': item {number} fails ({type(error).__name__}: {error})") from error
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise InputError(f"data '{name}': item {number} is a {type(item).__name__}, not (image, label)")
    return item[0], item[1]


def _array(image: Any) -> npt.NDArray[Any]:
    """[C, H, W]"""
    array = array_of(image, "a data set")
    array = array[None] if array.ndim == 2 else array
    last = array.ndim == 3 and array.shape[-1] in CHANNELS and array.shape[0] not in CHANNELS
    return array.transpose(2, 0, 1) if last else array


def _labels_of(data: Any, first: Any, name: str) -> list[Any]:
    """The label of every item: where the data set keeps them, or from the items themselves."""
    count = len(data)
    for attribute in LABELS:
        found: Any = getattr(data, attribute, None)
        if attribute == "tensors" and isinstance(found, tuple):
            found = found[-1]
        try:
            labels = [_plain(each[-1] if isinstance(each, (tuple, list)) else each) for each in found]
        except (TypeError, IndexError, ValueError):
            continue
        probes = {0, count // 3, count // 2, count - 1}
        if len(labels) == count and all(labels[n] == _plain(_item(data, n, name)[1]) for n in probes):
            return labels
    return [_plain(first), *(_plain(_item(data, n, name)[1]) for n in range(1, count))]


def _plain(label: Any) -> Any:
    """A number out of a tensor or an array that holds just one; a float that is whole is none."""
    if getattr(label, "ndim", None) == 0 and hasattr(label, "item"):
        label = label.item()
    return int(label) if isinstance(label, (bool, np.bool_, np.integer)) else label
