"""Checked access to stock NetX keys, which programs write in more than one form."""

from __future__ import annotations

import h5py
import numpy as np
import numpy.typing as npt

from fastsnn_deploy.formats.netx.fields import Fields


class StockFields(Fields):
    """A group of a NetX file of any program."""

    def group(self, key: str, where: str = "") -> StockFields:
        """A subgroup. Raises InputError if it is missing or not a group."""
        item = self._item(key)
        if not isinstance(item, h5py.Group):
            raise self.wrong(key, "a dataset", "a group")
        return StockFields(item, where or self.where, self._limit, self._left)

    def holds_group(self, key: str) -> bool:
        """Whether `key` is a group, as the weights of complex layers are."""
        return key in self and isinstance(self._item(key), h5py.Group)

    def one_or_two(self, key: str) -> tuple[int, int]:
        """(height, width) from two integers or from one for both."""
        if self._dataset(key).shape == ():
            value = self.integer(key)
            return value, value
        return self.pair(key)

    def one_number(self, key: str) -> int | float:
        """A finite number, a Python int if it is whole, stored as a scalar or as an array of shape (1,)."""
        shape = self._dataset(key).shape
        value = float(self.reals(key, 1)[0]) if shape == (1,) and self._is_float(key) else None
        if value is None:
            value = self.channels(key, 1)[0] if shape == (1,) else self.number(key)
        return int(value) if value == int(value) else float(value)

    def small_integer(self, key: str) -> int:
        """One integer of 32 signed bits."""
        value = self.one_number(key)
        if not isinstance(value, int) or abs(value) >= 2**31:
            raise self.wrong(key, value, "one integer of 32 bits")
        return value

    def whole_or_none(self, key: str) -> npt.NDArray[np.int64] | None:
        """Floats that hold integers, int64 of the stored shape; None where the key is absent."""
        return self.whole(key) if key in self else None

    def _is_float(self, key: str) -> bool:
        return bool(self._dataset(key).dtype.kind == "f")
