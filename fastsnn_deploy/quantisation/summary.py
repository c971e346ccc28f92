"""A quantised model as a table of its modules with weights, activations and input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from fastsnn_deploy.quantisation.layers import QUANT_WEIGHTED, QuantActivation, QuantInput
from fastsnn_deploy.tables import Column, Table, shape, words


def module_rows(model: nn.Module) -> tuple[dict[str, Any], ...]:
    """Plain values of each quantised module, in the order of the model."""
    return tuple(_row(name, module) for name, module in model.named_modules() if isinstance(module, _QUANTISED))


def module_table(rows: Sequence[dict[str, Any]]) -> Table:
    """One line a module."""
    columns = (
        words("module"), words("type"), Column("weights", lambda sizes: shape(sizes or ())), Column("bits"),
        Column("levels"), words("quantiser", drop=1),
    )  # fmt: skip
    keys = ("module", "type", "weights", "bits", "levels", "quantiser")
    return Table("Quantised modules", columns, tuple(tuple(row.get(key) for key in keys) for row in rows))


_QUANTISED = (QuantInput, *QUANT_WEIGHTED, QuantActivation)


def _row(name: str, module: nn.Module) -> dict[str, Any]:
    row: dict[str, Any] = {"module": name, "type": type(module).__name__}
    if isinstance(module, QUANT_WEIGHTED):
        return row | {
            "weights": list(module.weight.shape), "bits": module.weight_bits, "quantiser": module.quantiser
        }  # fmt: skip
    if isinstance(module, QuantActivation):
        return row | {"bits": module.bits, "levels": module.levels, "quantiser": module.quantiser}
    assert isinstance(module, QuantInput)
    return row | {"levels": module.high - module.low}
