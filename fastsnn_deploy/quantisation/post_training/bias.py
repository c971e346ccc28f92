"""Biases that undo what the rounding of weights did to the mean of each channel."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.quantisation.layers import BATCH_NORMS, QUANT_WEIGHTED
from fastsnn_deploy.quantisation.structure import module_at, modules


def correct_biases(model: fx.GraphModule, images: Tensor, only: Collection[str] | None = None) -> None:
    """Correct the biases of a calibrated model in place, in evaluation mode, from the image to the output.

    Each layer with weights gets the mean that its float weights give on the same quantised values. The running mean
    of a batch norm behind it takes the correction; a layer without batch norm and bias gets a bias. Layers that are
    called more than once stay as they are. only: paths of the layers to correct, None for all.
    Source: Nagel et al., data-free quantisation (arXiv 1906.04721), section 4.2, with images in place of batch norm.
    """
    calls = [str(node.target) for node, _ in modules(model)]
    hooks = []
    for node, layer in modules(model):
        chosen = only is None or str(node.target) in only
        if chosen and isinstance(layer, QUANT_WEIGHTED) and calls.count(str(node.target)) == 1:
            readers = [module_at(model, user) for user in node.users]
            norm = readers[0] if len(readers) == 1 and isinstance(readers[0], BATCH_NORMS) else None
            hooks.append(layer.register_forward_hook(_Correction(norm)))
    try:
        with torch.no_grad():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()


class _Correction:
    """Hook of a layer; the layers behind see its values already."""

    def __init__(self, norm: nn.Module | None) -> None:
        self.norm: Any = norm

    def __call__(self, layer: Any, given: tuple[Tensor, ...], result: Tensor) -> Tensor | None:
        layer.enabled = False
        wanted = layer.forward(*given)
        layer.enabled = True
        shift = (wanted - result).transpose(0, 1).flatten(1).mean(1)
        if self.norm is not None and self.norm.running_mean is not None:
            self.norm.running_mean -= shift
            return None
        if layer.bias is None:
            layer.bias = nn.Parameter(torch.zeros_like(shift))
        layer.bias += shift
        corrected: Tensor = result + shift.view(-1, *[1] * (result.dim() - 2))
        return corrected
