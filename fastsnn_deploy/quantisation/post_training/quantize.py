"""`quantize`: a float network to a quantised model from images alone, stage by stage, each judged before it stays."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils.data import Dataset, Subset

from fastsnn_deploy.errors import InputError, known_name, require_progress, whole_number, wrong_type
from fastsnn_deploy.graph.images import array_of, labels_of
from fastsnn_deploy.quantisation.calibration import calibration_images, set_steps
from fastsnn_deploy.quantisation.functional import or_one
from fastsnn_deploy.quantisation.images import raw_tensor, remember
from fastsnn_deploy.quantisation.layers import switch_quantisers
from fastsnn_deploy.quantisation.post_training.bias import correct_biases
from fastsnn_deploy.quantisation.post_training.equalise import equalise
from fastsnn_deploy.quantisation.post_training.report import PostTraining, StageResult
from fastsnn_deploy.quantisation.post_training.rounding import round_weights
from fastsnn_deploy.quantisation.post_training.segments import segments
from fastsnn_deploy.quantisation.post_training.thresholds import RULES, Rule
from fastsnn_deploy.quantisation.prepare import prepare

IMAGES = 1024
"""Images of a data set that are looked at."""

JUDGES = 4
"""One image of so many is held out to judge the stages."""

BATCH = 128
"""Images that run at a time."""

STEP_IMAGES = 256
"""Images that set steps and biases, in one pass."""

STAGES = ("equalisation", "bias correction", "rounding")
"""What follows the choice of the steps, in order."""

Progress = Callable[[int, int], None]


def quantize(
    model: nn.Module,
    images: Any,
    bits: int = 8,
    weight_bits: int = 8,
    *,
    test: Any = None,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    thresholds: str = "mse",
    stages: Sequence[str] = STAGES,
    most_images: int = IMAGES,
    iterations: int = 200,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> PostTraining:
    """Quantise a float network without training and without labels.

    Steps of activations are chosen; then channels are equalised between layers, biases corrected, and weights rounded
    so that each layer or residual block keeps its values. A stage stays only if the answers on images that no stage
    has seen come closer to the float network's.

    Args:
        model: A float network; it stays as it is.
        images: Raw images like those that it will see, as `calibrate` takes them; of a data set, `most_images` drawn
            at random. 1,000 are plenty, labels are not looked at.
        bits: Bits of activations, 1 to 8.
        weight_bits: Bits of weights, 2 to 8; the first and the last layer have 8 unless options say otherwise.
        test: Labelled images to state the accuracy on, (images, labels) or what `load_data` gives; or a function that
            says of a network for raw images how good it is, from 0 to 1. It decides nothing.
        mean: What the network's images were normalised with, per channel.
        std: Likewise.
        thresholds: How steps of activations are chosen: "mse", "percentile" or "entropy".
        stages: Those to run, of "equalisation", "bias correction" and "rounding".
        most_images: Of `images`, how many are used at most.
        iterations: Steps of the optimiser that rounds, for each layer or block; more are better with few bits.
        seed: Draws the images.
        progress: Called with (parts done, in all).
        **options: As of `prepare`.

    Returns:
        The quantised model, the float network as a teacher for `fit`, and what each stage gave.

    Raises:
        LoweringError: lists everything in the network that has no exact spiking form.
        InputError: images do not fit the network, or an option cannot be used.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> import fastsnn_deploy as fd
        >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).eval()
        >>> found = fd.quantize(network, torch.rand(64, 1, 8, 8), bits=4, weight_bits=4, iterations=20)
        >>> [stage.name for stage in found.stages]
        ['steps', 'equalisation', 'bias correction', 'rounding']
        >>> found.model(torch.rand(1, 1, 8, 8)).shape
        torch.Size([1, 2])
    """
    rule = RULES[known_name("rule of thresholds", thresholds, RULES)]
    most_images, iterations = whole_number("most_images", most_images, 2), whole_number("iterations", iterations, 1)
    seed, chosen = whole_number("seed", seed, 0), _chosen(stages)
    require_progress(progress)
    prepared = prepare(model, bits, weight_bits, mean=mean, std=std, **options).eval()
    remember(prepared, images)
    raw = calibration_images(prepared, _drawn(images, most_images, seed), most_images)[:most_images]
    if len(raw) < 2:
        raise InputError("one image cannot both teach and judge. Give two at least, better 1,000")
    taught, judging = held_apart(raw)
    work = _Work(prepared, taught, judging, test, rule, iterations, seed)
    parts = len(list(segments(prepared)))
    total = 1 + len(chosen) + (parts if "rounding" in chosen else 0)
    advance = progress or _silent
    for number, name in enumerate(("steps", *chosen)):
        work.run(name, partial(_within, advance, number, total))
        advance(total if number == len(chosen) else number + 1, total)
    return PostTraining(
        work.model, work.teacher, bits, weight_bits, (len(taught), len(judging)), work.float_accuracy,
        tuple(work.results),
    )  # fmt: skip


def _silent(done: int, total: int) -> None:
    """Nothing to show."""


def _within(advance: Progress, before: int, total: int, done: int, _: int) -> None:
    """Progress of a stage as that of all."""
    advance(before + done, total)


class _Work:
    """The model so far, the float network it should equal, and what judges them."""

    def __init__(
        self, prepared: fx.GraphModule, taught: Tensor, judging: Tensor, test: Any, rule: Rule, iterations: int,
        seed: int,
    ) -> None:  # fmt: skip
        self.taught, self.judging, self.rule, self.iterations, self.seed = taught, judging, rule, iterations, seed
        self.model, self.teacher = prepared, _copy(prepared, quantised=False)
        self.reference = self.teacher  # as the model, its channels may be equalised
        self.answers = values_of(self.teacher, judging)
        self.test = test if test is None or callable(test) else _labelled(prepared, test)
        self.float_accuracy = self._accuracy(self.teacher)
        self.results: list[StageResult] = []

    def run(self, name: str, advance: Progress) -> None:
        """Run a stage on a copy, judge it, and keep it if it is better; the first one stays in any case."""
        reference, model = self.reference, _copy(self.model, quantised=True)
        few = self.taught[:STEP_IMAGES]
        if name == "equalisation":
            reference = _copy(reference, quantised=False)
            equalise(reference, few)
            model = _copy(reference, quantised=True)
        if name in ("steps", "equalisation"):
            set_steps(model, few, self.rule)
        elif name == "bias correction":
            correct_biases(model, few)
        elif name == "rounding":
            round_weights(model, reference, self.taught, self.iterations, advance, self.seed)
        found = values_of(model, self.judging)
        error = float((found - self.answers).square().mean() / or_one(self.answers.var(correction=0)))
        alike = float((found.argmax(1) == self.answers.argmax(1)).float().mean())
        kept = not self.results or error < min(result.error for result in self.results if result.kept)
        self.results.append(StageResult(name, error, alike, self._accuracy(model), kept))
        if kept:
            self.model, self.reference = model, reference

    def _accuracy(self, model: fx.GraphModule) -> float | None:
        """Fraction of the test images that are right."""
        if self.test is None or callable(self.test):
            return None if self.test is None else float(self.test(model))
        images, labels = self.test
        right = 0
        for start in range(0, len(labels), BATCH):
            chosen = slice(start, start + BATCH)
            right += int((values_of(model, images(chosen)).argmax(1).cpu() == labels[chosen]).sum())
        return right / len(labels)


def _copy(network: fx.GraphModule, quantised: bool) -> fx.GraphModule:
    """A copy with its quantisers on or off."""
    copied = copy.deepcopy(network)
    switch_quantisers(copied, quantised)
    return copied


def held_apart(images: Tensor) -> tuple[Tensor, Tensor]:
    """(images that teach, those that judge): two at least."""
    judges = max(1, len(images) // JUDGES)
    return images[:-judges], images[-judges:]


def values_of(network: fx.GraphModule, images: Tensor) -> Tensor:
    """Answers for raw images, [N, values]; of a map [N, channels, height, width]."""
    with torch.no_grad():
        found = torch.cat([network(part) for part in torch.split(images, BATCH)])
    return found if found.dim() == 4 and found[0, 0].numel() > 1 else found.flatten(1)


def _drawn(images: Any, most: int, seed: int) -> Any:
    """Images drawn at random from a data set, whose own order may be by class; arrays as they are."""
    labelled = hasattr(images, "raw") and hasattr(images, "labels")
    if not labelled and not (isinstance(images, Dataset) and hasattr(images, "__len__")):
        return images
    count = len(images.labels) if labelled else len(images)
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:most]
    return images.raw(chosen) if labelled else Subset(images, chosen.tolist())


def _labelled(model: fx.GraphModule, test: Any) -> tuple[Callable[[slice], Tensor], Tensor]:
    """(raw images by slice, labels int64 [N]) of test images. Raises InputError if they do not fit the network."""
    if hasattr(test, "raw") and hasattr(test, "labels"):
        held, labels = test.raw, test.labels
    elif isinstance(test, (tuple, list)) and len(test) == 2:
        held, labels = array_of(test[0], "test").__getitem__, test[1]
    else:
        raise wrong_type("test", test, "(images, labels), or what fd.load_data gives")
    count = len(held(slice(0, None))) if isinstance(test, (tuple, list)) else len(labels)
    numbers = torch.from_numpy(labels_of(labels, count, "test"))
    if not count:
        raise InputError("test holds no images. Give one at least, or leave it out")
    return lambda chosen: raw_tensor(model, held(chosen), "test"), numbers


def _chosen(stages: Any) -> tuple[str, ...]:
    """The stages asked for, in the order in which they run. Raises InputError for others."""
    if isinstance(stages, str) or not isinstance(stages, Iterable):
        raise wrong_type("stages", stages, f"names of {', '.join(STAGES)}")
    asked = {known_name("stages", name, STAGES) for name in stages}
    return tuple(name for name in STAGES if name in asked)
