"""A class for every pixel. The network's map is coarse; it is enlarged outside the chip, from accumulated outputs."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.tasks.augment import Augmentation, random_views
from fastsnn_deploy.tasks.base import Task
from fastsnn_deploy.tasks.draw import UNKNOWN, draw_mask, enlarged_image, legend_of, table
from fastsnn_deploy.tasks.metrics import confusion, mean_iou
from fastsnn_deploy.tasks.scenes import MaskScenes


def enlarge(output: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits float [N, C, h, w] -> [N, C, *size], bilinear, corners not aligned."""
    return F.interpolate(output, size=size, mode="bilinear", align_corners=False)


def class_weights(masks: Tensor, classes: int, ignore: int) -> Tensor:
    """1 / sqrt(share of pixels) with mean 1: float32 [classes]. Rare classes count more, but not as much as rare.

    masks: integers of any shape. A class that does not occur gets weight 0. Raises InputError if no pixel counts.
    """
    if not (masks != ignore).any():
        raise InputError(f"every pixel of the masks is {ignore}, the class that does not count. Draw other masks")
    counts = torch.bincount(masks[masks != ignore].reshape(-1).long(), minlength=classes).double()
    weights = torch.where(counts > 0, counts.clamp(min=1).rsqrt(), 0.0)
    return (weights / weights[counts > 0].mean()).float()


def segmentation_loss(output: Tensor, masks: Tensor, weights: Tensor, ignore: int) -> Tensor:
    """Cross entropy of the enlarged logits, averaged over pixels with their class's weight.

    output: float [N, C, h, w]; masks: int64 [N, H, W]; weights: float32 [C]; pixels of class `ignore` do not count.
    """
    logits = enlarge(output, (int(masks.shape[1]), int(masks.shape[2])))
    return F.cross_entropy(logits, masks, weights.to(logits), ignore_index=ignore)


class Segmentation(Task):
    """Cross entropy with class weights from the training masks; mIoU."""

    metric = "mIoU"

    def __init__(
        self, train: MaskScenes, test: MaskScenes, *,
        augmentation: Augmentation = Augmentation(),  # noqa: B008  frozen
    ) -> None:  # fmt: skip
        super().__init__(train, test, augmentation)
        self.train_masks, self.test_masks, self.ignore = train.masks, test.masks, train.ignore
        self.weights = class_weights(train.masks, len(train.classes), train.ignore)

    @property
    def model_options(self) -> dict[str, int]:
        return {"channels": 3, "classes": len(self.train.classes)}

    @property
    def description(self) -> dict[str, Any]:
        return {"task": "segmentation", "classes": list(self.train.classes)}

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        views = random_views(len(index), self.augmentation, generator)
        images = views.images(self.train.raw(index), torch.tensor(self.mean))
        return images, views.masks(self.train_masks[index], self.ignore)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return segmentation_loss(output, target, self.weights, self.ignore)

    def predict(self, output: Tensor) -> Tensor:
        """Class of every pixel: int64 [N, H, W]."""
        return enlarge(output.float(), self.test.shape[1:]).argmax(1)

    def score(self, output: Tensor) -> dict[str, float]:
        classes = len(self.test.classes)
        total = torch.zeros(classes, classes, dtype=torch.int64)
        for index in torch.split(torch.arange(len(output)), 32):  # enlarged logits of all images need gigabytes
            total += confusion(self.predict(output[index]), self.test_masks[index], classes, self.ignore)
        return mean_iou(total, self.test.classes)

    def picture(self, output: Tensor, chosen: list[int]) -> Image.Image:
        rows = []
        for i, found in zip(chosen, self.predict(output), strict=True):
            truth = self.test_masks[i]
            rows.append(
                [enlarged_image(self.test.levels[i]), draw_mask(truth, self.ignore), draw_mask(found, self.ignore)]
            )
        legend = [*legend_of(self.test.classes), ("does not count", UNKNOWN)]
        return table(rows, ("image", "drawn by a person", "settled spiking network"), legend)
