"""mAP50 and mIoU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.tasks.scenes import Boxes


def average_precision() -> Any:
    """torchmetrics' mAP at IoU 0.5. Raises InputError if a library is missing."""
    try:
        from torchmetrics.detection import MeanAveragePrecision

        return MeanAveragePrecision(iou_thresholds=[0.5], class_metrics=True, backend="pycocotools")
    except ImportError as error:
        raise InputError(
            "mAP needs torchmetrics and pycocotools. Install them with pip install 'fastsnn-deploy[detection]'"
        ) from error


def mean_average_precision(found: Sequence[Boxes], truth: Sequence[Boxes], classes: Sequence[str]) -> dict[str, float]:
    """Average precision at IoU 0.5, from 0 to 1: "mAP50", the mean over classes that occur, and "AP50 NAME" of each.

    COCO's rule with at most 100 boxes an image (torchmetrics with pycocotools). A class without any box in `truth`
    has NaN, and so has the mean without any box at all. Raises InputError if torchmetrics is not installed.
    """
    metric = average_precision()
    predictions = [{"boxes": b.corners, "scores": b.scores, "labels": b.classes} for b in found]
    metric.update(predictions, [{"boxes": b.corners, "labels": b.classes} for b in truth])
    result = metric.compute()
    seen = result["classes"].reshape(-1).tolist()
    own = dict(zip(seen, result["map_per_class"].reshape(-1).tolist(), strict=True))
    per_class = {i: own.get(i, -1.0) for i in range(len(classes))}
    figures = {f"AP50 {name}": per_class[i] if per_class[i] >= 0 else float("nan") for i, name in enumerate(classes)}
    mean = float(result["map_50"])
    return {"mAP50": mean if mean >= 0 else float("nan"), **figures}


def confusion(predicted: Tensor, truth: Tensor, classes: int, ignore: int) -> Tensor:
    """Pixels by class in truth (rows) and in prediction (columns): int64 [classes, classes].

    predicted, truth: integers of one shape; pixels whose truth is `ignore` do not count.
    """
    counted = truth != ignore
    pairs = truth[counted].long() * classes + predicted[counted].long()
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)


def mean_iou(counts: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """From `confusion`: "mIoU", the mean over classes that occur in truth, "pixel accuracy", and "IoU NAME" of each.

    A class that is neither in truth nor predicted has NaN.
    """
    hits = counts.diagonal().double()
    union = (counts.sum(0) + counts.sum(1)).double() - hits
    own = hits / union
    occurs = counts.sum(1) > 0
    figures = {f"IoU {name}": float(value) for name, value in zip(classes, own, strict=True)}
    return {"mIoU": float(own[occurs].mean()), "pixel accuracy": float(hits.sum() / counts.sum()), **figures}
