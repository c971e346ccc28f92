"""What the formats in HDF5 share: files made in memory, and errors of HDF5 as one message."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy.typing as npt

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.files import readable_file, write_file
from fastsnn_deploy.reading import reason_of

HDF5_ERRORS = (
    OSError, KeyError, IndexError, ValueError, TypeError, AttributeError, AssertionError, ArithmeticError,
    RuntimeError, MemoryError,
)  # fmt: skip
"""What HDF5, and the packages that read it, raise for files and values that are not what they should be."""


def write_hdf5(path: str | Path, fill: Callable[[BinaryIO], None], difference: Callable[[Path], str | None]) -> None:
    """Write what `fill` puts into an open file, made in memory: HDF5 crashes the interpreter when the disk fills.

    difference: as in `write_file`. Raises InputError if a value has no place in HDF5, and as `write_file`.
    """
    image = io.BytesIO()
    try:
        fill(image)
    except HDF5_ERRORS as error:
        reason = error if isinstance(error, InputError) else reason_of(error)
        raise InputError(f"{path}: cannot be written ({reason})") from error
    write_file(path, image.getvalue(), difference)


def unreadable(path: str | Path, error: Exception) -> InputError:
    """The message for what HDF5 raised when it opened or read `path`."""
    if isinstance(error, BlockingIOError):
        return InputError(f"{path}: is locked: another program has it open for writing. Close it there")
    return InputError(f"{path}: is not an HDF5 file or is damaged ({reason_of(error)})")


MOST_BYTES = 2**30
"""Of all arrays that are read at once."""


def read_arrays(path: str | Path, group: str) -> dict[str, npt.NDArray[Any]]:
    """Every numeric array below a group of an HDF5 file, by its path there; nothing in the file runs.

    Raises InputError for a missing or damaged file, one without that group, and for more than a gigabyte.
    """
    found: dict[str, npt.NDArray[Any]] = {}
    file, size = readable_file(path, "weights file"), 0
    try:
        with h5py.File(file) as content:
            names: list[str] = []
            content[group].visit(names.append)
            for name in names:
                held = content[group][name]
                if isinstance(held, h5py.Dataset) and held.dtype.kind in "iuf":
                    size += held.nbytes
                    if size > MOST_BYTES:
                        raise InputError(f"{path}: holds more than {MOST_BYTES:,} bytes of arrays")
                    found[name] = held[()]
    except HDF5_ERRORS as error:
        if isinstance(error, InputError):
            raise
        raise unreadable(path, error) from error
    return found
