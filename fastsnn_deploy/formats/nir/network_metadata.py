"""A stock network of LIF layers as JSON values and arrays, for the metadata of NIR files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastsnn_deploy.errors import InputError, unknown
from fastsnn_deploy.lava_dl.network import (
    Lif,
    StockConv,
    StockDense,
    StockFlatten,
    StockInput,
    StockLayer,
    StockNetwork,
)

LAYERS: dict[str, type[StockLayer]] = {cls.__name__: cls for cls in (StockInput, StockConv, StockFlatten, StockDense)}
ARRAYS = ("weight", "bias", "delay")


def plain(network: StockNetwork) -> dict[str, Any]:
    """The network without its arrays, as JSON values."""
    return {
        "layers": [{"type": type(layer).__name__} | _fields(layer) for layer in network.layers],
        "input_message_bits": network.input_message_bits,
        "metadata": dict(network.metadata),
    }


def arrays_of(network: StockNetwork) -> dict[str, np.ndarray]:
    """Every array under `layer index|field`, int64."""
    return {
        f"{index}|{name}": np.asarray(getattr(layer, name), dtype=np.int64)
        for index, layer in enumerate(network.layers)
        for name in ARRAYS
        if getattr(layer, name, None) is not None
    }


def from_plain(data: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> StockNetwork:
    """Inverse of `plain` and `arrays_of`. Raises KeyError, TypeError or InputError for anything else."""
    return StockNetwork(
        layers=tuple(_layer(dict(entry), index, arrays) for index, entry in enumerate(data["layers"])),
        input_message_bits=_integer(data["input_message_bits"]),
        metadata={str(key): str(value) for key, value in data["metadata"].items()},
    )


def _fields(layer: StockLayer) -> dict[str, Any]:
    fields = {f.name: getattr(layer, f.name) for f in dataclasses.fields(layer) if f.name not in ARRAYS}
    if fields.get("neuron") is not None:
        fields["neuron"] = dataclasses.asdict(fields["neuron"])
    return fields


def _layer(entry: dict[str, Any], index: int, arrays: Mapping[str, np.ndarray]) -> StockLayer:
    kind = entry.pop("type")
    if kind not in LAYERS:
        raise unknown("layer type", kind, LAYERS)
    cls = LAYERS[kind]
    fields: dict[str, Any] = {
        key: tuple(map(_integer, value)) if isinstance(value, list) else value for key, value in entry.items()
    }
    if fields.get("neuron") is not None:
        fields["neuron"] = Lif(**{key: _integer(value) for key, value in fields["neuron"].items()})
    names = {field.name for field in dataclasses.fields(cls)}
    fields |= {name: arrays.get(f"{index}|{name}") for name in ARRAYS if name in names}
    return cls(**fields)


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise InputError(f"{value!r} is not an integer")
    return value
