"""Writing files so that an interrupted or failed write leaves nothing behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastsnn_deploy.errors import InputError


def existing_file(path: str | Path, what: str) -> Path:
    """Return `path` if it is a readable, non-empty file; raise InputError naming `what` otherwise."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such {what}. Check the path")
    if path.is_dir():
        raise InputError(f"{path}: is a folder, not a {what}. Name a file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the {what} is empty. Write it again")
    return path


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
