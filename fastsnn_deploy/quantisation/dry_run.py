"""What an image becomes on its way through a quantised model, without computing it: shapes alone, no memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.quantisation.layers import QuantActivation, QuantInput

MOST_VALUES = 2**26
"""Of one image in one layer: 64 channels of 1024 x 1024 pixels. In float32 they take 256 MiB."""

FLOAT = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
"""What layers with quantised weights are without them."""


class _Shapes(fx.Interpreter):
    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        """What the layer makes, of weights that are not quantised: their integers would have to be looked at."""
        layer = self.fetch_attr(target)
        if isinstance(layer, QuantInput):
            return args[0] + layer.offset.view(-1, *[1] * (args[0].dim() - 2))
        if isinstance(layer, QuantActivation):
            return args[0]
        plain = next((base for base in type(layer).__mro__ if base in FLOAT), type(layer))
        return plain.forward(layer, *args, **kwargs)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if not isinstance(result, Tensor) or result.dim() not in (2, 4) or result.shape[0] != 1 or not result.numel():
            shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise ValueError(f"'{n.name}' makes {shape} of one image, not channels and pixels, nor a vector")
        if result.numel() > MOST_VALUES:
            raise ValueError(f"'{n.name}' would hold {result.numel():,} values of one image, at most {MOST_VALUES:,}")
        return result


def require_passable(quantised: fx.GraphModule, shape: Sequence[int]) -> None:
    """Raise ValueError, or what a layer raises, unless an image of this shape passes through a network on "meta"."""
    before = quantised.training
    quantised.eval()
    with torch.no_grad():
        _Shapes(quantised).run(torch.empty(1, *shape, device="meta"))
    quantised.train(before)
