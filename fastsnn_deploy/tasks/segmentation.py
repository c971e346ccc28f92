"""A class for every pixel. The network's map is coarse; it is enlarged outside the chip, from accumulated outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fastsnn_deploy.analysis.verify import Agreement
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.tasks.augment import Views
from fastsnn_deploy.tasks.base import Meter, Task, batched, real, task
from fastsnn_deploy.tasks.draw import draw_mask
from fastsnn_deploy.tasks.metrics import confusion, mean_iou
from fastsnn_deploy.tasks.scenes import IGNORED, Scenes, Truth


def enlarge(output: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits float [N, C, h, w] -> [N, C, *size], bilinear, corners not aligned."""
    return F.interpolate(output, size=size, mode="bilinear", align_corners=False)


def class_weights(masks: Tensor, classes: int) -> Tensor:
    """1 / sqrt(share of pixels) with mean 1: float32 [classes]. Rare classes count more, but not as much as rare.

    masks: integers of any shape. A class that does not occur gets weight 0. Raises InputError if no pixel counts.
    """
    counted = masks != IGNORED
    if not counted.any():
        raise InputError(f"every pixel of the masks is {IGNORED}, which does not count. Draw other masks")
    counts = torch.bincount(masks[counted].reshape(-1).long(), minlength=classes).double()
    weights = torch.where(counts > 0, counts.clamp(min=1).rsqrt(), 0.0)
    return (weights / weights[counts > 0].mean()).float()


def segmentation_loss(output: Tensor, masks: Tensor, weights: Tensor) -> Tensor:
    """Cross entropy of the enlarged logits, averaged over pixels with their class's weight.

    output: float [N, C, h, w]; masks: int64 [N, H, W]; weights: float32 [C]; pixels of class IGNORED do not count.
    """
    logits = enlarge(output, (int(masks.shape[1]), int(masks.shape[2])))
    return F.cross_entropy(logits, masks.to(output.device), weights.to(logits), ignore_index=IGNORED)


@task
@dataclass(frozen=True)
class Segmentation(Task):
    """weights: what each class weighs in the loss, `class_weights` of the training masks."""

    name = "segmentation"
    metric = "mIoU"
    of_class = "IoU"

    weights: tuple[float, ...] = ()

    @classmethod
    def learned(cls, scenes: Scenes, output: tuple[int, ...], options: Mapping[str, int]) -> Self:
        if len(output) != 3 or output[0] != len(scenes.classes):
            raise InputError(
                f"the network answers with shape {output}; {len(scenes.classes)} classes need a map of "
                f"({len(scenes.classes)}, height, width)"
            )
        assert isinstance(scenes.truth, Tensor)
        weights = class_weights(scenes.truth, len(scenes.classes))
        return cls(classes=scenes.classes, weights=tuple(weights.tolist()))

    def loss(self, output: Tensor, truth: Tensor) -> Tensor:
        return segmentation_loss(output, truth, torch.tensor(self.weights))

    def seen(self, views: Views, truth: Truth, shape: tuple[int, int]) -> Tensor:
        assert isinstance(truth, Tensor)
        return views.masks(truth, IGNORED)

    def predict(self, output: Any, shape: tuple[int, int]) -> list[Tensor]:
        """Class of every pixel: int64 [H, W] each."""
        return [mask for part in batched(real(output)) for mask in enlarge(part, shape).argmax(1)]

    def meter(self) -> Meter:
        return _Overlap(self)

    def agreement(self, first: Tensor, second: Tensor, shape: tuple[int, int]) -> Agreement:
        pairs = zip(self.predict(first, shape), self.predict(second, shape), strict=True)
        differing = sum(int((one != other).sum()) for one, other in pairs)
        return Agreement("pixels", len(first) * shape[0] * shape[1], differing, "by their class")

    def draw(self, image: Image.Image, answer: Tensor, shape: tuple[int, int]) -> Image.Image:
        return draw_mask(image, answer, self.classes)

    def plain(self, answer: Tensor, size: tuple[int, int], shape: tuple[int, int]) -> dict[str, float]:
        return {self.named(kind): round(share, 4) for kind, share in self._shares(answer)}

    def line(self, answer: Tensor) -> str:
        return ", ".join(f"{self.named(kind)} {100 * share:.0f} %" for kind, share in self._shares(answer)[:5])

    def _shares(self, answer: Tensor) -> list[tuple[int, float]]:
        """(class, share of the pixels), the largest first."""
        counts = torch.bincount(answer.reshape(-1)).tolist()
        found = [(kind, count / answer.numel()) for kind, count in enumerate(counts) if count]
        return sorted(found, key=lambda each: -each[1])


class _Overlap(Meter):
    """Pixels by class."""

    def __init__(self, segmentation: Segmentation) -> None:
        self.segmentation, kinds = segmentation, len(segmentation.classes)
        self.total = torch.zeros(kinds, kinds, dtype=torch.int64)

    def add(self, output: Tensor, truth: Truth) -> None:
        assert isinstance(truth, Tensor)
        for part, masks in zip(batched(output.float()), torch.split(truth, 32), strict=True):
            found = enlarge(part, (int(masks.shape[1]), int(masks.shape[2]))).argmax(1)
            self.total += confusion(found, masks, len(self.total), IGNORED)

    def figures(self) -> dict[str, float]:
        return mean_iou(self.total, self.segmentation.classes)
