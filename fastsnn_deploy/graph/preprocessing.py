"""How a picture becomes the image that a network takes: one record, kept with the network in every file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from fastsnn_deploy.errors import InputError, Problem, unknown
from fastsnn_deploy.graph.images import PIXEL
from fastsnn_deploy.reading import json_of

KEY = "preprocessing"
"""Where it lies in the metadata of checkpoints, graphs and files."""

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
"""Pillow's filters. All but nearest weigh every pixel that a new one covers, which torchvision calls antialias."""

ORDERS = ("RGB", "BGR", "L")

GEOMETRY = ("resize", "crop", "interpolation", "channels")
"""What is done to a picture; the others say what its numbers mean."""

Size = tuple[int, int]


@dataclass(frozen=True)
class Preprocessing:
    """What is done to a picture before the first layer, in this order. The picture is resized by Pillow, as
    torchvision's and timm's transforms for evaluation resize it.

    channels: "RGB", "BGR" or "L" (grey); None as the data has them. resize: the shorter side, or (height, width); None
    for none. interpolation: one of `INTERPOLATIONS`. crop: (height, width) at the centre; None for none. step, levels:
    the image is a whole number of steps, from levels[0] to levels[1]. mean, std: what the float network's images were
    normalised with, per channel, in units of the data; part of the quantised network. classes: names, in the order of
    the outputs; () if nobody says.

    Raises InputError listing every value that cannot be used.

    Example:
        >>> Preprocessing(resize=256, crop=(224, 224)).changed("resize=232,interpolation=bicubic").resize
        232
    """

    channels: str | None = None
    resize: int | Size | None = None
    interpolation: str = "bilinear"
    crop: Size | None = None
    step: float = PIXEL
    levels: tuple[int, int] = (0, 255)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in fields(self):  # lists, as JSON has them
            if isinstance(value := getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(value))
        if problems := list(self._problems()):
            raise InputError("this preprocessing cannot be used", problems)

    def _problems(self) -> Iterator[Problem]:
        if self.channels is not None and self.channels not in ORDERS:
            yield Problem(f"channels={self.channels!r}", f"must be one of {', '.join(ORDERS)}")
        if self.interpolation not in INTERPOLATIONS:
            yield Problem(f"interpolation={self.interpolation!r}", f"must be one of {', '.join(INTERPOLATIONS)}")
        if not (self.resize is None or _is_size(self.resize) or _is_side(self.resize)):
            yield Problem(f"resize={self.resize!r}", "must be a shorter side, or (height, width)")
        if not (self.crop is None or _is_size(self.crop)):
            yield Problem(f"crop={self.crop!r}", "must be (height, width)")
        if not (_numbers((self.step,)) and self.step > 0):
            yield Problem(f"step={self.step!r}", "must be a positive number")
        low_high = isinstance(self.levels, tuple) and len(self.levels) == 2
        if not (low_high and all(type(x) is int for x in self.levels) and self.levels[0] < self.levels[1]):
            yield Problem(f"levels={self.levels!r}", "must be two whole numbers that increase")
        if not _numbers(self.mean):
            yield Problem(f"mean={self.mean!r}", "must hold numbers, one or one for each channel")
        if not (_numbers(self.std) and all(self.std)):
            yield Problem(f"std={self.std!r}", "must hold numbers other than 0, one or one for each channel")
        if not (isinstance(self.classes, tuple) and all(isinstance(name, str) for name in self.classes)):
            yield Problem("classes", "must be names")
        elif len(set(self.classes)) != len(self.classes):
            yield Problem("classes", f"name one twice: {', '.join(_twice(self.classes)[:3])}")

    @property
    def moves(self) -> bool:
        """Whether anything is done to a picture."""
        return any(getattr(self, name) is not None for name in ("channels", "resize", "crop"))

    def geometry(self) -> dict[str, Any]:
        """What is done to a picture, by name."""
        return {name: getattr(self, name) for name in GEOMETRY}

    def changed(self, text: str) -> Preprocessing:
        """Another one, as `--preprocess` writes what differs.

        Args:
            text: `name=value` with commas between: `resize=256` (shorter side) or `resize=224x288`, `crop=224`,
                `interpolation=bicubic`, `channels=BGR`, `step=0.0625`, `levels=0:16`; `none` for nothing, as
                `resize=none` or `classes=none`.

        Raises InputError for anything else.
        """
        given: dict[str, Any] = {}
        for part in text.split(","):
            name, _, value = (word.strip() for word in part.partition("="))
            if name not in _PARSE:
                raise unknown("part of --preprocess", name, _PARSE)
            try:
                given[name] = _NOTHING.get(name) if value == "none" else _PARSE[name](value)
            except ValueError as error:
                raise InputError(f"--preprocess {name}={value}: {_HOW}") from error
        return replace(self, **given)

    def plain(self) -> dict[str, Any]:
        """Plain data, for a checkpoint."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def text(self) -> str:
        """The same as JSON, for the metadata of a graph or a file."""
        return json.dumps(self.plain())

    def facts(self) -> dict[str, str]:
        """What a reader wants to know, in words."""
        shown = ", ".join(self.classes[:10]) + (", ..." if len(self.classes) > 10 else "")
        sizes = {"resize": self.resize, "crop": self.crop}
        said = {name: shape_words(value) for name, value in sizes.items() if value is not None}
        if self.resize is not None:
            said["resize"] += f", {self.interpolation}"
        return (
            ({} if self.channels is None else {"channels": self.channels})
            | said
            | {"levels": f"{self.levels[0]} .. {self.levels[1]}, steps of {self.step:.6g}"}
            | {name: ", ".join(f"{x:.6g}" for x in getattr(self, name)) for name in ("mean", "std")}
            | ({"classes": f"{len(self.classes)}: {shown}"} if self.classes else {})
        )

    @staticmethod
    def of(metadata: Mapping[str, Any]) -> Preprocessing | None:
        """What a network's metadata say, None if nothing. Raises InputError if it is damaged."""
        found = metadata.get(KEY)
        if found is None:
            return None
        try:
            plain = dict(json_of(found, KEY, "text") if isinstance(found, str) else found)
            known = {field.name for field in fields(Preprocessing)}
            return Preprocessing(**{name: value for name, value in plain.items() if name in known})
        except (ValueError, TypeError, RecursionError) as error:  # InputError is a ValueError
            reason = "; ".join(map(str, getattr(error, "problems", ()))) or str(error).splitlines()[0]
            raise InputError(f"the network's metadata '{KEY}' are damaged ({reason:.200})") from error


def shape_words(size: int | Size) -> str:
    """A size in words."""
    return f"shorter side {size}" if isinstance(size, int) else f"{size[0]}x{size[1]}"


def _is_side(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**16


def _is_size(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_side, value))


def _numbers(values: Any) -> bool:
    kinds = isinstance(values, tuple) and all(type(value) in (int, float) for value in values)
    return kinds and bool(values) and all(map(math.isfinite, values))


def _twice(names: tuple[str, ...]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def _size(text: str) -> Size:
    height, *width = (int(part) for part in text.split("x"))
    return (height, *width) if width else (height, height)  # type: ignore[return-value]


def _none(text: str) -> Any:
    raise ValueError(text)


_PARSE: dict[str, Any] = {
    "channels": str,
    "resize": lambda text: _size(text) if "x" in text else int(text),
    "interpolation": str,
    "crop": _size,
    "step": float,
    "levels": lambda text: tuple(int(part) for part in text.split(":")),
    "classes": _none,
}
_NOTHING: dict[str, Any] = {"classes": (), "interpolation": "none", "step": 0.0, "levels": ()}
_HOW = "sizes are written as 256 or 224x288, levels as 0:255, a step as 0.0625, and none for nothing"
