"""Images in .npz files that are unpacked as far as somebody asks for them, beside other work.

Unpacking CIFAR-10's test images takes longer than to simulate some of them; the decoder leaves the interpreter to
others.
"""

from __future__ import annotations

import copy
import io
import lzma
import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from threading import Lock, Thread
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.files import existing_file

FORMAT: Any = np.lib.format

CHUNK_BYTES = 2**20
"""Unpacked at a time, in which nobody else may."""

DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)
"""What reading an .npz file raises where it is none, or not whole."""


def damaged(file: Path, error: Exception) -> InputError:
    """The message for an .npz file that cannot be read."""
    return InputError(f"{file}: is not an .npz file or is damaged ({error})".replace(" ()", ""))


class Unpacked:
    """What stands in for an array [N, C, H, W]: the arrays [n, H, W, C] of one name in several files, one by one.

    Raises InputError, when it is made or when images are asked for, for files that are damaged or differ in shape.
    """

    def __init__(self, files: Sequence[Path], name: str) -> None:
        self.parts = [_Part(file, f"{name}.npy") for file in files]
        first = self.parts[0]
        for part in self.parts:
            if len(part.shape) != 4 or part.shape[1:] != first.shape[1:] or part.dtype != first.dtype:
                raise InputError(
                    f"{part.file}: '{name}' is {part.dtype} {part.shape}, not {first.dtype} (N, height, width, "
                    f"channels){'' if part is first else f' as in {first.file}'}"
                )
        self.dtype = first.dtype
        self.chosen = range(sum(part.shape[0] for part in self.parts))

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)"""
        _, height, width, channels = self.parts[0].shape
        return len(self.chosen), channels, height, width

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: slice | npt.NDArray[np.integer]) -> npt.NDArray[Any]:
        """Chosen images, [n, C, H, W]."""
        if not isinstance(index, slice):
            return np.asarray(self[:][index])
        numbers = self.chosen[index]
        begin, found = 0, []
        for part in self.parts:
            inside = [number - begin for number in numbers if begin <= number < begin + part.shape[0]]
            begin += part.shape[0]
            if inside:
                found.append(part.until(max(inside) + 1)[inside].transpose(0, 3, 1, 2))
        return np.concatenate(found) if found else np.empty((0, *self.shape[1:]), dtype=self.dtype)

    def select(self, index: slice) -> Unpacked:
        """Some of them, as far unpacked as these."""
        found = copy.copy(self)
        found.chosen = self.chosen[index]
        return found

    def begin(self) -> None:
        """Start to unpack all of these in a thread of its own."""
        Thread(target=self._unpack, daemon=True, name="unpacking").start()

    def _unpack(self) -> None:
        begin, last = 0, max(self.chosen, default=-1)
        for part in self.parts:
            try:
                part.until(min(part.shape[0], last + 1 - begin))
            except InputError:  # said to whoever asks for these images
                return
            begin += part.shape[0]


class _Part:
    """An array in an .npz file."""

    def __init__(self, file: Path, member: str) -> None:
        self.file, self.lock = file, Lock()
        self.filled = 0
        self.error: InputError | None = None
        try:
            packed = io.BytesIO(existing_file(file, "data file").read_bytes())
            with zipfile.ZipFile(packed) as archive:  # what is open in it stays so
                self.stream: IO[bytes] = archive.open(member)
            version = FORMAT.read_magic(self.stream)
            if version not in ((1, 0), (2, 0)):
                raise EOFError(f"its array has the version {version}")
            read = FORMAT.read_array_header_1_0 if version == (1, 0) else FORMAT.read_array_header_2_0
            self.shape, self.fortran, self.dtype = read(self.stream)
        except (*DAMAGED, KeyError, ValueError) as error:
            raise damaged(file, error) from error
        if self.dtype.hasobject:
            raise InputError(f"{file}: its array holds objects, which are never unpickled. Save numbers")
        self.bytes = np.empty(math.prod(self.shape) * self.dtype.itemsize, dtype=np.uint8)
        self.each = self.bytes.size if self.fortran else self.bytes.size // max(self.shape[0], 1)

    def until(self, count: int) -> npt.NDArray[Any]:
        """The array, of which the first `count` images at least are unpacked."""
        wanted = self.bytes.size if self.fortran else count * self.each
        while self.filled < wanted:
            with self.lock:
                if self.error is not None:
                    raise self.error
                if self.filled < wanted:
                    self._read(min(CHUNK_BYTES, self.bytes.size - self.filled))
        array: npt.NDArray[Any] = self.bytes.view(self.dtype)
        return array.reshape(self.shape, order="F" if self.fortran else "C")

    def _read(self, size: int) -> None:
        try:
            data = self.stream.read(size)
            if not data:
                raise EOFError("it ends too early")
        except (*DAMAGED, OSError) as error:
            self.error = damaged(self.file, error)
            raise self.error from error
        self.bytes[self.filled : self.filled + len(data)] = np.frombuffer(data, dtype=np.uint8)
        self.filled += len(data)
