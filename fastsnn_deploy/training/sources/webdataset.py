"""Shards of WebDataset: tar archives whose members with one name, apart from the ending, are one sample.

Nothing is unpacked to a file, members that are pickles are never read, and no more of an archive is in memory than the
images that are asked for. Source of the rules: https://github.com/webdataset/webdataset, README.
"""

from __future__ import annotations

import itertools
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.files import readable_file
from fastsnn_deploy.training.images import Images, Split
from fastsnn_deploy.training.pictures import FileBytes
from fastsnn_deploy.training.sources.base import (
    SPLITS,
    Wanted,
    fifth,
    numbered,
    pictures,
    source,
    split_of,
    start_of,
)

IMAGES = ("jpg", "jpeg", "png", "bmp", "ppm", "pgm", "webp", "tif", "tiff")
LABELS = ("cls", "class", "index", "label")
KEYS = ("label", "cls", "class", "target", "y")
"""Entries of a sample's .json that may be its label, the best first."""

PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd"}

LARGEST_IMAGE, LARGEST_LABEL = 2**28, 2**20
"""Bytes of a member beyond which it is no image, or no label."""

MOST_SHARDS = 100_000
SHOWN = 20

BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")


def _is_shards(wanted: Wanted) -> bool:
    place = wanted.place
    if place is not None and place.is_dir():
        return any(place.glob("*.tar"))
    return start_of(place)[257:262] == b"ustar" or re.search(r"\.tar(\.\w+)?$", wanted.name) is not None


@source("WebDataset shards", _is_shards, options=("image", "label"))
def read_shards(wanted: Wanted) -> Images:
    """`shards/train-{0000..0009}.tar`, one .tar, or a folder of them; a label is NAME.cls, or in NAME.json."""
    files, own = _files(wanted)
    samples = list(itertools.chain.from_iterable(_samples(file, wanted.option("image")) for file in files))
    wrong = [problem for sample in samples for problem in sample.problems(wanted.option("label"))]
    if wrong:
        raise InputError(
            f"data '{wanted.name}': {len(wrong):,} of {len(samples):,} samples cannot be used", wrong[:SHOWN]
        )
    if not samples:
        raise InputError(f"data '{wanted.name}': its archives hold no images ({', '.join(IMAGES)}). Check the pattern")
    labels, names = numbered([sample.label for sample in samples])
    stored = FileBytes(len(samples), lambda n: samples[n].read(), lambda n: samples[n].where)
    images = pictures(wanted.name, stored, labels, names)
    return images if own else fifth(images, wanted.split)


def _files(wanted: Wanted) -> tuple[list[Path], bool]:
    """(archives of a split, whether they are that split's own)."""
    place = wanted.place
    if place is not None and place.is_dir():
        found = sorted(place.glob("*.tar"))
        splits = {file: split_of(file.stem) for file in found}
        own = [file for file, split in splits.items() if split == wanted.split]
        if set(splits.values()) == {None}:
            return found, False
        if not own:
            raise InputError(
                f"{place}: no archive of the {wanted.split} split is there. Name them {SPLITS[wanted.split][0]}-*.tar"
            )
        return own, True
    split = split_of(Path(wanted.name).name)
    if split is None:
        return _expanded(wanted, wanted.name), False
    if split == wanted.split:
        return _expanded(wanted, wanted.name), True
    return _expanded(wanted, _other(wanted, split)), True


def _other(wanted: Wanted, split: Split) -> str:
    """The pattern of the other split's archives: those beside the named ones, as many as there are."""
    folder, name = Path(wanted.name).parent, Path(wanted.name).name
    called = next(each for each in SPLITS[split] if each in name.lower())
    for other in SPLITS[wanted.split]:
        pattern = BRACES.sub("*", name.replace(called, other))
        for base in (folder, wanted.root / folder):
            if base.is_dir() and any(base.glob(pattern)):
                return str(base / pattern)
    raise InputError(
        f"data '{wanted.name}': is the {split} split, and nothing beside it is the {wanted.split} split. Name its "
        f"archives {BRACES.sub('*', name.replace(called, SPLITS[wanted.split][0]))}"
    )


def _expanded(wanted: Wanted, pattern: str) -> list[Path]:
    """The files of a pattern with braces or stars. Raises InputError naming every one that is missing."""
    names = list(itertools.islice(braces(pattern), MOST_SHARDS + 1))
    if len(names) > MOST_SHARDS:
        raise InputError(f"data '{wanted.name}': names more than {MOST_SHARDS:,} archives")
    files, missing = [], []
    for name in names:
        base = next((b for b in (Path(), wanted.root) if (b / name).exists() or "*" in name), Path())
        found = sorted((base / name).parent.glob(Path(name).name)) if "*" in name else [base / name]
        files += found
        missing += [Problem(str(file), "is missing") for file in found if not file.exists()]
    if missing or not files:
        first = f": {missing[0].where} is missing" if len(missing) == 1 else ""
        what = f"data '{wanted.name}': {len(missing) or 'all'} of {len(names):,} archives are not there{first}"
        raise InputError(what, missing[:SHOWN] if len(missing) > 1 else ())
    return files


def braces(pattern: str) -> Iterator[str]:
    """The names that a pattern stands for, as shells write it: `a-{000..002}.tar`, `{train,extra}.tar`.

    Example:
        >>> list(braces("a-{08..10}.tar"))
        ['a-08.tar', 'a-09.tar', 'a-10.tar']
    """
    found = BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    span = RANGE.fullmatch(found[1])
    if span is None:
        middle: Iterator[str] = iter(found[1].split(","))
    else:
        first, last = int(span[1]), int(span[2])
        middle = (str(n).zfill(len(span[1])) for n in range(first, last + 1))
    for each in middle:
        yield from braces(pattern[: found.start()] + each + pattern[found.end() :])


@dataclass
class _Sample:
    """One sample of an archive. parts: (offset, size) of its members by ending; label: what they say."""

    file: Path
    key: str
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)
    label: Any = None
    image: str | None = None

    @property
    def where(self) -> str:
        return f"{self.file}: {self.key}.{self.image}" if self.image else f"{self.file}: {self.key}"

    def read(self) -> bytes:
        """The bytes of its image."""
        assert self.image is not None
        return _bytes(self.file, *self.parts[self.image])

    def problems(self, asked: str | None) -> Iterator[Problem]:
        """What is wrong; sets `label`."""
        if self.image is not None and self.parts[self.image][1] > LARGEST_IMAGE:
            yield Problem(self.where, f"has {self.parts[self.image][1]:,} bytes, too many for an image")
        try:
            self.label = self._label(asked)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            held = ", ".join(f".{ending}" for ending in self.parts)
            yield Problem(self.where, f"has no label ({str(error) or type(error).__name__:.100}; it holds {held})")

    def _label(self, asked: str | None) -> Any:
        for ending in (*((asked,) if asked in self.parts else ()), *LABELS):
            if ending in self.parts:
                text = self._text(ending)
                return int(text) if re.fullmatch(r"-?\d+", text) else text
        if "json" not in self.parts:
            raise ValueError("neither .cls nor .json")
        content = json.loads(self._text("json"))
        key = next((key for key in ((asked,) if asked else KEYS) if key in content), None)
        if key is None or not isinstance(content[key], (int, str)) or isinstance(content[key], bool):
            raise ValueError(f"its .json has no {asked or ', '.join(KEYS)} that is a number or a name")
        return content[key]

    def _text(self, ending: str) -> str:
        offset, size = self.parts[ending]
        if size > LARGEST_LABEL:
            raise ValueError(f".{ending} has {size:,} bytes, too many for a label")
        return _bytes(self.file, offset, size).decode("utf-8").strip()


def _bytes(file: Path, offset: int, size: int) -> bytes:
    with file.open("rb") as stream:
        stream.seek(offset)
        return stream.read(size)


def _samples(path: Path, asked: str | None) -> list[_Sample]:
    """The samples of an archive that have an image, by a look at its headers alone."""
    file = readable_file(path, "archive")
    start = start_of(file, 8)
    if (packed := next((how for mark, how in PACKED.items() if start.startswith(mark)), None)) is not None:
        raise InputError(f"{file}: is compressed ({packed}), so that single images cannot be read. Unpack it to a .tar")
    whole = file.stat().st_size
    samples: dict[str, _Sample] = {}
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                stem, dot, ending = name.partition(".")
                if not (member.isreg() and dot and stem) or member.issparse():
                    continue
                if member.offset_data + member.size > whole:
                    raise tarfile.ReadError("it ends within a member")
                key = f"{folder}/{stem}" if folder else stem
                sample = samples.setdefault(key, _Sample(file, key))
                sample.parts[ending.lower()] = (member.offset_data, member.size)
    except (tarfile.TarError, OSError, ValueError, OverflowError, EOFError) as error:
        raise InputError(f"{file}: is no tar archive or is damaged ({error}). Copy or write it again") from error
    return [sample for sample in samples.values() if _find_image(sample, asked)]


def _find_image(sample: _Sample, asked: str | None) -> bool:
    """Whether a sample has an image; sets which it is."""
    endings: Sequence[str] = [asked.lower()] if asked else [e for e in sample.parts if e.rpartition(".")[2] in IMAGES]
    sample.image = next((ending for ending in endings if ending in sample.parts), None)
    return sample.image is not None
