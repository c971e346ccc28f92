"""Training by a recipe whose task is not classification: other data, views, losses and figures, the same trainer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastsnn_deploy.errors import InputError, known_name
from fastsnn_deploy.graph.preprocessing import Preprocessing
from fastsnn_deploy.quantisation import Checkpoint
from fastsnn_deploy.quantisation.sources.weights import load_weights
from fastsnn_deploy.tasks.augment import random_views
from fastsnn_deploy.tasks.base import KEY, TASKS, Task, task_in
from fastsnn_deploy.tasks.scenes import Scenes
from fastsnn_deploy.tasks.sources import load_both
from fastsnn_deploy.training.images import Images
from fastsnn_deploy.training.models import build
from fastsnn_deploy.training.recipe import CLASSIFICATION, Recipe
from fastsnn_deploy.training.trainer import Trainer

FIGURES = "figures"
"""Where checkpoints keep what was measured on the test images, by form of the network."""


def trainer_for(recipe: Recipe) -> type[Trainer]:
    """The trainer of a recipe's task. Raises InputError for an unknown task."""
    return Trainer if known_name("task", recipe.task, TASKS) == CLASSIFICATION else TaskTrainer


class TaskTrainer(Trainer):
    """Trains a detector or a segmentation network; all else as `Trainer`.

    The label of an image is its number, by which the truth is found.
    """

    calibrated = 64
    task: Task

    def _load(self, download: bool) -> tuple[Images, Images]:
        recipe = self.recipe
        if download:
            raise InputError(f"data of {recipe.task} cannot be fetched. Leave out --download")
        self.kind = TASKS[recipe.task]
        self.metric = self.kind.metric
        train, test = load_both(recipe.data, self.data_root, task=recipe.task, size=recipe.size)
        self.scenes = train
        for note in (*train.notes, *test.notes):
            self.say(note)
        self.test_scenes = test
        return train.images(), test.images()

    @property
    def _outputs(self) -> dict[str, int]:
        options = self.kind.network_options(self.recipe.task_options)
        return {"channels": self.train_images.shape[0], "classes": len(self.scenes.classes), **options}

    def _check_answer(self, shape: tuple[int, ...]) -> None:
        self.task = self.kind.learned(self.scenes, shape, self.recipe.task_options)
        self.task.meter()  # a missing library is told before hours of training

    def _batches(self, number: int, epoch: int, generator: torch.Generator) -> Iterator[tuple[Any, int, int]]:
        data, shape = self.train_images, self.scenes.shape[1:]
        chosen = self.recipe.augmentation(self.recipe.stages[number])
        for index in torch.split(torch.randperm(len(data.labels), generator=generator), self.recipe.batch_size):
            if self.group.smallest(len(index)) < 2:  # batch norm needs two
                continue
            share = self.group.share(len(index))
            views = random_views(len(index), chosen, shape, generator).of(share)
            numbers = data.labels.cpu()[index[share]]
            truth = self.task.seen(views, self.scenes.answers(numbers), shape)
            images = views.images(self.scenes.levels[numbers].float() / 255, torch.tensor(data.mean))
            placed = images.to(self.device, memory_format=torch.channels_last)
            yield (placed, truth), len(numbers), len(index)

    def _loss(self, logits: Tensor, images: Tensor, labels: Any, smoothing: float) -> Tensor:
        return self.task.loss(logits, labels)

    def _train_stage(self, model: nn.Module, number: int, state: dict[str, Any] | None) -> None:
        super()._train_stage(model, number, state)
        if self.recipe.stages[number].bits is None:
            self.figures["float"] = self._figures(model, self.test_scenes, self.test_images)

    def accuracy(self, model: nn.Module, data: Images) -> float:
        """The figure of merit, from 0 to 1."""
        scenes = self.test_scenes if data is self.test_images else self.scenes
        value = self._figures(model, scenes, data)[self.metric]
        return math.nan if value is None else value

    def _figures(self, model: nn.Module, scenes: Scenes, data: Images) -> dict[str, float | None]:
        """Figures of the answers to some images of `scenes`; every process looks at all of them."""
        model.eval()
        meter = self.task.meter()
        with torch.no_grad():
            for numbers in torch.split(data.labels.cpu(), 32):
                images = (scenes.levels[numbers].float() / 255).to(self.device, memory_format=torch.channels_last)
                meter.add(model(self._normalised(model, images)).cpu().float(), scenes.answers(numbers))
        return stored(meter.figures())

    def _measured(self, trained: nn.Module) -> dict[str, Any]:
        self.figures["quantised"] = self._figures(trained, self.test_scenes, self.test_images)
        return {FIGURES: dict(self.figures), KEY: self.task.description()}


def float_network(checkpoint: Checkpoint, weights: str | Path) -> nn.Module:
    """The float network that a training by a recipe began with, for raw images. weights: the file that it left.

    Raises InputError if the checkpoint does not come from a recipe, or the weights are of another network.
    """
    held = checkpoint.metadata
    try:
        recipe = Recipe.model_validate(held["recipe"])
        if (known := Preprocessing.of(held)) is None:
            raise KeyError("what its images were normalised with")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "the checkpoint does not say which float network it was trained from. Leave out --float"
        ) from error
    if (task := task_in(held)) is None:
        with torch.no_grad():
            outputs = {"classes": int(checkpoint.model.eval()(torch.zeros(1, *checkpoint.input_shape)).shape[1])}
    else:
        outputs = {"classes": len(task.classes), **task.network_options(recipe.task_options)}
    model = build(recipe.model, channels=checkpoint.input_shape[0], **outputs, **recipe.model_options)
    load_weights(model, weights)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (known.mean, known.std))
    return _Raw(model.eval(), mean, std)


class _Raw(nn.Module):
    """A float network that is given raw images."""

    def __init__(self, model: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.model, self.mean, self.std = model, mean, std

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.model((images - self.mean) / self.std)
        return answer


def stored(figures: dict[str, float]) -> dict[str, float | None]:
    """Figures as plain data: None for what has no value."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}
