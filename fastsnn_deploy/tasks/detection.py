"""Boxes around things, with YOLOv2."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import box_iou

from fastsnn_deploy.analysis.verify import Agreement
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.tasks.augment import Views
from fastsnn_deploy.tasks.base import Meter, Task, batched, real, task
from fastsnn_deploy.tasks.draw import draw_boxes
from fastsnn_deploy.tasks.metrics import average_precision
from fastsnn_deploy.tasks.scenes import Boxes, Scenes, Truth
from fastsnn_deploy.tasks.yolo import Grid, decode, find_anchors, yolo_loss

LEAST = 0.005
"""Boxes with a lower score do not count for mAP."""

ANCHORS = 5
"""Box shapes that are found in the training boxes unless the recipe says otherwise."""

SAME = 0.9
"""IoU from which two boxes of one class count as the same answer."""


@task
@dataclass(frozen=True)
class Detection(Task):
    """anchors: (width, height) of each in pixels. stride: pixels of a cell.

    shown: boxes with a lower score are not drawn or listed. overlap: IoU above which the weaker box goes.
    """

    name = "detection"
    metric = "mAP50"
    of_class = "AP50"

    anchors: tuple[tuple[float, float], ...] = ()
    stride: int = 32
    shown: float = 0.4
    overlap: float = 0.45

    def __post_init__(self) -> None:
        pairs = [isinstance(a, tuple) and len(a) == 2 and all(n > 0 for n in a) for a in self.anchors]
        if not self.anchors or not all(pairs) or not self.classes or type(self.stride) is not int or self.stride < 1:
            raise InputError(
                "a detector's boxes cannot be read without its classes, anchors (width and height of each in pixels) "
                "and stride. Name the checkpoint that has them, or describe them in a .yaml file"
            )

    @property
    def grid(self) -> Grid:
        """What reads the map."""
        return Grid(self.anchors, self.stride, len(self.classes))

    @classmethod
    def learned(cls, scenes: Scenes, output: tuple[int, ...], options: Mapping[str, int]) -> Self:
        count, kinds, (_, height, width) = cls.network_options(options)["anchors"], len(scenes.classes), scenes.shape
        wanted = count * (5 + kinds)
        if len(output) != 3 or output[0] != wanted:
            raise InputError(
                f"the network answers with shape {output}; {count} anchors and {kinds} classes need a map of "
                f"{count} * (5 + {kinds}) = {wanted} channels"
            )
        stride = -(-height // output[1])
        if output[1:] != (height / stride, width / stride):
            raise InputError(
                f"images of {height}x{width} do not divide into cells of {stride} pixels. Choose another --size"
            )
        corners = torch.cat([boxes.corners for boxes in scenes.truth])
        anchors = find_anchors(corners[:, 2:] - corners[:, :2], count)
        return cls(classes=scenes.classes, anchors=anchors, stride=stride)

    @classmethod
    def network_options(cls, options: Mapping[str, int]) -> dict[str, int]:
        return {"anchors": options.get("anchors", ANCHORS)}

    def loss(self, output: Tensor, truth: list[Boxes]) -> Tensor:
        return yolo_loss(output, truth, self.grid)

    def seen(self, views: Views, truth: Truth, shape: tuple[int, int]) -> list[Boxes]:
        return [views.boxes(i, boxes, *shape) for i, boxes in enumerate(truth)]

    def predict(self, output: Any, shape: tuple[int, int]) -> list[Boxes]:
        return decode(real(output), self.grid, least=self.shown, overlap=self.overlap)

    def meter(self) -> Meter:
        return _Precision(self)

    def agreement(self, first: Tensor, second: Tensor, shape: tuple[int, int]) -> Agreement:
        compared = differing = 0
        for one, other in zip(self.predict(first, shape), self.predict(second, shape), strict=True):
            same = box_iou(one.corners, other.corners) >= SAME
            same &= one.classes[:, None] == other.classes[None]
            alone = int((~same.any(1)).sum()) + int((~same.any(0)).sum())
            compared += int(same.any(1).sum()) + alone
            differing += alone
        how = f"scores from {self.shown:g}; alike are those of one class with an IoU of at least {SAME}"
        return Agreement("boxes", compared, differing, how)

    def draw(self, image: Image.Image, answer: Boxes, shape: tuple[int, int]) -> Image.Image:
        return draw_boxes(image, answer.scaled(image.width / shape[1], image.height / shape[0]), self.classes)

    def plain(self, answer: Boxes, size: tuple[int, int], shape: tuple[int, int]) -> list[dict[str, Any]]:
        placed = answer.scaled(size[1] / shape[1], size[0] / shape[0])
        rows = zip(placed.corners.tolist(), placed.classes.tolist(), placed.scores.tolist(), strict=True)
        return [
            {"class": self.named(kind), "score": round(score, 4), "box": [round(side, 1) for side in corners]}
            for corners, kind, score in rows
        ]

    def line(self, answer: Boxes) -> str:
        counts = Counter(self.named(kind) for kind in answer.classes.tolist())
        told = ", ".join(f"{number} {kind}" for kind, number in counts.most_common())
        return f"{len(answer.classes)} boxes" + (f": {told}" if told else "")


class _Precision(Meter):
    """All boxes of all images."""

    def __init__(self, detection: Detection) -> None:
        self.detection, self.found, self.truth = detection, list[Boxes](), list[Boxes]()
        average_precision()  # a missing library is told before a long run

    def add(self, output: Tensor, truth: Truth) -> None:
        detection = self.detection
        for each in batched(output):
            self.found += decode(each, detection.grid, least=LEAST, overlap=detection.overlap)
        self.truth += truth

    def figures(self) -> dict[str, float]:
        from fastsnn_deploy.tasks.metrics import mean_average_precision

        return mean_average_precision(self.found, self.truth, self.detection.classes)
