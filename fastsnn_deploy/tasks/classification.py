"""A class for every image."""

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
from fastsnn_deploy.tasks.base import Meter, Task, real, task
from fastsnn_deploy.tasks.draw import draw_text
from fastsnn_deploy.tasks.scenes import Scenes, Truth

LISTED = 3
"""Classes that are named of an answer."""


@task
@dataclass(frozen=True)
class Classification(Task):
    """Answers of any shape [..., classes in all] are taken as one row of logits."""

    name = "classification"
    metric = "accuracy"
    resampled = False

    @classmethod
    def learned(cls, scenes: Scenes, output: tuple[int, ...], options: Mapping[str, int]) -> Self:
        if output != (len(scenes.classes),):
            raise InputError(f"the network answers with shape {output} for {len(scenes.classes)} classes")
        return cls(classes=scenes.classes)

    def loss(self, output: Tensor, truth: Tensor) -> Tensor:
        return F.cross_entropy(output, truth)

    def seen(self, views: Views, truth: Truth, shape: tuple[int, int]) -> Tensor:
        return torch.as_tensor(truth)

    def predict(self, output: Any, shape: tuple[int, int]) -> list[Tensor]:
        """Probabilities of the classes: float [classes] each."""
        return list(torch.softmax(real(output).flatten(1), 1))

    def meter(self) -> Meter:
        return _Right()

    def agreement(self, first: Tensor, second: Tensor, shape: tuple[int, int]) -> Agreement:
        differing = int((first.flatten(1).argmax(1) != second.flatten(1).argmax(1)).sum())
        return Agreement("predictions", len(first), differing)

    def draw(self, image: Image.Image, answer: Tensor, shape: tuple[int, int]) -> Image.Image:
        return draw_text(image, [f"{self.named(k)} {100 * share:.0f} %" for k, share in self._first(answer)])

    def plain(self, answer: Tensor, size: tuple[int, int], shape: tuple[int, int]) -> list[dict[str, Any]]:
        return [{"class": self.named(kind), "share": round(share, 4)} for kind, share in self._first(answer)]

    def line(self, answer: Tensor) -> str:
        return ", ".join(f"{self.named(kind)} {100 * share:.0f} %" for kind, share in self._first(answer))

    def _first(self, answer: Tensor) -> list[tuple[int, float]]:
        shares, kinds = answer.topk(min(LISTED, len(answer)))
        return list(zip(kinds.tolist(), shares.tolist(), strict=True))


class _Right(Meter):
    def __init__(self) -> None:
        self.right = self.images = 0

    def add(self, output: Tensor, truth: Truth) -> None:
        self.right += int((output.flatten(1).argmax(1) == torch.as_tensor(truth)).sum())
        self.images += len(output)

    def figures(self) -> dict[str, float]:
        return {"accuracy": self.right / max(self.images, 1)}
