"""Files: what kind a file of this program is, and the one function that writes.

While a command runs (`one_command`), what it reads is never what it writes, and no file is written by two of its
outputs. A file is complete, or what was there before stays.
"""

from __future__ import annotations

import mmap
import os
import secrets
import shutil
import stat
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastsnn_deploy.errors import InputError, wrong_type

MARKS = {
    b"fastsnn-deploy checkpoint": "checkpoint",
    b"fastsnn-deploy training state": "training state",
    b"fastsnn-deploy fine-tuning state": "fine-tuning state",
    b"fastsnn_deploy_netx_version": "exported network",
    b"fastsnn_deploy_stock": "exported network",
    b"NIRGraph": "NIR file",
    b"fastsnn-deploy spiking graph": "spiking graph file",
}
"""What files of each kind hold near their start, whatever wrote the rest of them."""

ADVICE = {
    ("checkpoint", "exported network"): "Run `fastsnn-deploy export {path}` first",
    ("checkpoint", "NIR file"): "Run `fastsnn-deploy export {path} --format nir` first",
    ("checkpoint", "spiking graph file"): "Write one with `fastsnn-deploy export {path} --graph graph.safetensors`",
    ("training state", "checkpoint"): "Finish the training with `fastsnn-deploy train --resume`",
    ("fine-tuning state", "checkpoint"): "Finish it with `fastsnn-deploy finetune --resume`",
    ("exported network", "checkpoint"): "Give the checkpoint that it was exported from, which `train` or `save` wrote",
}
"""What to do with a file of the first kind where the second is needed."""


ARCHIVE = b"PK\x03\x04"
"""First bytes of a zip archive, as torch.save and numpy.savez write."""

POINTER = b"version https://git-lfs.github.com"
"""First bytes of what a clone without Git LFS holds in place of large files."""


def path_of(path: Any, what: str) -> Path:
    """A path as users write it: a string or a path object. Raises InputError for anything else."""
    if not isinstance(path, (str, os.PathLike)) or isinstance(os.fspath(path), bytes):
        raise wrong_type(f"the path of the {what}", path, "a string or a pathlib.Path")
    return Path(path)


def below(root: Path, name: str, what: str) -> Path:
    """The file of that name below a folder. Raises InputError for a name that leads out of it, by links too.

    Files of strangers, such as recipes, name others: they choose among the user's data, not among all files.
    """
    path = root / name
    if "\0" in name or not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise InputError(f"{what} '{name}' does not lie below '{root}'. Put the file there, and name it from there")
    return path


def kind_of_file(path: Path) -> str:
    """The kind of a file of this program, by its content and not by its name; "" for any other file.

    Nothing in the file is executed or unpacked but one entry of a PyTorch archive, which is read as bytes.
    """
    if not os.path.isfile(path):  # opening a pipe would wait for ever
        return ""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                entries = [name for name in archive.namelist() if name.endswith("/data.pkl")]
                found = archive.open(entries[0]).read(2**20) if entries else b""
            return next((kind for mark, kind in MARKS.items() if mark in found), "")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            hdf5 = data[:8] == b"\x89HDF\r\n\x1a\n"
            if not hdf5 and data[8:9] != b"{":  # a safetensors file begins with the length of its JSON header
                return ""
            return next((kind for mark, kind in MARKS.items() if data.find(mark) >= 0), "")
    except Exception:  # whatever a damaged archive may set off: its reader says what is wrong
        return ""


def existing_file(path: str | Path, what: str, *others: str) -> Path:
    """Return `path` if it is a readable, non-empty file and no other kind of ours than `what` or one of `others`.

    Raises InputError naming `what`, and what to do with a Git LFS pointer or a file of another kind of this program.
    """
    path = readable_file(path, what)
    kind, needed = kind_of_file(path), "exported network" if what == "NetX file" else what
    if kind and kind not in (needed, *others):
        fix = ADVICE.get((kind, needed), "Run `fastsnn-deploy info {path}` to see what it holds").format(path=path)
        raise InputError(f"{path}: is {_article(kind)}, and {_article(needed)} is needed here. {fix}")
    return path


def readable_file(path: str | Path, what: str) -> Path:
    """Return `path` if it is a file, of any kind, that can be read and holds something. Raises InputError."""
    path = path_of(path, what)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path}: is a folder, not {_article(what)}. Name a file")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path}: is a device or a pipe, not {_article(what)}. Name a file")
        with path.open("rb") as file:
            start = file.read(len(POINTER))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path}: no such {what}. Check the path") from error
    except InputError:
        raise
    except (OSError, ValueError) as error:  # locked, a name too long or with a NUL, links in a circle
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path!s:.200}: the {what} cannot be read ({reason}). Check the path") from error
    if not start:
        raise InputError(f"{path}: the {what} is empty. Write it again")
    if start == POINTER:
        raise InputError(f"{path}: is a Git LFS pointer in place of the {what}. Fetch it with `git lfs pull`")
    if (files := _files.get()) is not None:
        marks = _marks(path)
        if marks & files.planned:
            raise _read_and_written(path)
        files.read |= marks
    return path


def _article(what: str) -> str:
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"


# what one command reads and writes

Mark = str | tuple[int, int]
"""A file by its place, or by its device and number there, which all its names share."""


@dataclass
class _Files:
    read: set[Mark] = field(default_factory=set)
    planned: set[Mark] = field(default_factory=set)
    written: set[Mark] = field(default_factory=set)


_files: ContextVar[_Files | None] = ContextVar("files of this command", default=None)


@contextmanager
def one_command() -> Iterator[None]:
    """Within, a file that was read is not written, and none is written twice. One inside another is part of it."""
    token = _files.set(_files.get() or _Files())
    try:
        yield
    finally:
        _files.reset(token)


@contextmanager
def own_files() -> Iterator[None]:
    """Within, what is read does not count as the user's: a file that this command itself writes, or keeps writing."""
    token = _files.set(None)
    try:
        yield
    finally:
        _files.reset(token)


def planned(path: str | Path) -> Path:
    """Say that this command will write `path`, and return it.

    Raises InputError before the work is done rather than after it: the command also reads that file, another output
    has its name, or no file can be written there.
    """
    path = path_of(path, "file to write")
    if (files := _files.get()) is not None:
        marks = _marks(path)
        if marks & files.read:
            raise _read_and_written(path)
        if marks & (files.planned | files.written):
            raise _written_twice(path)
        files.planned |= marks
    _require_place(path)
    return path


def _claim(path: Path, again: bool) -> None:
    """Count `path` as written, unless this command has read it, or another of its outputs is there."""
    if (files := _files.get()) is not None:
        marks = _marks(path)
        if marks & files.read:
            raise _read_and_written(path)
        if marks & files.written and not again:
            raise _written_twice(path)
        files.planned -= marks
        files.written |= {mark for mark in marks if isinstance(mark, str)}  # the new file has a number of its own
    _require_place(path)


def _marks(path: Path) -> set[Mark]:
    """All marks of a file that is there or not; none of a device or a pipe, through which anything may go."""
    place = os.path.realpath(path)
    try:
        status = path.stat()
    except OSError:
        return {place}
    return {place, (status.st_dev, status.st_ino)} if stat.S_ISREG(status.st_mode) else set()


def _read_and_written(path: Path) -> InputError:
    return InputError(f"{path}: would be overwritten, and this command reads it. Name another file to write")


def _written_twice(path: Path) -> InputError:
    return InputError(f"{path}: is named for two outputs of this command. Name another file for one of them")


def _require_place(path: Path) -> None:
    """Raise InputError if no file can be written there, as far as can be seen without writing."""
    with suppress(FileNotFoundError, NotADirectoryError):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{path}: is a folder. Name a file to write")
        if stat.S_ISBLK(mode):
            raise InputError(f"{path}: is a disk. Name a file to write")
        if not os.access(path, os.W_OK):
            raise InputError(f"{path}: cannot be written (it is write-protected). Name another file")
        if not stat.S_ISREG(mode):
            return
    folder = next(parent for parent in Path(os.path.realpath(path)).parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise InputError(f"{path}: cannot be written ({folder} is not a folder that can be written)")


# writing


def write_file(
    path: str | Path,
    content: bytes | str,
    difference: Callable[[Path], str | None] | None = None,
    *,
    again: bool = False,
) -> None:
    """Write a whole file: it is complete and on the disk, or what was there before stays.

    A link is followed. An existing file keeps its permissions. What is no file is written through: a device, a pipe,
    and what stdout or stderr goes to.

    Args:
        path: Where; missing folders are made.
        content: Bytes, or text to be written as UTF-8.
        difference: Reads a copy that is not in place yet, and says where it differs from what was meant; None if
            nowhere. Raises InputError if it cannot be read.
        again: The file is one that this command writes several times, such as the state of a training.

    Raises:
        InputError: the file is one that this command reads or has written; it cannot be written there; the disk is
            full; it does not read back the same.
    """
    path = path_of(path, "file to write")
    data = content.encode() if isinstance(content, str) else content
    try:
        _claim(path, again)
        descriptor = _stream(path)
        if descriptor is None:
            _replace(path, data, difference)
            return
        with open(descriptor, "wb") as stream:
            if difference is not None:
                with tempfile.TemporaryDirectory() as folder:
                    copy = Path(folder) / "copy"
                    copy.write_bytes(data)
                    _require_same(path, copy, difference)
            stream.write(data)
    except InputError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path!s:.200}: cannot be written ({reason})") from error


def is_stream(path: str | Path) -> bool:
    """Whether `path` is a device or a pipe: there is no file, and nothing can be written beside it."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def _stream(path: Path) -> int | None:
    """A descriptor of what is written through and never replaced; None for a file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return os.open(path, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # there may be none, or one without a descriptor
            if os.path.samestat(os.fstat(stream.fileno()), status):
                stream.flush()
                return os.dup(stream.fileno())
    return None


def _replace(path: Path, data: bytes, difference: Callable[[Path], str | None] | None) -> None:
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name[:60]}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if temporary.read_bytes() != data:
            raise InputError(f"{path}: the disk returns other bytes than were written")
        if difference is not None:
            _require_same(path, temporary, difference)
        if target.exists():
            _keep_permissions(target, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    with suppress(OSError):  # not every file system can sync a folder
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _keep_permissions(old: Path, new: Path) -> None:
    with suppress(OSError):  # only root may give a file away
        os.chown(new, old.stat().st_uid, old.stat().st_gid)
    shutil.copymode(old, new)


def _require_same(path: Path, copy: Path, difference: Callable[[Path], str | None]) -> None:
    try:
        with own_files():
            found = difference(copy)
    except InputError as error:
        reason = str(error).replace(f"{copy}: ", "").replace(f"{copy}", f"{path}")
        raise InputError(f"{path}: cannot be written ({reason})") from error
    if found is not None:
        raise InputError(f"{path}: cannot be written exactly: {found}")
