"""Files: what kind a file of this program is, and writing so that a failed write leaves nothing behind."""

from __future__ import annotations

import mmap
import os
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
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


POINTER = b"version https://git-lfs.github.com"
"""First bytes of what a clone without Git LFS holds in place of large files."""


def path_of(path: Any, what: str) -> Path:
    """A path as users write it: a string or a path object. Raises InputError for anything else."""
    if not isinstance(path, (str, os.PathLike)) or isinstance(os.fspath(path), bytes):
        raise wrong_type(f"the path of the {what}", path, "a string or a pathlib.Path")
    return Path(path)


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
    except (OSError, ValueError, zipfile.BadZipFile, RuntimeError, NotImplementedError):
        return ""


def existing_file(path: str | Path, what: str) -> Path:
    """Return `path` if it is a readable, non-empty file and no other kind of ours than `what`.

    Raises InputError naming `what`, and what to do with a Git LFS pointer or a file of another kind of this program.
    """
    path = path_of(path, what)
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise InputError(f"{path}: is a folder, not a {what}. Name a file")
        if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
            raise InputError(f"{path}: is a pipe or a device, not a {what}. Name a file")
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
        raise InputError(f"{path}: is a Git LFS pointer in place of the file. Fetch the file with `git lfs pull`")
    kind, needed = kind_of_file(path), "exported network" if what == "NetX file" else what
    if kind and kind != needed:
        fix = ADVICE.get((kind, needed), "Run `fastsnn-deploy info {path}` to see what it holds").format(path=path)
        raise InputError(f"{path}: is {_article(kind)}, and {_article(needed)} is needed here. {fix}")
    return path


def _article(what: str) -> str:
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` on success, delete it on any failure.

    Raises InputError when the folder cannot be written or the disk is full.
    """
    target = path_of(path, "file to write")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise InputError(f"{target}: is a folder. Name a file to write")
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        os.close(handle)
    except InputError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{target!s:.200}: cannot be written ({reason})") from error
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes 0600; a normal file follows the umask
        temporary.replace(target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
