"""Cross-layer equalisation: factors that move from the weights behind an activation into the channels before it.

ReLU lets a positive factor pass, so a channel may be divided by it and the weights that read it multiplied: the float
network stays the same, and channels that the one step of an activation served badly fill its range.
Sources: Nagel et al. (arXiv 1906.04721), section 4.1; Xiao et al., SmoothQuant (arXiv 2211.10438), eq. 4, whose
ranges of activations in place of the weights before them are used, since those have a step for each channel.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.quantisation.functional import or_one
from fastsnn_deploy.quantisation.layers import BATCH_NORMS, QUANT_WEIGHTED, QuantActivation, QuantConvTranspose2d
from fastsnn_deploy.quantisation.moves import PadSpace, Subsample
from fastsnn_deploy.quantisation.structure import AVERAGE, VANISHES, module_at, modules

SHARE = 0.75
"""0: the weights that read each channel become alike; 1: the ranges of the channels do. Chosen on ResNet-20."""

MOST = 16.0
"""Factors stay between this and its inverse."""

_KEEPS_CHANNELS = (*VANISHES, *AVERAGE, nn.MaxPool2d, nn.Upsample, Subsample, PadSpace)


def equalise(model: fx.GraphModule, images: Tensor, share: float = SHARE, only: Collection[str] | None = None) -> int:
    """Equalise the channels of a quantised model in place; steps of activations must be set anew afterwards.

    Where an activation has a limit, is added, concatenated or shared, its channels stay as they are.

    Args:
        model: with its quantisers off, in evaluation mode.
        images: raw, float32 [N, ...].
        share: see SHARE.
        only: paths of the activations to equalise, None for all.

    Returns:
        How many activations were equalised.
    """
    pairs = {
        node: found
        for node, module in modules(model)
        if (only is None or str(node.target) in only) and (found := _pair(model, node, module)) is not None
    }
    largest: dict[fx.Node, Tensor] = {}
    hooks = [
        model.get_submodule(str(node.target)).register_forward_hook(
            lambda _, __, result, node=node: largest.__setitem__(node, _by_channel(result.transpose(0, 1)))
        )
        for node in pairs
    ]
    with torch.no_grad():
        model(images)
        for hook in hooks:
            hook.remove()
        for node, (before, readers) in pairs.items():
            _scale(before, readers, largest[node], share)
    return len(pairs)


def _pair(model: fx.GraphModule, node: fx.Node, module: nn.Module) -> tuple[Any, list[Any]] | None:
    """(the layer whose result an activation takes, the layers that read it) where a factor can pass."""
    if not isinstance(module, QuantActivation) or module.signed or module.limit or len(module.sharers) > 1:
        return None
    source = node.all_input_nodes[0]
    before = module_at(model, source)
    affine = (isinstance(before, BATCH_NORMS) and before.affine) or isinstance(before, QUANT_WEIGHTED)
    readers, waiting = [], list(node.users)
    while waiting:
        user = waiting.pop()
        reader = module_at(model, user)
        if isinstance(reader, _KEEPS_CHANNELS):
            waiting += user.users
        elif isinstance(reader, QUANT_WEIGHTED):
            readers.append(reader)
        else:
            return None
    called = [str(each.target) for each in model.graph.nodes if each.op == "call_module"]
    once = all(sum(model.get_submodule(path) is layer for path in called) == 1 for layer in (before, *readers))
    return (before, readers) if affine and once and readers and len(source.users) == 1 else None


def _scale(before: Any, readers: list[Any], largest: Tensor, share: float) -> None:
    """Divide the channels of `before` and multiply what reads them."""
    weights = torch.stack([_by_input(reader, len(largest)) for reader in readers]).amax(0)
    there = (largest > 0) & (weights > 0)
    ratio = (largest / or_one(largest.mean())) ** share * (or_one(weights.mean()) / or_one(weights)) ** (1 - share)
    factor = torch.where(there, ratio.clamp(1 / MOST, MOST), torch.ones_like(ratio))
    transposed = isinstance(before, QuantConvTranspose2d)
    rows = before._by_output(before.weight) if transposed else before.weight
    scaled = rows / factor.view(-1, *[1] * (rows.dim() - 1))
    before.weight.copy_(before._by_output(scaled) if transposed else scaled)
    if before.bias is not None:
        before.bias /= factor
    for reader in readers:
        wide = _expanded(reader, factor)
        reader.weight.mul_(wide)
    for layer in (before, *readers):
        if isinstance(layer, QUANT_WEIGHTED):
            layer.reset_weight_step()


def _expanded(reader: Any, factor: Tensor) -> Tensor:
    """The factor of each channel, shaped to multiply the weights that read it."""
    if isinstance(reader, QuantConvTranspose2d):
        return factor.view(-1, 1, 1, 1)
    if isinstance(reader, nn.Linear):  # a flattened channel is a run of features
        return factor.repeat_interleave(reader.in_features // len(factor)).view(1, -1)
    grouped = factor.view(reader.groups, -1).repeat_interleave(reader.out_channels // reader.groups, 0)
    return grouped.view(*grouped.shape, 1, 1)


def _by_input(reader: Any, channels: int) -> Tensor:
    """Largest magnitude among the weights that read each channel, [C]."""
    weight = reader.weight.detach()
    if isinstance(reader, QuantConvTranspose2d):
        return _by_channel(weight)
    if isinstance(reader, nn.Linear):
        return _by_channel(weight.view(len(weight), channels, -1).transpose(0, 1))
    rows = weight.view(reader.groups, reader.out_channels // reader.groups, channels // reader.groups, -1)
    largest: Tensor = rows.abs().amax((1, 3)).flatten()
    return largest


def _by_channel(values: Tensor) -> Tensor:
    """Largest magnitude in each row of [C, ...]: [C]."""
    return values.detach().abs().flatten(1).amax(1)
