"""Random views of images together with their boxes or masks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fastsnn_deploy.tasks.scenes import Boxes
from fastsnn_deploy.training.recipe import Augment

LEAST_VISIBLE = 0.4
"""Boxes of which less of the area is left in the view are forgotten."""


@dataclass(frozen=True)
class Views:
    """Input place = scale * output place + offset, in units where the image reaches from -1 to 1: float [n, 2], x, y.

    light: factor for each image, float [n].
    """

    scale: Tensor
    offset: Tensor
    light: Tensor

    def of(self, part: slice) -> Views:
        """The views of some of the images."""
        return Views(self.scale[part], self.offset[part], self.light[part])

    def _grid(self, images: Tensor) -> Tensor:
        theta = torch.zeros(len(images), 2, 3)
        theta[:, 0, 0], theta[:, 1, 1] = self.scale[:, 0], self.scale[:, 1]
        theta[:, :, 2] = self.offset
        return F.affine_grid(theta, [len(images), 1, *images.shape[-2:]], align_corners=False)

    def images(self, images: Tensor, mean: Tensor) -> Tensor:
        """Float [n, C, H, W] in [0, 1] -> the same; what lies outside has the colour `mean`, float [C]."""
        background = mean.view(1, -1, 1, 1)
        moved = F.grid_sample(images - background, self._grid(images), align_corners=False) + background
        return (moved * self.light.view(-1, 1, 1, 1)).clamp(0, 1)

    def masks(self, masks: Tensor, ignore: int) -> Tensor:
        """Integers [n, H, W] -> int64; what lies outside is `ignore`."""
        shifted = (masks[:, None].float() - ignore).contiguous()
        moved = F.grid_sample(shifted, self._grid(shifted), mode="nearest", align_corners=False)
        return moved[:, 0].round().long() + ignore

    def boxes(self, index: int, boxes: Boxes, height: int, width: int) -> Boxes:
        """Boxes of image `index`, cut at the borders; those hardly visible are left out."""
        size = torch.tensor([width, height]).float()
        ends = boxes.corners.view(-1, 2, 2) * 2 / size - 1
        ends = (((ends - self.offset[index]) / self.scale[index]) + 1) * size / 2
        whole = torch.cat((ends.amin(1), ends.amax(1)), 1)  # a mirror swaps left and right
        seen = torch.minimum(whole.clamp(min=0.0), size.repeat(2))
        share = area(seen) / area(whole).clamp(min=1e-6)
        kept = share >= LEAST_VISIBLE
        return Boxes(seen[kept], boxes.classes[kept], boxes.scores[kept])


def area(corners: Tensor) -> Tensor:
    """Area of boxes [n, 4] in square pixels: float [n]."""
    return (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])


def random_views(count: int, chosen: Augment, shape: tuple[int, int], generator: torch.Generator) -> Views:
    """Views of `count` images of (height, width), as a recipe says; height and width zoom alike."""

    def uniform(columns: int) -> Tensor:
        return torch.rand(count, columns, generator=generator) * 2 - 1

    signs = torch.ones(count, 2)
    for axis, wanted in enumerate((chosen.flip, chosen.upside_down)):
        if wanted:
            signs[:, axis] = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    scale = signs * chosen.zoom ** uniform(1)
    places = torch.tensor([2 / shape[1], 2 / shape[0]])  # of a pixel, where the image reaches from -1 to 1
    return Views(scale, uniform(2) * chosen.shift * places, 1 + chosen.light * uniform(1)[:, 0])
