"""What a task is: pictures to learn from, a loss, and figures that say how good an answer is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from fastsnn_deploy.tasks.augment import Augmentation
from fastsnn_deploy.tasks.scenes import Scenes


class Task(ABC):
    """One data set and what is asked of it. The network's answer is a float map [N, outputs, H / s, W / s]."""

    metric: str
    """Name of the figure of merit among those of `score`."""

    def __init__(self, train: Scenes, test: Scenes, augmentation: Augmentation) -> None:
        self.train, self.test, self.augmentation = train, test, augmentation
        self.mean, self.std = train.statistics()

    @property
    @abstractmethod
    def model_options(self) -> dict[str, int]:
        """Options of the network that follow from the task: channels, classes, and the like."""

    @property
    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Plain data that is needed to read the network's answer: classes, anchors, stride."""

    @abstractmethod
    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Any]:
        """Random views of training images, raw float [n, 3, H, W], and what `loss` wants to know of them."""

    @abstractmethod
    def loss(self, output: Tensor, target: Any) -> Tensor:
        """Scalar loss of the network's answer to a batch."""

    @abstractmethod
    def score(self, output: Tensor) -> dict[str, float]:
        """Figures of an answer to all test images, in their order: fractions from 0 to 1."""

    @abstractmethod
    def picture(self, output: Tensor, chosen: list[int]) -> Image.Image:
        """Test images with the truth and the answer beside them. output: the answer to the chosen ones alone."""

    def normalised(self, images: Tensor) -> Tensor:
        """Raw images as a float network gets them; a quantised model normalises by itself."""
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return (images - mean) / std
