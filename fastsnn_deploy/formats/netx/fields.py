"""Checked access to HDF5 groups: every value has the declared type and shape, or InputError says what it is.

The file is untrusted. Only hard links and plain contiguous datasets inside the file are followed, and no dataset
may claim more bytes than the file has, so that a small file cannot ask for a large allocation; weights, which are
compressed, may claim what deflate can make of their bytes at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.lava_dl.limits import FLOAT32_EXACT
from fastsnn_deploy.reading import ROOM

INT32_MAX = 2**31 - 1
"""Every synaptic input, threshold, bias and level of a valid graph is far below (24-bit state rule)."""

MAX_ELEMENTS = 2**26
"""Largest number of neurons of one layer; VGG-16 on 224 x 224 pixels has 3.2 million."""


CHUNK = 2**20
"""Weights of one chunk, as far as whole output channels go."""

SMALL = 2**12
"""Fewer weights are stored as they are: a chunk has an index."""

DEFLATE_MOST = 1032
"""Bytes that deflate makes of one at most. Source: https://zlib.net/zlib_tech.html, "Maximum Compression Factor"."""


def put_type(group: h5py.Group, name: str) -> None:
    """The layer type as NetX stores it: one fixed-length string `|S10` in an array of shape (1,)."""
    group.create_dataset("type", (1,), "S10", [name.encode("ascii")])


def put_text(group: h5py.Group, key: str, text: str) -> None:
    """A scalar variable-length UTF-8 string."""
    group.create_dataset(key, data=text, dtype=h5py.string_dtype("utf-8"))


def put_numbers(group: h5py.Group, key: str, values: Any) -> None:
    """Python integers or integer arrays as int64, everything else as float64; scalars stay scalars."""
    array = np.asarray(values)
    dtype = np.int64 if array.dtype.kind in "iub" or not array.size else np.float64
    if dtype is np.int64 and array.size and array.dtype.kind not in "iub":
        raise InputError(f"{group.name}/{key}: {values!r} does not fit 64-bit integers")
    group.create_dataset(key, data=array.astype(dtype))


def put_integers_as_float32(group: h5py.Group, key: str, values: npt.NDArray[np.integer]) -> None:
    """Integers in NetX's float32. Raises InputError where float32 would round."""
    if values.size and int(np.abs(values).max()) > FLOAT32_EXACT:
        raise InputError(f"{group.name}/{key}: {int(np.abs(values).max())} is not exact in float32")
    group.create_dataset(key, data=values.astype(np.float32))


def put_mantissas(group: h5py.Group, key: str, weight: npt.NDArray[np.int8]) -> None:
    """Weights [O, ...] as int8, in compressed chunks of whole output channels; few of them as they are."""
    packing: dict[str, Any] = {}
    if weight.size > SMALL:
        rows = max(1, CHUNK // weight[0].size)
        packing = {"chunks": (min(rows, len(weight)), *weight.shape[1:]), "compression": "gzip", "compression_opts": 1}
    group.create_dataset(key, data=weight, **packing)


class Fields:
    """A group of an HDF5 file, read key by key.

    where: file and layer, for messages. limit: size of the file in bytes. left: bytes that may still be read, all
    groups of a file together: many links may lead to one dataset, and many texts be one.
    """

    def __init__(self, group: h5py.Group, where: str, limit: int, left: list[int] | None = None) -> None:
        self._group = group
        self.where = where
        self._limit = limit
        self._left = [limit + ROOM] if left is None else left

    def _take(self, key: str, count: int) -> None:
        """Count bytes as read. Raises InputError if a file of this size cannot hold all that was read."""
        self._left[0] -= count
        if self._left[0] < 0:
            raise self.wrong(key, "one of several names of the same data", "stored once: all of them exceed the file")

    def __contains__(self, key: str) -> bool:
        return key in self._group

    def __len__(self) -> int:
        return len(self._group)

    def wrong(self, key: str, value: object, expected: str) -> InputError:
        """The error for a value that is not what the format says."""
        return InputError(f"{self.where}: '{key}' is {value}, must be {expected}")

    def group(self, key: str, where: str = "") -> Fields:
        """A subgroup. Raises InputError if it is missing or not a group."""
        item = self._item(key)
        if not isinstance(item, h5py.Group):
            raise self.wrong(key, "a dataset", "a group")
        return Fields(item, where or self.where, self._limit, self._left)

    def text(self, key: str) -> str:
        """A string: scalar, or the one entry of an array of shape (1,)."""
        data = self._dataset(key)
        if data.shape not in ((), (1,)) or h5py.check_string_dtype(data.dtype) is None:
            raise self.wrong(key, f"{data.dtype} of shape {data.shape}", "one string")
        value = data[()]
        raw = value if data.shape == () else value[0]
        self._take(key, len(raw))
        try:
            return bytes(raw).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.wrong(key, repr(raw), "UTF-8 text") from error

    def integer(self, key: str) -> int:
        """A scalar 64-bit integer."""
        return int(self._numbers(key, "iu", (), "one integer"))

    def flag(self, key: str) -> bool:
        """A scalar boolean."""
        return bool(self._numbers(key, "b", (), "true or false"))

    def number(self, key: str) -> int | float:
        """A scalar, a Python int if stored as an integer, else a finite float."""
        value = self._numbers(key, "iuf", (), "one number").item()
        if not np.isfinite(value):
            raise self.wrong(key, value, "finite")
        return value if isinstance(value, int) else float(value)

    def integers(self, key: str) -> tuple[int, ...]:
        """A 1-D array of integers."""
        data = self._dataset(key)
        if len(data.shape) != 1:
            raise self.wrong(key, f"of shape {data.shape}", "1-D")
        return tuple(int(value) for value in self._numbers(key, "iu", data.shape, "integers"))

    def pair(self, key: str) -> tuple[int, int]:
        """Two integers, (height, width)."""
        values = self._numbers(key, "iu", (2,), "two integers")
        return int(values[0]), int(values[1])

    def shape(self, key: str = "shape") -> tuple[int, ...]:
        """A layer shape, (C, H, W) or (N,), of at most MAX_ELEMENTS elements."""
        shape = self.integers(key)
        # Python integers: a product of hostile sizes must not wrap
        elements = 1
        for size in shape:
            elements *= size
        if len(shape) not in (1, 3) or min(shape) < 1 or elements > MAX_ELEMENTS:
            raise self.wrong(key, shape, f"(C, H, W) or (N,) with 1 to {MAX_ELEMENTS} elements")
        return shape

    def channels(self, key: str, count: int) -> npt.NDArray[np.int64]:
        """One integer per channel, int64 [count]."""
        return self._within_int32(key, self._numbers(key, "iu", (count,), f"{count} integers"))

    def reals(self, key: str, count: int) -> npt.NDArray[np.float64]:
        """One finite number per channel, float64 [count]."""
        values = np.asarray(self._numbers(key, "f", (count,), f"{count} numbers"), dtype=np.float64)
        if not np.isfinite(values).all():
            raise self.wrong(key, "NaN or infinity", "finite")
        return values

    def mantissas(self, key: str) -> npt.NDArray[np.int8]:
        """Weights: int8 of the stored shape."""
        data = self._dataset(key, packed=True)
        if data.dtype != np.int8:
            raise self.wrong(key, data.dtype, "int8")
        return np.asarray(data[()])

    def whole(self, key: str) -> npt.NDArray[np.int64]:
        """NetX's biases, and weights of a stock file: floats that hold integers, int64 of the stored shape."""
        data = self._dataset(key)
        values = self._numbers(key, "iuf", data.shape, "numbers")
        if values.dtype.kind == "f":
            bad = ~np.isfinite(values) | (values != np.rint(values))
            if bad.any():
                raise self.wrong(key, f"{values[bad].flat[0]} at {tuple(map(int, np.argwhere(bad)[0]))}", "whole")
            if values.size and np.abs(values).max() > INT32_MAX:
                raise self.wrong(key, np.abs(values).max(), f"at most {INT32_MAX} in magnitude")
        return self._within_int32(key, values)

    def reference(self, index: int, key: str, names: Sequence[str]) -> str:
        """Name of the layer with number `index` among those read so far."""
        if not 0 <= index < len(names):
            raise self.wrong(key, index, f"the number of an earlier layer, 0 to {len(names) - 1}")
        return names[index]

    def _within_int32(self, key: str, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        if values.size and not -INT32_MAX <= values.min() <= values.max() <= INT32_MAX:
            raise self.wrong(key, f"in [{values.min()}, {values.max()}]", f"at most {INT32_MAX} in magnitude")
        return np.asarray(values, dtype=np.int64)

    def _numbers(self, key: str, kinds: str, shape: tuple[int, ...], expected: str) -> Any:
        data = self._dataset(key)
        if data.dtype.kind not in kinds or data.shape != shape:
            raise self.wrong(key, f"{data.dtype} of shape {data.shape}", f"{expected} of shape {shape}")
        self._take(key, data.nbytes)
        value = data[()]
        if kinds == "iu" and data.dtype.kind == "u" and value.size and value.max() > np.iinfo(np.int64).max:
            raise self.wrong(key, value.max(), "within 64 signed bits")
        return value

    def _dataset(self, key: str, packed: bool = False) -> h5py.Dataset:
        """packed: whether it may be in chunks."""
        item = self._item(key)
        if not isinstance(item, h5py.Dataset):
            raise self.wrong(key, "a group", "a dataset")
        if item.shape is None:
            raise self.wrong(key, "empty", "a value")
        if item.is_virtual or item.external or (item.chunks is not None and not packed):
            raise self.wrong(key, "chunked or stored elsewhere", "a contiguous dataset inside the file")
        limit = self._limit
        if item.chunks is not None:
            filters = item.id.get_create_plist()
            if any(filters.get_filter(i)[0] != h5py.h5z.FILTER_DEFLATE for i in range(filters.get_nfilters())):
                raise self.wrong(key, "packed by other filters", "compressed by deflate, or not at all")
            limit = DEFLATE_MOST * min(item.id.get_storage_size(), limit)
        if item.nbytes > limit:
            raise self.wrong(key, f"of shape {item.shape}", "no larger than the file: it is truncated or damaged")
        return item

    def _item(self, key: str) -> Any:
        link = self._group.get(key, getlink=True)
        if link is None:
            raise InputError(f"{self.where}: key '{PurePosixPath(self._group.name) / key}' is missing")
        if not isinstance(link, h5py.HardLink):
            raise self.wrong(key, f"a {type(link).__name__}", "stored in the file itself")
        return self._group[key]
