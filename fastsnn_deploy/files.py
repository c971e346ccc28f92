"""Files: what kind a file of this program is, and writing so that a failed write leaves nothing behind."""

from __future__ import annotations

import mmap
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastsnn_deploy.errors import InputError

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


def kind_of_file(path: Path) -> str:
    """The kind of a file of this program, by its content and not by its name; "" for any other file.

    Nothing in the file is executed or unpacked but one entry of a PyTorch archive, which is read as bytes.
    """
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

    Raises InputError naming `what`, and what to do with a file of another kind of this program.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such {what}. Check the path")
    if path.is_dir():
        raise InputError(f"{path}: is a folder, not a {what}. Name a file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the {what} is empty. Write it again")
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
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise InputError(f"{target}: is a folder. Name a file to write")
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error})") from error
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
