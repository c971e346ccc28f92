"""Boxes around things, with YOLOv2."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.tasks.augment import Augmentation, random_views
from fastsnn_deploy.tasks.base import Task
from fastsnn_deploy.tasks.draw import draw_boxes, legend_of, table
from fastsnn_deploy.tasks.metrics import mean_average_precision
from fastsnn_deploy.tasks.scenes import Boxes, BoxScenes
from fastsnn_deploy.tasks.yolo import Grid, decode, find_anchors, yolo_loss

SHOWN = 0.4
"""Boxes with a lower score are not drawn; all from 0.005 count for mAP."""


class Detection(Task):
    """stride: pixels of a cell, must divide height and width. anchors: how many to find in the training boxes."""

    metric = "mAP50"

    def __init__(
        self, train: BoxScenes, test: BoxScenes, *, stride: int = 8, anchors: int = 5,
        augmentation: Augmentation = Augmentation(upside_down=True),  # noqa: B008  frozen
    ) -> None:  # fmt: skip
        super().__init__(train, test, augmentation)
        self.train_boxes, self.test_boxes = train.boxes, test.boxes
        _, height, width = train.shape
        if height % stride or width % stride:
            raise InputError(f"images of {height}x{width} do not divide into cells of {stride} pixels. Resize them")
        corners = torch.cat([boxes.corners for boxes in train.boxes])
        found = find_anchors(corners[:, 2:] - corners[:, :2], anchors)
        self.grid = Grid(found, stride, len(train.classes))

    @property
    def model_options(self) -> dict[str, int]:
        return {"channels": 3, "classes": self.grid.classes, "anchors": len(self.grid.anchors)}

    @property
    def description(self) -> dict[str, Any]:
        return {
            "task": "detection", "classes": list(self.train.classes), "stride": self.grid.stride,
            "anchors": [list(anchor) for anchor in self.grid.anchors],
        }  # fmt: skip

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, list[Boxes]]:
        views = random_views(len(index), self.augmentation, generator)
        _, height, width = self.train.shape
        boxes = [views.boxes(i, self.train_boxes[k], height, width) for i, k in enumerate(index.tolist())]
        return views.images(self.train.raw(index), torch.tensor(self.mean)), boxes

    def loss(self, output: Tensor, target: list[Boxes]) -> Tensor:
        return yolo_loss(output, target, self.grid)

    def score(self, output: Tensor) -> dict[str, float]:
        return mean_average_precision(decode(output, self.grid), self.test_boxes, self.test.classes)

    def picture(self, output: Tensor, chosen: list[int]) -> Image.Image:
        rows = []
        for i, found in zip(chosen, decode(output, self.grid, least=SHOWN), strict=True):
            levels = self.test.levels[i]
            rows.append([draw_boxes(levels, self.test_boxes[i]), draw_boxes(levels, found)])
        headings = ("drawn by a person", f"settled spiking network, scores from {100 * SHOWN:.0f} %")
        return table(rows, headings, legend_of(self.test.classes))
