"""Float network, then fewer and fewer bits, for any task."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.quantisation import Checkpoint, QuantActivation, calibrate, prepare
from fastsnn_deploy.quantisation.bit_plan import set_bits
from fastsnn_deploy.quantisation.layers import BATCH_NORMS
from fastsnn_deploy.quantisation.structure import WEIGHTED
from fastsnn_deploy.tasks.base import Task
from fastsnn_deploy.training.loop import Log, Loop, half_cosine
from fastsnn_deploy.training.models import build


@dataclass(frozen=True)
class Settings:
    """How a network of one task is trained, with Adam and a cosine from the learning rate to zero in every stage.

    epochs: of the float stage and of each quantised stage. model, options: a network of the zoo. rate,
    quantised_rate: learning rates of weights; what quantisers learn moves at a tenth. weight_bits: of inner layers;
    the first and the last have 8. decay: weight decay, on weights only. clip: greatest norm of the gradient. All
    randomness follows from the seed.
    """

    model: str
    options: dict[str, int]
    epochs: tuple[int, int]
    batch: int = 16
    rate: float = 2e-3
    quantised_rate: float = 1e-3
    weight_bits: int = 4
    decay: float = 1e-4
    clip: float = 5.0
    seed: int = 0


@dataclass(frozen=True)
class Stage:
    """A trained network. bits: of its activations, None for floating point. figures: of `Task.score` on test images.

    losses: mean training loss of each epoch; seconds: training time, tests not included.
    """

    bits: int | None
    model: nn.Module
    figures: dict[str, float]
    losses: tuple[float, ...]
    seconds: float

    def checkpoint(self, task: Task, settings: Settings) -> Checkpoint:
        """The quantised model with what is needed to read its answers. Raises InputError for a float network."""
        if not isinstance(self.model, fx.GraphModule):
            raise InputError("a float network has no spiking form. Train a quantised stage")
        metadata = {"data": task.train.name, "settings": _plain(settings), "figures": self.figures, **task.description}
        return Checkpoint(self.model.eval(), task.train.shape, metadata)


def train(task: Task, settings: Settings, bits: Sequence[int], log: Log = print) -> list[Stage]:
    """A float network, and from it one quantised model for each number of bits, each from the weights of the one
    before.

    Learns from `task.train` alone; `task.test` is only looked at when a stage is over, and decides nothing.
    """
    torch.manual_seed(settings.seed)
    model = build(settings.model, **task.model_options, **settings.options)
    stages = [_stage(task, settings, model, None, 0, log)]
    for number, own in enumerate(bits):
        if number == 0:
            quantised = prepare(model.eval(), own, settings.weight_bits, mean=task.mean, std=task.std)
            calibrate(quantised, task.train.raw(slice(0, 64)))
        else:
            quantised = _copy(stages[-1].model)
            set_bits(quantised, own, settings.weight_bits)
        stages.append(_stage(task, settings, quantised, own, number + 1, log))
    return stages


def answers(task: Task, model: nn.Module, levels: Tensor, batch: int = 32) -> Tensor:
    """A network's answer to images, in evaluation mode: uint8 [N, 3, H, W] -> float32 [N, ...]."""
    model.eval()
    with torch.no_grad():
        parts = [model(_input(task, model, part.float() / 255)) for part in torch.split(levels, batch)]
    return torch.cat(parts).contiguous()


def _stage(task: Task, settings: Settings, model: nn.Module, bits: int | None, number: int, log: Log) -> Stage:
    epochs = settings.epochs[0 if bits is None else 1]
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast on a processor
    optimiser = torch.optim.AdamW(_groups(model, settings, settings.rate if bits is None else settings.quantised_rate))
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + number)
    count = len(task.train.levels)

    def rate(first: float, epoch: int, step: int, steps: int) -> float:
        warm = min(1.0, (epoch * steps + step + 1) / steps)
        return warm * first * half_cosine(math.pi * ((epoch + step / steps) / epochs))

    loop: Loop[tuple[Tensor, Any]] = Loop(
        model, optimiser, lambda batch: task.loss(model(batch[0]), batch[1]), schedule=rate, clip=settings.clip,
        where=f" ({_name(bits)})",
    )  # fmt: skip
    losses, start = [], time.perf_counter()
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(count, generator=generator)
        batches = [index for index in torch.split(order, settings.batch) if len(index) > 1]  # batch norm needs two
        views = ((_views(task, model, index, generator), len(index), len(index)) for index in batches)
        losses.append(loop.epoch(epoch, views, len(batches), sum(map(len, batches))))
        log(f"{_name(bits)} epoch {epoch + 1}/{epochs}: loss {losses[-1]:.4f}, {time.perf_counter() - start:.0f} s")
    seconds = time.perf_counter() - start
    figures = task.score(answers(task, model, task.test.levels))
    log(f"{_name(bits)}: {task.metric} {100 * figures[task.metric]:.2f} % on test images")
    return Stage(bits, model, figures, tuple(losses), seconds)


def _views(task: Task, model: nn.Module, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Any]:
    """Random views of training images, as the network takes them, and what the loss wants to know of them."""
    images, target = task.batch(index, generator)
    return _input(task, model, images).contiguous(memory_format=torch.channels_last), target


def _input(task: Task, model: nn.Module, images: Tensor) -> Tensor:
    quantised = any(isinstance(module, QuantActivation) for module in model.modules())
    return images if quantised else task.normalised(images)


def _groups(model: nn.Module, settings: Settings, rate: float) -> list[dict[str, object]]:
    """Weights decay; biases, batch norms and what quantisers learn do not. Steps are small: they get small changes."""
    layers = [m for m in model.modules() if isinstance(m, WEIGHTED)]
    norms = [m for m in model.modules() if isinstance(m, BATCH_NORMS)]
    decayed = {id(layer.weight) for layer in layers}
    plain = {id(p) for m in (*layers, *norms) for p in (m.weight, m.bias) if p is not None} - decayed
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if id(p) in decayed], "lr": rate, "weight_decay": settings.decay},
        {"params": [p for p in parameters if id(p) in plain], "lr": rate, "weight_decay": 0.0},
        {"params": [p for p in parameters if id(p) not in decayed | plain], "lr": rate / 10, "weight_decay": 0.0},
    ]


def _copy(model: nn.Module) -> fx.GraphModule:
    quantised = copy.deepcopy(model)
    assert isinstance(quantised, fx.GraphModule)
    return quantised


def _plain(settings: Settings) -> dict[str, object]:
    return {**asdict(settings), "epochs": list(settings.epochs)}


def _name(bits: int | None) -> str:
    return "float" if bits is None else f"{bits} bit"
