"""Whether two stock networks are the same."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fastsnn_deploy.lava_dl.network import StockNetwork


def difference(network: StockNetwork, other: StockNetwork) -> str | None:
    """The first thing in which two networks differ, in words; None if every layer, number and text is equal."""
    if len(network.layers) != len(other.layers):
        return f"{len(network.layers)} layers against {len(other.layers)}"
    for index, (layer, quantised) in enumerate(zip(network.layers, other.layers, strict=True)):
        if type(layer) is not type(quantised):
            return f"layer {index} is {type(layer).__name__} against {type(quantised).__name__}"
        for field in dataclasses.fields(layer):
            values = getattr(layer, field.name), getattr(quantised, field.name)
            if not _same(*values):
                return f"{field.name} of layer {index}: {values[0]!r} against {values[1]!r}"
    for name in ("input_message_bits", "metadata"):
        values = getattr(network, name), getattr(other, name)
        if values[0] != values[1]:
            return f"{name}: {values[0]!r} against {values[1]!r}"
    return None


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.array_equal(a, b)
    return bool(a == b)
