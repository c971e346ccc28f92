"""`fit`: train the quantised model of `prepare` on any data."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from fastsnn_deploy.errors import InputError, Problem, real_number, require_progress, whole_number, wrong_type
from fastsnn_deploy.graph.images import array_of, labels_of
from fastsnn_deploy.processes import Processes
from fastsnn_deploy.quantisation import QuantActivation, calibrate
from fastsnn_deploy.quantisation.images import input_of, raw_levels, raw_tensor, remember, stacked
from fastsnn_deploy.quantisation.layers import BATCH_NORMS
from fastsnn_deploy.training.augmentation import augment, draw
from fastsnn_deploy.training.distillation import distillation_loss
from fastsnn_deploy.training.distributed import Group
from fastsnn_deploy.training.history import History
from fastsnn_deploy.training.images import Images
from fastsnn_deploy.training.loop import (
    CLIP,
    Loop,
    Progress,
    decay_weights_only,
    half_cosine,
    open_device,
    placed,
    quiet,
    warn_unless_lower,
)
from fastsnn_deploy.training.progress import TrainingBar
from fastsnn_deploy.training.recipe import Augment
from fastsnn_deploy.training.sparsity import Priced
from fastsnn_deploy.training.threads import suited_threads

CHECKED = 1000
"""Images that are checked at a time."""

CALIBRATED = 256
"""Images that first set the steps of activations."""

TEMPERATURE, SHARE = 4.0, 0.5
"""Of what is learned from a teacher, as recipes have it unless they say otherwise."""

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class _Held:
    """Levels of a grid, on the CPU or in their files."""

    levels: Any
    labels: Tensor
    step: float

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, chosen: Sequence[Tensor], change: Callable[[Tensor], Tensor] = torch.detach) -> Iterator[Batch]:
        return ((change(self.levels[index]).float() * self.step, self.labels[index]) for index in chosen)


@dataclass(frozen=True)
class _Streamed:
    """A data set of torch, read item by item."""

    data: Dataset[Any]
    model: fx.GraphModule
    name: str
    workers: int

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def batches(self, chosen: Sequence[Tensor], change: Callable[[Tensor], Tensor] = torch.detach) -> Iterator[Batch]:
        loader = DataLoader(
            self.data, batch_sampler=[index.tolist() for index in chosen], num_workers=self.workers, collate_fn=_stack
        )
        for images, labels in loader:
            yield raw_tensor(self.model, images, self.name).cpu(), labels


def _stack(items: Sequence[Any]) -> tuple[Any, Tensor]:
    if not all(isinstance(item, (tuple, list)) and len(item) == 2 for item in items):
        raise InputError(f"the data set gives a {type(items[0]).__name__} for an item, not (image, label)")
    labels = labels_of([_label(label) for _, label in items], len(items), "the data set")
    return stacked([image for image, _ in items]), torch.from_numpy(labels)


def _label(label: Any) -> Any:
    """A number out of a tensor or an array that holds just one."""
    return label.item() if getattr(label, "ndim", None) == 0 and hasattr(label, "item") else label


def _source(model: fx.GraphModule, data: Any, name: str, workers: int) -> _Held | _Streamed:
    if isinstance(data, Images):
        brightest = torch.full((1, *data.shape), data.highest * data.step)
        raw_levels(model, brightest, f"the network ({name}, {data.described})")
        remember(model, data)
        held = data.held()
        return _Held(held.levels, held.labels.cpu(), held.step)
    if isinstance(data, Dataset) and hasattr(data, "__len__"):
        return _Streamed(data, model, name, workers)
    if not (isinstance(data, (tuple, list)) and len(data) == 2):
        raise wrong_type(name, data, "a torch Dataset that has a length, (images, labels), or Images")
    images = array_of(data[0], name)
    labels = torch.from_numpy(labels_of(data[1], len(images) if images.ndim else 0, name))
    grid = input_of(model)
    small = torch.uint8 if grid.low >= 0 and grid.high <= 255 else torch.int32
    parts = [raw_levels(model, images[start : start + CHECKED], name) for start in range(0, len(images), CHECKED)]
    levels = torch.cat([torch.from_numpy(part).to(small) for part in parts]) if parts else torch.zeros(0)
    return _Held(levels, labels, grid.step)


def fit(
    model: fx.GraphModule,
    train: Any,
    test: Any = None,
    *,
    epochs: int = 5,
    learning_rate: float = 0.05,
    batch_size: int = 64,
    weight_decay: float = 1e-4,
    teacher: nn.Module | None = None,
    freeze_batch_norm: bool = False,
    sparsity: float = 0.0,
    shift: int = 0,
    flip: bool = False,
    device: str = "cpu",
    seed: int = 0,
    workers: int = 0,
    progress: bool | Progress = True,
) -> History:
    """Train a quantised model in place, with SGD (momentum 0.9, Nesterov) and a cosine from the learning rate to zero.

    Steps of activations that have seen no image yet are set from the first images. The same seed, data and number of
    threads give the same weights. Afterwards the model is in evaluation mode, on the device where it was.

    Args:
        model: what `prepare` made, or a checkpoint's model.
        train: images to learn from: a torch `Dataset` of (image, label), a tuple (images, labels), or `Images`. Images
            are raw: uint8 from 0 to 255 or floats in units of the data, [C, H, W], NumPy, torch or Pillow. Labels are
            class numbers.
        test: images of the same kind to measure the accuracy on after every epoch; they decide nothing.
        epochs: passes over the images.
        learning_rate: the first one. 0.1 suits random weights, 0.01 to 0.03 those of a trained float network.
        batch_size: images a step.
        weight_decay: of weights; biases, batch norm and steps have none.
        teacher: a network for the same raw images whose answers the model learns besides the labels, such as the
            `teacher` of `fd.quantize`: the float network itself. Half of the loss is the cross entropy, half the
            divergence from the teacher's softened answers (Hinton et al., arXiv 1503.02531, temperature 4).
        freeze_batch_norm: normalise by the running statistics, as in use, and leave them as they are: for a network
            that is nearly right.
        sparsity: what synaptic operations cost: the loss grows by this times their share of the most that the spiking
            network could make, as its counts alone make them. 0 for nothing, 1 is mild. See docs/sparsity.md.
        shift: move each image at random by up to so many pixels; what comes in is 0. Not for a `Dataset`, which can
            do it itself.
        flip: mirror half of the images; likewise.
        device: "cpu", "cuda", ...
        seed: decides the order of the images and what else is drawn.
        workers: processes that read a `Dataset`; 0 for none.
        progress: True for a bar on stderr (lines in a pipe), False for silence, or a function of (done, total) steps.

    Returns:
        Loss and accuracy of each epoch. A UserWarning says what to do if the loss did not fall.

    Raises:
        InputError: images or labels do not fit the network, an option makes no sense, or the training diverges.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from fastsnn_deploy.quantisation import prepare
        >>> images = torch.rand(64, 1, 8, 8)
        >>> labels = (images.mean((1, 2, 3)) > 0.5).long()
        >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        >>> len(fit(prepare(network), (images, labels), epochs=2, progress=False).loss)
        2
    """
    _require_options(epochs, batch_size, learning_rate, weight_decay, seed, workers, shift, sparsity)
    require_progress(None if isinstance(progress, bool) else progress)
    home, chosen = input_of(model).offset.device, open_device(device)
    learned = _source(model, train, "train", workers)
    tested = None if test is None else _source(model, test, "test", workers)
    order = torch.arange(len(learned))
    if len(order) < 2 or (tested is not None and not len(tested)):
        raise InputError("train needs at least two images, test at least one")
    chosen_change = Augment(shift=shift, flip=flip)
    if isinstance(learned, _Streamed) and (shift or flip):
        raise InputError("shift and flip are for images in memory. Let the Dataset change its images itself")
    classes, shape = _first_look(model, learned, order)
    if teacher is not None:
        _require_teacher(teacher, learned, classes)
    for source in (learned, tested):
        if isinstance(source, _Held):
            _require_classes(source.labels, classes)
    bar = TrainingBar("training") if progress is True else nullcontext()
    threads = suited_threads(model, torch.zeros(2, *shape), batch_size, chosen)
    with torch.random.fork_rng(devices=[]), bar, threads:
        placed(model, chosen, torch.channels_last).eval()
        run = _Run(model, chosen, epochs, learning_rate, weight_decay, Priced(model, sparsity, shape))
        run.freeze = freeze_batch_norm
        if teacher is not None:
            run.teacher = placed(copy.deepcopy(teacher), chosen, torch.channels_last).eval()
        watch = progress if callable(progress) else bar.advance if isinstance(bar, TrainingBar) else quiet
        losses, accuracies, operations = [], [], []
        for epoch in range(epochs):
            generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            parts = torch.split(order[torch.randperm(len(order), generator=generator)], batch_size)
            parts = tuple(part for part in parts if len(part) > 1)  # batch norm needs two
            change = partial(_changed, chosen_change, generator) if shift or flip else torch.detach
            batches = learned.batches(parts, change)
            loss, accuracy = run.epoch(epoch, batches, len(parts), sum(map(len, parts)), watch)
            if tested is not None:
                accuracy = run.accuracy(tested.batches(torch.split(torch.arange(len(tested)), 500)))
            losses.append(loss)
            accuracies.append(accuracy)
            spent = run.priced.operations(run.loop.group)
            operations += [] if spent is None else [spent]
            if isinstance(bar, TrainingBar):
                kind = "training" if tested is None else "test"
                bar.epoch(f"epoch {epoch + 1}/{epochs}: loss {loss:.4f}, {kind} accuracy {100 * accuracy:.2f} %")
    placed(model, home, torch.contiguous_format).eval()
    warn_unless_lower(losses)
    return History(tuple(losses), tuple(accuracies), tested is not None, tuple(operations))


def _require_options(
    epochs: Any, batch_size: Any, learning_rate: Any, weight_decay: Any, seed: Any, workers: Any, shift: Any,
    sparsity: Any,
) -> None:  # fmt: skip
    """Raise InputError listing every option that makes no sense."""
    problems = []
    for check in (
        lambda: whole_number("epochs", epochs, 1),
        lambda: whole_number("batch_size", batch_size, 2),
        lambda: real_number("learning_rate", learning_rate),
        lambda: real_number("weight_decay", weight_decay, positive=False),
        lambda: whole_number("seed", seed, 0),
        lambda: whole_number("workers", workers, 0),
        lambda: whole_number("shift", shift, 0),
        lambda: real_number("sparsity", sparsity, positive=False),
    ):
        try:
            check()
        except InputError as error:
            problems.append(Problem("", error.message))
    if problems:
        what = f"epochs {epochs}, batch_size {batch_size}, learning_rate {learning_rate}"
        raise InputError(f"the network cannot be trained with {what} and the other options", problems)


def _first_look(model: fx.GraphModule, source: _Held | _Streamed, order: Tensor) -> tuple[int, tuple[int, ...]]:
    """Fail before a long run, and set the steps of activations that have seen nothing; number of classes, shape of an
    image."""
    images, _ = next(iter(source.batches([order[:CALIBRATED]])))
    seen = all(module.initialised for module in model.modules() if isinstance(module, QuantActivation))
    try:
        with torch.no_grad():
            answers = model.eval()(images[:2].to(input_of(model).offset.device)).flatten(1)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the network cannot take images of shape {tuple(images.shape[1:])} ({reason})") from error
    if not seen:
        calibrate(model, images)
    return int(answers.shape[1]), tuple(images.shape[1:])


def _require_teacher(teacher: Any, source: _Held | _Streamed, classes: int) -> None:
    """Raise InputError unless the teacher answers as the model does."""
    needs = f"a network that takes the same raw images and gives {classes} values, as the teacher of fd.quantize"
    if not isinstance(teacher, nn.Module):
        raise wrong_type("the teacher", teacher, needs)
    images, _ = next(iter(source.batches([torch.arange(2)])))
    try:
        with torch.no_grad():
            shape = tuple(teacher.eval()(images).shape)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"the teacher cannot take the images ({str(error).splitlines()[0]}). Give {needs}") from error
    if shape != (2, classes):
        raise InputError(f"the teacher answers two images with shape {shape}. Give {needs}")


def _changed(chosen: Augment, generator: torch.Generator, levels: Tensor) -> Tensor:
    """Images of a batch moved and mirrored."""
    draws = draw(chosen, len(levels), (levels.shape[2], levels.shape[3]), generator)
    return augment(levels, chosen, draws, torch.zeros(levels.shape[1], dtype=levels.dtype))


def _require_classes(labels: Tensor, classes: int) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise InputError(f"labels reach from {low} to {high}, the network has classes 0 to {classes - 1}")


class _Run:
    """A model with its optimiser."""

    def __init__(
        self, model: nn.Module, device: torch.device, epochs: int, learning_rate: float, weight_decay: float,
        priced: Priced,
    ) -> None:  # fmt: skip
        self.model, self.device, self.epochs, self.right, self.priced = model, device, epochs, 0, priced
        self.teacher: nn.Module | None = None
        self.freeze = False
        groups = decay_weights_only(model, weight_decay)
        optimiser = torch.optim.SGD(groups, lr=learning_rate, momentum=0.9, nesterov=True)
        self.loop = Loop(model, optimiser, self._loss, schedule=self._rate, clip=CLIP, group=Group(Processes(), device))

    def epoch(
        self, number: int, batches: Iterable[Batch], steps: int, images: int, watch: Progress
    ) -> tuple[float, float]:
        """Mean loss, and the fraction of training images that were right before each step."""
        self.model.train()
        for module in self.model.modules():
            if self.freeze and isinstance(module, BATCH_NORMS):
                module.eval()
        self.right = 0
        counted = ((batch, len(batch[1]), len(batch[1])) for batch in batches)
        total = self.epochs * steps
        loss = self.loop.epoch(number, counted, steps, images, lambda step: watch(number * steps + step, total))
        return loss, self.right / images

    def accuracy(self, batches: Iterable[Batch]) -> float:
        """Fraction of images that are right."""
        self.model.eval()
        right = count = 0
        with torch.no_grad():
            for images, labels in batches:
                _require_classes(labels, self._answer(images[:1]).shape[1])
                right += int((self._answer(images).argmax(1).cpu() == labels).sum())
                count += len(labels)
        return right / count

    def _answer(self, images: Tensor) -> Tensor:
        return self.model(self._placed(images)).flatten(1)  # type: ignore[no-any-return]

    def _placed(self, images: Tensor) -> Tensor:
        layout = torch.channels_last if images.dim() == 4 else torch.contiguous_format
        return images.to(self.device, memory_format=layout)

    def _loss(self, batch: Batch) -> Tensor:
        images, labels = batch
        answer, price = self.priced(self._placed(images))
        logits = answer.flatten(1)
        _require_classes(labels, logits.shape[1])
        self.right += int((logits.detach().argmax(1).cpu() == labels).sum())
        loss = F.cross_entropy(logits, labels.to(self.device))
        if self.teacher is None:
            return loss + price
        with torch.no_grad():
            taught = self.teacher(self._placed(images)).flatten(1)
        return (1 - SHARE) * loss + SHARE * distillation_loss(logits, taught, TEMPERATURE) + price

    def _rate(self, first: float, epoch: int, step: int, steps: int) -> float:
        return first * half_cosine(math.pi * (epoch + step / steps) / self.epochs)
