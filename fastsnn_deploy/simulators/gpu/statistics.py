"""What a node sent, counted where it was computed; only small arrays leave the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastsnn_deploy.simulators.engine import Activity, Int64
from fastsnn_deploy.simulators.gpu.kernels import Counted, Kernels
from fastsnn_deploy.simulators.gpu.series import to_outer

PART = 1 << 26
"""Elements counted at once, so that what counting needs beside the series stays small."""


@dataclass(frozen=True)
class Sent:
    """Statistics of the rows of one series. per_image: int64 [T, B], events of each image in each row."""

    per_image: Int64
    spikes: Int64
    payload: Int64
    positive: int
    largest: int

    def activity(self, start: int, steps: int) -> Activity:
        """As the engine reports it, the first row being global step `start` of a run of `steps` steps."""
        per_step = np.zeros(steps, dtype=np.int64)
        per_row = self.per_image.sum(1)
        inside = per_row[: max(0, steps - start)]  # rows after the end are silent
        per_step[start : start + len(inside)] = inside
        return Activity(
            spikes=self.spikes,
            payload=self.payload,
            positive=self.positive,
            negative=int(per_row.sum()) - self.positive,
            per_step=per_step,
            most_in_step=int(self.per_image.max(initial=0)),
            largest=self.largest,
        )


def count_sent(rows: Tensor, ternary: bool, kernels: Kernels | None = None) -> Sent:
    """Statistics of rows [T, B, *inner]. ternary: every spike is 1 or -1, so that payload equals spikes."""
    count = _count if kernels is None or not rows.numel() else kernels.count_sent
    per_image, spikes, payload, positive, largest = count(rows, ternary)
    counts = per_image.cpu().numpy()
    return Sent(
        per_image=counts,
        spikes=to_outer(spikes, 0).astype(np.int64, copy=False),
        payload=to_outer(spikes if ternary else payload, 0).astype(np.int64, copy=False),
        positive=int(positive),
        largest=int(counts.any()) if ternary else int(largest),
    )


def _count(rows: Tensor, ternary: bool) -> Counted:
    """The same in PyTorch, on any device."""
    inner = rows.shape[2:]
    spikes = torch.zeros(inner, dtype=torch.int64, device=rows.device)
    payload = torch.zeros_like(spikes)
    per_image: list[Tensor] = []
    positive = torch.zeros((), dtype=torch.int64, device=rows.device)
    largest = torch.zeros((), dtype=torch.int32, device=rows.device)
    for part in torch.split(rows, max(1, PART // max(1, rows[:1].numel()))):
        sent = part != 0
        per_image.append(sent.flatten(2).sum(2))
        spikes += sent.sum((0, 1))
        positive += (part > 0).sum()
        if not ternary:
            magnitude = part.abs()
            payload += magnitude.sum((0, 1), dtype=torch.int64)
            if magnitude.numel():
                largest = torch.maximum(largest, magnitude.amax().to(torch.int32))
    none = torch.zeros((0, rows.shape[1]), dtype=torch.int64, device=rows.device)
    return torch.cat(per_image) if per_image else none, spikes, payload, positive, largest
