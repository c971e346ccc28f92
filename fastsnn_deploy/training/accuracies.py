"""One network in all its forms on the same labelled images: float, quantised, integers, spikes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy.typing as npt
from torch import nn

from fastsnn_deploy.analysis.evaluate import evaluate
from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.quantisation import Checkpoint
from fastsnn_deploy.simulators.integer import integer_logits
from fastsnn_deploy.tables import Column, Result, Table, one_line, percent, words
from fastsnn_deploy.training.answers import Progress, quantised_logits
from fastsnn_deploy.training.images import Images


@dataclass(frozen=True)
class Accuracies(Result):
    """Fractions of the images that each form of a network gets right.

    float_network: the network as it was given. quantised: in floating point, on its grids. integer: the integers that
    the spiking network must count. snn: the spiking network when it has settled, after settle_steps steps on average.
    """

    images: int
    float_network: float
    quantised: float
    integer: float
    snn: float
    settle_steps: float
    neurons: str

    def __repr__(self) -> str:
        forms = f"float {percent(self.float_network)}, quantised {percent(self.quantised)}, SNN {percent(self.snn)}"
        return one_line(f"Accuracies({self.images:,} images, {forms})")

    def report(self) -> tuple[Table]:
        """A line for each form."""
        rows = (
            ("float", percent(self.float_network)),
            ("quantised", percent(self.quantised)),
            ("integer network", percent(self.integer)),
            (f"SNN, {self.neurons}, settled after {self.settle_steps:.1f} steps", percent(self.snn)),
        )
        return (Table(f"Accuracy on {self.images:,} test images", (words("network"), Column("accuracy")), rows),)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def accuracies(
    teacher: nn.Module,
    checkpoint: Checkpoint,
    test: Images,
    neurons: str = "unary",
    allow_loss: bool = False,
    progress: Progress | None = None,
) -> Accuracies:
    """Measure a quantised model beside the float network that it comes from.

    Args:
        teacher: the float network, for raw images.
        checkpoint: the quantised model.
        test: images to classify.
        neurons: of the spiking network, as `convert` takes them.
        allow_loss: likewise.
        progress: called with (images done, in all) of the spiking network, by far the longest.

    Raises:
        LoweringError: the quantised model has no spiking form.
        InputError: the images do not fit.
    """
    labels = test.labels.numpy()
    graph = convert(checkpoint, neurons=neurons, allow_loss=allow_loss)
    levels = test.reader(graph.input)
    spiking = evaluate(graph, levels, labels, topk=(1,), progress=progress)

    def right(logits: npt.NDArray[Any]) -> float:
        return float((logits.argmax(1) == labels).mean())

    return Accuracies(
        images=len(labels),
        float_network=right(quantised_logits(teacher, test)),
        quantised=right(quantised_logits(checkpoint.model, test)),
        integer=right(integer_logits(graph, levels)),
        snn=spiking.accuracy(),
        settle_steps=spiking.mean_settle_steps,
        neurons=neurons,
    )
