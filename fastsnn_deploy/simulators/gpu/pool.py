"""Event-based max pool over whole series: the change of the maximum of running counts."""

from __future__ import annotations

import torch
from torch import Tensor

from fastsnn_deploy.graph import MaxPool2d


def pool_counts(node: MaxPool2d, counts: Tensor) -> Tensor:
    """Maximum over each window: int32 [N, H, W, C] -> int32 [N, OH, OW, C]. Positions outside never win."""
    lowest = torch.iinfo(counts.dtype).min
    reach = [node.dilation[i] * (node.kernel[i] - 1) + (node.shape[1 + i] - 1) * node.stride[i] + 1 for i in (0, 1)]
    after = [max(0, reach[i] - counts.shape[1 + i] - node.padding[i]) for i in (0, 1)]
    border = (0, 0, node.padding[1], after[1], node.padding[0], after[0])
    padded = torch.nn.functional.pad(counts, border, value=lowest)
    best: Tensor | None = None
    for y in range(0, node.dilation[0] * node.kernel[0], node.dilation[0]):
        for x in range(0, node.dilation[1] * node.kernel[1], node.dilation[1]):
            rows = slice(y, y + (node.shape[1] - 1) * node.stride[0] + 1, node.stride[0])
            columns = slice(x, x + (node.shape[2] - 1) * node.stride[1] + 1, node.stride[1])
            tap = padded[:, rows, columns]
            best = tap.clone() if best is None else torch.maximum(best, tap, out=best)
    assert best is not None
    return best


def pool_spikes(node: MaxPool2d, arriving: Tensor) -> Tensor:
    """What a max pool sends for the spikes that reach it: int [T, B, H, W, C] -> the same type [T, B, OH, OW, C]."""
    _, batch, *source = arriving.shape
    _, *size = node.shape
    sent = torch.empty((len(arriving), batch, *size, node.shape[0]), dtype=arriving.dtype, device=arriving.device)
    counts = torch.zeros((batch, *source), dtype=torch.int32, device=arriving.device)
    before = torch.zeros(sent.shape[1:], dtype=torch.int32, device=arriving.device)
    for step, spikes in enumerate(arriving):
        counts += spikes
        now = pool_counts(node, counts)
        sent[step] = now - before
        before = now
    return sent
