"""Folders that one command writes as a whole: all of it is there, or what was there before stays."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.files import path_of, planned

START = 200
"""Bytes of a file in which its sign is looked for."""


@dataclass(frozen=True)
class FolderKind:
    """what: the folder in words. names: of the files that may be in it. sign: the file that says that a folder is one,
    and what is near its start."""

    what: str
    names: tuple[str, ...]
    sign: tuple[str, bytes]


def planned_folder(path: str | Path, kind: FolderKind) -> Path:
    """Say that this command will write a folder, and return its path.

    Raises InputError before the work is done rather than after it: what is there is no folder of that kind and not
    empty, the command reads a file that would be in it, or nothing can be written there.
    """
    path = path_of(path, f"folder of the {kind.what}")
    _require_replaceable(path, kind)
    try:
        for name in kind.names:
            planned(path / name)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise _not_written(path, error) from error
    return path


def write_folder(path: str | Path, contents: Mapping[str, bytes | str], kind: FolderKind) -> None:
    """Write a folder of files: it is complete, or what was there before stays.

    Args:
        path: Where; missing folders above are made. An empty folder, or one of the same kind, is replaced.
        contents: Files by name; bytes, or text to be written as UTF-8.
        kind: What may be replaced.

    Raises:
        InputError: something else is there, or the folder cannot be written.
    """
    path = path_of(path, f"folder of the {kind.what}")
    _require_replaceable(path, kind)
    target, mark = Path(os.path.realpath(path)), secrets.token_hex(4)
    made, aside = (target.with_name(f".{target.name[:60]}.{mark}.{end}") for end in ("tmp", "old"))
    try:
        made.mkdir(parents=True)
        for name, content in contents.items():
            with (made / name).open("xb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, made)
            target.rename(aside)
        made.rename(target)
    except (OSError, ValueError) as error:
        raise _not_written(path, error) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
        if aside.is_dir() and not target.exists():  # the new one did not come into its place
            aside.rename(target)
        shutil.rmtree(aside, ignore_errors=True)


def _require_replaceable(path: Path, kind: FolderKind) -> None:
    """Raise InputError if there is something that is neither a folder of that kind nor empty."""
    name, start = kind.sign
    try:
        if not os.path.lexists(path):
            return
        found = {each.name for each in path.iterdir()} if path.is_dir() else None
        ours = found is not None and name in found and start in (path / name).read_bytes()[:START]
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise _not_written(path, error) from error
    if found is None:
        raise InputError(f"{path}: is not a folder. Name a folder to write")
    others = sorted(found - set(kind.names) if ours else found)
    if others:
        no = f"is no part of a {kind.what}" if ours else f"and is no {kind.what}"
        more = " and others" if others[1:] else ""
        raise InputError(f"{path}: holds {others[0]}{more}, {no}. Name a new or an empty folder")


def _not_written(path: Path, error: Exception) -> InputError:
    return InputError(f"{path!s:.200}: cannot be written ({getattr(error, 'strerror', None) or error})")
