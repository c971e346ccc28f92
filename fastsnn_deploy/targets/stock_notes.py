"""What targets of stock neurons say about their networks, in the file and to the user."""

from __future__ import annotations

from typing import Any

from fastsnn_deploy.graph import Input
from fastsnn_deploy.lava_dl import StockConv, StockNetwork
from fastsnn_deploy.lava_dl.limits import INT8_MAX


def described_input(source: Input) -> dict[str, Any]:
    """How images are encoded, as the metadata `input` of a stock network hold it."""
    described = {key: getattr(source, key) for key in ("step", "low", "high", "scale")}
    return described | {"offset": source.offset.tolist()}


def wide_layers(network: StockNetwork) -> list[str]:
    """A line that names the convolutions with more channels than lava-dl can load under NumPy 2; empty without any."""
    convolutions = [layer for layer in network.layers if isinstance(layer, StockConv)]
    wide = [c.name for c in convolutions if max(c.weight.shape[1] * c.groups, c.shape[0]) > INT8_MAX]
    if not wide:
        return []
    reason = f"more than {INT8_MAX} channels, which Lava's own convolution model takes under NumPy 1 only"
    return [f"{len(wide)} layers have {reason}: {', '.join(wide)}"]
