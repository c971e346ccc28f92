"""Data sets of Hugging Face `datasets` on disk: Arrow files that `save_to_disk` wrote, or Parquet files.

They are read by pyarrow alone, memory-mapped or one row group at a time: nothing in them runs.
"""

from __future__ import annotations

import json
import re
import threading
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.files import readable_file
from fastsnn_deploy.reading import require_room
from fastsnn_deploy.training.images import Images
from fastsnn_deploy.training.own_data import images_of
from fastsnn_deploy.training.pictures import FileBytes
from fastsnn_deploy.training.sources.base import SPLITS, Wanted, fifth, numbered, pictures, source, start_of

ENDINGS = (".arrow", ".parquet")
IMAGES = ("image", "img", "pixel_values", "picture", "jpg", "png", "x")
LABELS = ("label", "labels", "fine_label", "target", "class", "cls", "y")
"""Usual names of the columns, the best first, where the file does not say which is which."""

GROUPS = 2
"""Row groups of a Parquet file that are kept."""

NAMED = re.compile(r"^(train|test|valid|validation|val)(?=[-_.0-9]|$)")


def _is_table(wanted: Wanted) -> bool:
    place = wanted.place
    if place is None:
        return False
    if place.is_dir():
        known = any((place / name).is_file() for name in ("dataset_dict.json", "dataset_info.json", "state.json"))
        return known or any(place.glob("*.parquet")) or any(place.glob("data/*.parquet")) or any(place.glob("*.arrow"))
    return start_of(place, 4) == b"PAR1" or place.suffix in ENDINGS


@source("Hugging Face `datasets` on disk", _is_table, options=("image", "label", "split"))
def read_table(wanted: Wanted) -> Images:
    """A folder that `save_to_disk` wrote, or .parquet or .arrow files; `PATH(image='img', label='fine_label')`."""
    pyarrow = _pyarrow(wanted)
    files, own = _files(wanted)
    try:
        tables = [_Parquet(f) if start_of(f, 4) == b"PAR1" else _Arrow(f) for f in map(_readable, files)]
        tables = [table for table in tables if table.rows]
        if not tables:
            raise InputError(f"data '{wanted.name}': holds no rows")
        image, label = _columns(wanted, tables[0])
        names = _class_names(tables[0], label)
        values = [value for table in tables for value in table.values(label)]
        images = _images(wanted, tables, image, values, names)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"data '{wanted.name}': cannot be read ({reason:.200}). Save it again") from error
    return images if own else fifth(images, wanted.split)


def _pyarrow(wanted: Wanted) -> Any:
    try:
        import_module("pyarrow.parquet")
        return import_module("pyarrow")
    except ImportError as error:
        raise InputError(
            f"data '{wanted.name}' is a data set of Hugging Face, and reading it needs pyarrow. Install it with "
            "`pip install fastsnn-deploy[datasets]`"
        ) from error


def _readable(file: Path) -> Path:
    return readable_file(file, "data file")


def _files(wanted: Wanted) -> tuple[list[Path], bool]:
    """(files of a split, whether they are that split's own)."""
    place, asked = wanted.place, wanted.option("split")
    assert place is not None
    if not place.is_dir():
        return [place], False
    found = sorted(file for ending in ENDINGS for file in place.rglob(f"*{ending}") if not _hidden(file, place))
    if not found:
        raise InputError(f"{place}: holds no .arrow and no .parquet file. Save the data set again with save_to_disk")
    splits: dict[str | None, list[Path]] = {}
    for file in found:
        splits.setdefault(_split_in(file, place), []).append(file)
    names = [asked] if asked else SPLITS[wanted.split]
    own = next((name for name in names if name in splits), None)
    if own is not None:
        return splits[own], bool({"train", *SPLITS["test"]} & (splits.keys() - {own})) or wanted.split != "train"
    known = ", ".join(sorted(str(name) for name in splits if name))
    if asked or ({"test", *SPLITS["test"]} & splits.keys() and wanted.split == "train"):
        raise InputError(f"{place}: has no split '{asked or 'train'}'. It has {known or 'none with a name'}")
    return splits["train" if "train" in splits else None], False


def _hidden(file: Path, place: Path) -> bool:
    """Whether it is what `datasets` keeps beside a data set: caches of its own computations."""
    return file.name.startswith(("cache-", "tmp", ".")) or any(p.startswith(".") for p in file.relative_to(place).parts)


def _split_in(file: Path, place: Path) -> str | None:
    """The split that a file's name, or its folder's, begins with."""
    parts = [file.name, *reversed(file.relative_to(place).parent.parts)]
    return next((found[1] for part in parts if (found := NAMED.match(part))), None)


class _Table(ABC):
    """Rows of one file. schema: of pyarrow; rows: how many."""

    schema: Any
    rows: int

    @abstractmethod
    def values(self, column: str) -> list[Any]:
        """A whole column, for labels."""

    @abstractmethod
    def cell(self, column: str, row: int) -> Any:
        """One value, plain."""


class _Arrow(_Table):
    """An Arrow file, memory-mapped."""

    def __init__(self, file: Path) -> None:
        import pyarrow as pa

        mapped = pa.memory_map(str(file))
        start = mapped.read(6)
        mapped.seek(0)
        opened = pa.ipc.open_file if start == b"ARROW1" else pa.ipc.open_stream
        self.table = opened(mapped).read_all()
        self.table.validate(full=True)  # what it does not check is read beyond its end
        self.schema, self.rows = self.table.schema, self.table.num_rows

    def values(self, column: str) -> list[Any]:
        return list(self.table.column(column).to_pylist())

    def cell(self, column: str, row: int) -> Any:
        return self.table.column(column)[row].as_py()


class _Parquet(_Table):
    """A Parquet file, of which a few row groups are in memory."""

    def __init__(self, file: Path) -> None:
        import pyarrow.parquet as pq

        self.file = pq.ParquetFile(file, memory_map=True)
        self.schema, self.rows = self.file.schema_arrow, self.file.metadata.num_rows
        for number in range(self.file.metadata.num_row_groups):
            require_room(file, self.file.metadata.row_group(number).total_byte_size, f"row group {number}")
        require_room(file, self.rows, "its rows")
        lengths = [self.file.metadata.row_group(n).num_rows for n in range(self.file.metadata.num_row_groups)]
        self.ends = list(accumulate(lengths))
        self.kept: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self.lock = threading.Lock()

    def values(self, column: str) -> list[Any]:
        found = self.file.read(columns=[column])
        found.validate(full=True)
        return list(found.column(0).to_pylist())

    def cell(self, column: str, row: int) -> Any:
        group = bisect_right(self.ends, row)
        with self.lock:
            if (column, group) not in self.kept:
                found = self.file.read_row_group(group, columns=[column])
                found.validate(full=True)
                self.kept[column, group] = found.column(0)
                while len(self.kept) > GROUPS:
                    self.kept.popitem(last=False)
            values = self.kept[column, group]
        return values[row - (self.ends[group - 1] if group else 0)].as_py()


def _features(table: _Table) -> dict[str, Any]:
    """What `datasets` has written about the columns."""
    try:
        said = json.loads((table.schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: value for name, value in said.items() if isinstance(value, dict)}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _columns(wanted: Wanted, table: _Table) -> tuple[str, str]:
    """(column of the images, column of the labels). Raises InputError where it is not clear which they are."""
    features, known = _features(table), list(table.schema.names)
    found = []
    for what, kind, usual in (("image", "Image", IMAGES), ("label", "ClassLabel", LABELS)):
        asked = wanted.option(what)
        said = [name for name, value in features.items() if value.get("_type") == kind and name in known]
        candidates = [asked] if asked else said or [name for name in usual if name in known][:1]
        if len(candidates) != 1 or candidates[0] not in known:
            unclear = f"has several columns of {what}s" if len(candidates) > 1 else f"has no column of {what}s"
            raise InputError(
                f"data '{wanted.name}': {unclear} that is known; its columns are {', '.join(known)}. Name it as "
                f"--data \"{wanted.name}({what}='{(candidates if len(candidates) > 1 else known)[0]}')\""
            )
        found.append(candidates[0])
    return found[0], found[1]


def _class_names(table: _Table, label: str) -> tuple[str, ...]:
    names = _features(table).get(label, {}).get("names") or ()
    return tuple(names) if all(isinstance(name, str) for name in names) else ()


def _images(
    wanted: Wanted, tables: Sequence[_Table], image: str, values: Sequence[Any], names: tuple[str, ...]
) -> Images:
    missing = sum(value is None for value in values)
    if missing:
        raise InputError(f"data '{wanted.name}': {missing:,} of {len(values):,} images have no label")
    labels, found = numbered(values)
    ends = list(accumulate(table.rows for table in tables))

    def cell(number: int) -> Any:
        which = bisect_right(ends, number)
        return tables[which].cell(image, number - (ends[which - 1] if which else 0))

    def where(number: int) -> str:
        return f"data '{wanted.name}': image {number}"

    def encoded(number: int) -> bytes:
        value = cell(number)
        held = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(held, bytes):
            path = value.get("path") if isinstance(value, dict) else None
            raise ValueError("is only a path: save the data set with its images" if path else "is empty")
        return held

    first = cell(0)
    if isinstance(first, (list, tuple)):  # arrays of numbers
        return images_of(np.asarray([cell(n) for n in range(len(values))], np.uint8), labels, wanted.name,
                         class_names=names or found)  # fmt: skip
    return pictures(wanted.name, FileBytes(len(values), encoded, where), labels, names or found)
