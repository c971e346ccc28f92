"""What a node sent, counted where it was computed; only small arrays leave the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastsnn_deploy.simulators.engine import Activity, Int32, Int64, Tallies
from fastsnn_deploy.simulators.gpu.kernels import Counted, Kernels
from fastsnn_deploy.simulators.gpu.series import Series, to_inner, to_outer

PART = 1 << 26
"""Elements counted at once, so that what counting needs beside the series stays small."""


@dataclass(frozen=True)
class Sent:
    """Statistics of the rows of one series of some images.

    start: global step of the first row. per_image: int64 [T, B], events of each image in each row. On the device:
    spikes, payload, int64 [*inner], one and the same if every spike is 1 or -1, None where they are in another's
    sums; positive, int64; largest, int32. tallies, nonzero, net: as in `engine.Activity`, nonzero [*inner] on the
    device.
    """

    start: int
    per_image: Int64
    spikes: Tensor | None
    payload: Tensor | None
    positive: Tensor
    largest: Tensor
    tallies: Int64 | None = None
    nonzero: Tensor | None = None
    net: Int32 | None = None


def fold(total: Sent, more: Sent) -> Sent:
    """Add the sums of neurons of `more` to those of `total`, on the device; `more` without them."""
    pairs = [(total.spikes, more.spikes), (total.payload, more.payload)]
    for mine, its in pairs[: 1 if total.payload is total.spikes else 2]:
        assert mine is not None
        assert its is not None
        mine.add_(its)
    if total.nonzero is not None and more.nonzero is not None:
        total.nonzero.add_(more.nonzero)
    return replace(more, spikes=None, payload=None, nonzero=None)


def activity(parts: Sequence[Sent], steps: int) -> Activity:
    """As the engine reports it for the images of all parts in a run of `steps` steps; the first has all sums."""
    spikes, payload = parts[0].spikes, parts[0].payload
    assert spikes is not None
    assert payload is not None
    ternary = payload is spikes
    per_step, events = np.zeros(steps, dtype=np.int64), 0
    for part in parts:
        per_row = part.per_image.sum(1)
        inside = per_row[: max(0, steps - part.start)]  # rows after the end are silent
        per_step[part.start : part.start + len(inside)] += inside
        events += int(per_row.sum())
    each, positive = _on_host(spikes), sum(int(part.positive) for part in parts)
    return Activity(
        spikes=each,
        payload=each if ternary else _on_host(payload),
        positive=positive,
        negative=events - positive,
        per_step=per_step,
        most_in_step=max(int(part.per_image.max(initial=0)) for part in parts),
        largest=int(events > 0) if ternary else max(int(part.largest) for part in parts),
        by_image=np.concatenate([part.per_image.sum(0) for part in parts]),
        tallies=np.concatenate(tallies) if (tallies := [x.tallies for x in parts if x.tallies is not None]) else None,
        nonzero=None if parts[0].nonzero is None else _on_host(parts[0].nonzero),
        net=np.concatenate(net) if (net := [x.net for x in parts if x.net is not None]) else None,
    )


def _on_host(sums: Tensor) -> Int64:
    return to_outer(sums, 0).astype(np.int64, copy=False)


def count_sent(
    series: Series, ternary: bool, kernels: Kernels | None = None, name: str = "", tallies: Tallies | None = None
) -> Sent:
    """Statistics of a series, that of the source `name`. ternary: every spike is 1 or -1, so that payload equals
    spikes."""
    rows = series.rows
    count = _count if kernels is None or not rows.numel() else kernels.count_sent
    per_image, spikes, payload, positive, largest = count(rows, ternary)
    summed: tuple[Int64 | None, Tensor | None, Int32 | None] = (None, None, None)
    if tallies is not None:
        summed = _tally(rows, tallies.weights[name], name in tallies.net)
    return Sent(
        series.start, per_image.cpu().numpy(), spikes, spikes if ternary else payload, positive.sum(), largest.sum(),
        *summed,
    )  # fmt: skip


def _tally(rows: Tensor, weights: npt.NDArray[np.integer], keep: bool) -> tuple[Int64, Tensor, Int32 | None]:
    """Products in float64, exact below 2**53."""
    inner = rows.shape[2:]
    placed = torch.from_numpy(weights.reshape(len(weights), inner[-1], *inner[:-1]).astype(np.float64))
    factors = to_inner(placed).flatten(1).T.to(rows.device)
    nonzero = torch.zeros(inner, dtype=torch.int64, device=rows.device)
    tallies: list[Tensor] = []
    kept: list[npt.NDArray[np.generic]] = []
    for part in torch.split(rows, max(1, PART // max(1, rows[:, :1].numel())), dim=1):
        sent = (part != 0).sum(0).flatten(1).to(torch.float64)
        tallies.append(sent @ factors)
        net = part.sum(0, dtype=torch.int32)
        nonzero += (net != 0).sum(0)
        kept += [to_outer(net, 1)] if keep else []
    none = torch.zeros((rows.shape[1], len(weights)), dtype=torch.float64)
    total = (torch.cat(tallies) if tallies else none).round().to(torch.int64).cpu().numpy()
    return total, nonzero, np.concatenate(kept).astype(np.int32) if kept else None


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
