"""Random changes of training images: moved, mirrored, AutoAugment, Cutout.

What is drawn is kept apart from what is done with it: a process that trains on a share of a batch draws for the whole
batch, so that an image changes in the same way however many processes there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

from fastsnn_deploy.training.recipe import Augment


@dataclass(frozen=True)
class Draws:
    """One entry an image, None for what the recipe does without.

    mirrored: bool [N]. offsets: int64 [2, N], rows and columns by which the padded image is cut. seeds: int64 [N], for
    AutoAugment. holes: int64 [2, N], centres of the holes, row and column.
    """

    mirrored: Tensor | None
    offsets: Tensor | None
    seeds: Tensor | None
    holes: Tensor | None

    def to(self, device: torch.device) -> Draws:
        """The same on a device, but for the seeds."""
        mirrored, offsets, holes = (
            None if part is None else part.to(device) for part in (self.mirrored, self.offsets, self.holes)
        )
        return Draws(mirrored, offsets, self.seeds, holes)

    def of(self, share: slice) -> Draws:
        """Those of some of the images."""
        parts = (self.mirrored, self.offsets, self.seeds, self.holes)
        return Draws(*(None if part is None else part[..., share] for part in parts))


def joined(parts: Sequence[Draws]) -> Draws:
    """Those of several batches, one after another."""
    columns = ([getattr(part, field.name) for part in parts] for field in fields(Draws))
    return Draws(*(None if column[0] is None else torch.cat(column, -1) for column in columns))


def draw(chosen: Augment, count: int, size: tuple[int, int], generator: torch.Generator) -> Draws:
    """Draw for `count` images of size (height, width); what alternates is no draw."""
    mirrored = torch.rand(count, generator=generator) < 0.5 if chosen.flip is True else None
    offsets = torch.randint(2 * chosen.shift + 1, (2, count), generator=generator) if chosen.shift else None
    seeds = torch.randint(2**62, (count,), generator=generator) if chosen.autoaugment else None
    holes = None
    if chosen.cutout:
        holes = torch.stack([torch.randint(side, (count,), generator=generator) for side in size])
    return Draws(mirrored, offsets, seeds, holes)


def augment(levels: Tensor, chosen: Augment, draws: Draws, mean: Tensor) -> Tensor:
    """Changed copies of uint8 images [N, C, H, W], on their device.

    Zeros come in where an image is moved; holes show `mean`, levels uint8 [C], which is 0 for a network that
    normalises. Sources: AutoAugment, Cubuk et al., arXiv 1805.09501, policy of CIFAR-10 (torchvision's); Cutout,
    DeVries and Taylor, arXiv 1708.04552, holes cut off by the border.
    """
    if draws.mirrored is not None:
        levels = torch.where(draws.mirrored.to(levels.device).view(-1, 1, 1, 1), levels.flip(3), levels)
    if draws.offsets is not None:
        levels = _moved(levels, chosen.shift, draws.offsets.to(levels.device))
    if draws.seeds is not None:
        levels = _by_policy(levels, draws.seeds)
    if draws.holes is not None:
        levels = _with_holes(levels, chosen.cutout, draws.holes.to(levels.device), mean)
    return levels


def _moved(levels: Tensor, shift: int, offsets: Tensor) -> Tensor:
    height, width = levels.shape[2:]
    padded = F.pad(levels, (shift,) * 4)
    rows = offsets[0].view(-1, 1) + torch.arange(height, device=levels.device)
    columns = offsets[1].view(-1, 1) + torch.arange(width, device=levels.device)
    batch = torch.arange(len(levels), device=levels.device).view(-1, 1, 1)
    return padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _by_policy(levels: Tensor, seeds: Tensor) -> Tensor:
    policy = AutoAugment(AutoAugmentPolicy.CIFAR10)
    changed = []
    with torch.random.fork_rng(devices=[]):  # torchvision draws from PyTorch's own generator
        for image, seed in zip(levels, seeds.tolist(), strict=True):
            torch.manual_seed(seed)
            changed.append(policy(image.contiguous()))
    return torch.stack(changed) if changed else levels


def _with_holes(levels: Tensor, side: int, holes: Tensor, mean: Tensor) -> Tensor:
    inside = []
    for axis in (0, 1):
        first = holes[axis].view(-1, 1) - side // 2
        at = torch.arange(levels.shape[2 + axis], device=levels.device)
        inside.append((at >= first) & (at < first + side))
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.where(hole, mean.to(levels.device).view(1, -1, 1, 1), levels)
