"""Training batches of one epoch: shuffled, augmented on the device that holds the images, scaled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from fastsnn_deploy.training.augmentation import augment, draw, joined
from fastsnn_deploy.training.distributed import Group
from fastsnn_deploy.training.images import Images
from fastsnn_deploy.training.recipe import Augment

Batch = tuple[tuple[Tensor, Tensor], int, int]
"""(images, labels), how many images this process has, and how many the whole batch."""


@dataclass(frozen=True)
class Batches:
    """What batches are made of.

    size: of the whole batch. group: the processes that share it. device: where the model is.
    """

    data: Images
    size: int
    group: Group
    device: torch.device

    def epoch(
        self, chosen: Augment, generator: torch.Generator, mirrored: Tensor | None = None, side: int | None = None
    ) -> Iterator[Batch]:
        """This process's part of every batch.

        All is drawn before the first batch and moved once: a copy to a GPU waits for what runs there.

        Args:
            chosen: how images are changed.
            generator: decides the order and the changes.
            mirrored: bool [all images], those that are mirrored in this epoch, in place of a draw.
            side: height and width to scale to, None for none.
        """
        data, (height, width) = self.data, self.data.shape[1:]
        mean = (torch.tensor(data.mean) / data.step).round().to(data.levels.dtype)
        order = torch.randperm(len(data.labels), generator=generator)
        batches = [index for index in torch.split(order, self.size) if self.group.smallest(len(index)) > 1]
        if not batches:
            return
        draws = joined([draw(chosen, len(index), (height, width), generator) for index in batches])
        order = torch.cat(batches)
        if mirrored is not None:
            draws = replace(draws, mirrored=mirrored[order])
        home = data.levels.device if isinstance(data.levels, Tensor) else torch.device("cpu")
        draws, order, mean = draws.to(home), order.to(home), mean.to(home)
        first = 0
        for whole in map(len, batches):
            share = self.group.share(whole)
            part = slice(first + share.start, first + share.stop)
            first += whole
            levels = augment(data.levels[order[part]], chosen, draws.of(part), mean)
            images = (levels.float() * data.step).to(self.device, memory_format=torch.channels_last)
            if side is not None:
                images = scaled(images, side)
            yield (images, data.labels[order[part].to(data.labels.device)].to(self.device)), len(images), whole


def scaled(images: Tensor, side: int) -> Tensor:
    """Images [N, C, H, W] at height and width `side`, bilinear; smaller ones are means over areas, not samples."""
    small = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
    return small.to(memory_format=torch.channels_last)


def alternating(count: int, seed: int, epoch: int) -> Tensor:
    """Which of `count` images are mirrored in an epoch: bool [count], by halves and in turn."""
    first = torch.rand(count, generator=torch.Generator().manual_seed(seed)) < 0.5
    return first ^ bool(epoch % 2)
