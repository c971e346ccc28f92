"""What a stranger's file may ask for: rules that hold for every reader, whatever the format.

Sizes are bounded before anything of that size is read, text is parsed by parsers that take no more than they were
given, and `damaged` turns what a library raises for bytes that nobody foresaw into one message.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import BaseModel, ValidationError

from fastsnn_deploy.errors import DeployError, InputError, Problem
from fastsnn_deploy.files import ARCHIVE, existing_file

ROOM = 2**27
"""Bytes that a file may unpack to beyond its own size: readers hold what they unpack up to three times at once."""

TEXT_BYTES = 2**18
"""Most bytes of a YAML file: thirty times the longest recipe or profile."""

JSON_BYTES = 2**26
"""Most bytes of a JSON file, such as the annotations of a data set."""

DEPTH = 50
"""Most tables and lists inside one another in YAML and JSON."""

DIGITS = 400
"""Most characters of one number in YAML: every float has fewer."""

ENTRIES = 2**16
"""Most files in an archive."""

REASON = 200
"""Most characters of what a library says of a damaged file."""

Model = TypeVar("Model", bound=BaseModel)


@contextmanager
def damaged(path: str | Path, what: str) -> Iterator[None]:
    """Within, whatever a reader sets off is the file's fault: one InputError that names it.

    Errors of this package pass; one without the file's name gets it.

    Example:
        >>> with damaged("net.onnx", "ONNX file"):
        ...     [][0]
        Traceback (most recent call last):
        fastsnn_deploy.errors.InputError: net.onnx: the ONNX file is damaged (IndexError: list index out of range)
    """
    try:
        yield
    except DeployError as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error.message}", error.problems) from error
    except Exception as error:
        raise InputError(f"{path}: the {what} is damaged ({reason_of(error)})") from error


def reason_of(error: BaseException) -> str:
    """The first line of what an error says, with its kind; of a schema's, its first finding."""
    if isinstance(error, ValidationError):
        return f"{problems_of(error, 'an option')[0]}"
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line:.{REASON}}" if line else type(error).__name__


def require_room(path: str | Path, claimed: int, what: str = "its content", room: int = ROOM) -> None:
    """Raise InputError if a file claims to unpack to more than it holds and `room` bytes."""
    size = os.path.getsize(path)
    if claimed > size + room:
        raise InputError(
            f"{path}: {what} would take {claimed:,} bytes, far more than the {size:,} of the file. Save it again "
            "without compression if that is meant"
        )


# text


def read_text(path: str | Path, what: str, most: int = TEXT_BYTES) -> str:
    """A file of UTF-8 text. Raises InputError if it is missing, of another kind, too long, or no text."""
    path = existing_file(path, what)
    with damaged(path, what), path.open("rb") as file:
        content = file.read(most + 1)
    return decoded(content, path, what, most)


def decoded(content: bytes, path: str | Path, what: str, most: int = TEXT_BYTES) -> str:
    """Bytes as UTF-8 text. Raises InputError if there are more than `most`, or they are none."""
    if len(content) > most:
        raise InputError(f"{path}: is longer than {most:,} bytes, no {what} is")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: is no UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8"
        ) from error


def read_json(path: str | Path, what: str, most: int = JSON_BYTES) -> Any:
    """The content of a JSON file. Raises InputError if it is none, or nested too deep."""
    return json_of(read_text(path, what, most), path, what)


def json_of(text: Any, where: str | Path, what: str) -> Any:
    """JSON text as plain values. Raises InputError for anything else, numbers of thousands of digits, and NaN."""
    try:
        if not isinstance(text, (str, bytes)):
            raise ValueError(f"a {type(text).__name__} in place of text")
        _require_shallow(text if isinstance(text, str) else text.decode("utf-8"))
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: the {what} is not JSON ({reason_of(error)})") from error


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _require_shallow(text: str) -> None:
    """Raise ValueError for brackets more than DEPTH deep, outside of strings."""
    depth = 0
    for bracket in re.finditer(r'"(?:[^"\\]|\\.)*"|([\[{])|([\]}])', text, re.DOTALL):
        depth += (bracket[1] is not None) - (bracket[2] is not None)
        if depth > DEPTH:
            raise ValueError(f"lists and tables are nested more than {DEPTH} deep")


class _Loader(yaml.SafeLoader):
    """Plain values only: no aliases, which grow without end, no dates, and numbers that a program can mean."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(f"line {line}: aliases (*name) are not read")
        if self.depth >= DEPTH:
            raise yaml.YAMLError(f"lists and tables are nested more than {DEPTH} deep")
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def number(self, node: yaml.ScalarNode) -> int | float:
        """A number, as YAML 1.1 has them. Raises YAMLError for one that no table here can mean."""
        text, line = node.value, node.start_mark.line + 1
        if len(text) > DIGITS:
            raise yaml.YAMLError(f"line {line}: a number of {len(text):,} characters")
        kind = self.construct_yaml_int if node.tag.endswith("int") else self.construct_yaml_float
        try:
            found: int | float = kind(node)
            return found
        except (ValueError, OverflowError) as error:
            raise yaml.YAMLError(f"line {line}: {text!r:.40} is no number") from error


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if not tag.endswith("timestamp")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.number)


def read_yaml(path: str | Path, what: str) -> Any:
    """The content of a YAML file as plain values. Raises InputError if it is none, or asks for too much."""
    return yaml_of(read_text(path, what), path, what)


def yaml_of(text: str, where: str | Path, what: str) -> Any:
    """YAML text as plain values: dates are text, and there are no aliases.

    Raises InputError.

    Example:
        >>> yaml_of("day: 2001-99-99", "day.yaml", "recipe file")
        {'day': '2001-99-99'}
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{where}: the {what} cannot be read as plain YAML ({reason:.{REASON}})") from error


def of_schema(model: type[Model], content: Any, where: str | Path, what: str) -> Model:
    """Plain values as what a schema says. Raises InputError listing every wrong key and value."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{where}: is not a valid {what}", problems_of(error)) from error


def problems_of(error: ValidationError, whole: str = "the file") -> list[Problem]:
    """What a schema found, each once: an error that only follows from one inside it is left out."""
    places = [item["loc"] for item in error.errors()]
    return [
        Problem(".".join(map(str, item["loc"])) or whole, f"{item['msg']} (found {_short(item.get('input'))})")
        for item in error.errors()
        if not any(place[: len(item["loc"])] == item["loc"] != place for place in places)
    ]


def _short(value: Any) -> str:
    """A value for a message. A long number has no decimal form that Python would write."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length():,} bits"
    return f"{value!r:.60}"


# archives


def read_entries(path: str | Path, what: str = "file") -> tuple[zipfile.ZipInfo, ...]:
    """The entries of an archive, none unpacked. Raises InputError if it is damaged, in parts, or asks for too much."""
    with damaged(path, "archive"), zipfile.ZipFile(path) as archive:
        entries = tuple(archive.infolist())
    if len(entries) > ENTRIES:
        raise InputError(f"{path}: is an archive of {len(entries):,} files, no {what} has more than {ENTRIES:,}")
    require_room(path, sum(entry.file_size for entry in entries), "its archive")
    return entries


# arrays

Array = npt.NDArray[Any]


class Arrays(Mapping[str, Array]):
    """The arrays of an .npz file by name, each read when it is asked for, and never larger than the file says.

    Raises InputError, when it is made, for a file that is none or whose arrays claim what is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        entries = read_entries(path, "data file")
        self._entries = {entry.filename.removesuffix(".npy"): entry for entry in entries}
        for name, entry in self._entries.items():
            self._check(name, entry)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __getitem__(self, name: str) -> Array:
        entry = self._entries[name]
        with damaged(self.path, f"array '{name}'"), zipfile.ZipFile(self.path) as archive, archive.open(entry) as file:
            found: Array = np.lib.format.read_array(file, allow_pickle=False)  # type: ignore[no-untyped-call]
            return found

    def numbers(self, name: str, kinds: str = "biuf") -> Array:
        """An array of numbers. kinds: of NumPy. Raises InputError for text, dates and single values."""
        found = self[name]
        if found.dtype.kind not in kinds or not found.ndim:
            wanted = "numbers" if "f" in kinds else "whole numbers"
            raise InputError(
                f"{self.path}: its array '{name}' is {found.dtype} {found.shape}. Give {wanted}, one entry an image"
            )
        return found

    def _check(self, name: str, entry: zipfile.ZipInfo) -> None:
        """Raise InputError unless the header of an array says what its entry holds."""
        with damaged(self.path, f"array '{name}'"), zipfile.ZipFile(self.path) as archive, archive.open(entry) as file:
            shape, dtype, start = _header(file)
        if dtype.hasobject:
            raise InputError(f"{self.path}: its array '{name}' holds Python objects, which are not read. Save numbers")
        claimed = math.prod(shape) * dtype.itemsize
        if min(shape, default=1) < 0 or claimed != entry.file_size - start:
            raise InputError(
                f"{self.path}: its array '{name}' of shape {_short(shape)} would have {_short(claimed)} bytes, "
                f"the file holds {entry.file_size - start:,}. It is damaged: write it again"
            )


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """(shape, dtype, bytes of the header) of an array in NumPy's format. Raises ValueError."""
    version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"NumPy's format {version}")
    wide = version != (1, 0)
    (length,) = struct.unpack("<I" if wide else "<H", file.read(4 if wide else 2))
    if length > 2**14:
        raise ValueError(f"a header of {length:,} bytes")
    file.seek(8)
    read = np.lib.format.read_array_header_2_0 if wide else np.lib.format.read_array_header_1_0
    shape, _, dtype = read(file)  # type: ignore[no-untyped-call]
    return shape, dtype, file.tell()


def read_arrays(path: str | Path) -> Arrays:
    """The arrays of an .npz file. Raises InputError if it is missing, none, damaged, or asks for too much."""
    path = existing_file(path, "data file")
    with path.open("rb") as file:
        if file.read(len(ARCHIVE)) != ARCHIVE:
            raise InputError(f"{path}: is not an .npz file or is damaged. Write it with numpy.savez")
    with damaged(path, "data file"):
        return Arrays(path)
