"""What a changed copy of a model loses, on images that are held for it, from the first changed layer on."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx
from torch.nn import functional as F

from fastsnn_deploy.quantisation.functional import or_one
from fastsnn_deploy.quantisation.post_training.segments import segments


@dataclass(frozen=True)
class Score:
    """loss: mean squared difference between a model's answers and the float network's, as a share of the variance of
    the latter; or, where these are no guide, the cross-entropy with the labels. accuracy: None without labels."""

    loss: float
    accuracy: float | None


class Judge:
    """Holds the values of one model between its segments, so that copies run only behind their change.

    images: raw, float32 [N, ...]. wanted: the float network's answers [N, ...]; None where labels are to guide.
    labels: int64 [N] or None.
    """

    def __init__(self, model: fx.GraphModule, images: Tensor, wanted: Tensor | None, labels: Tensor | None) -> None:
        self.images, self.wanted, self.labels = images, wanted, labels
        self.parts = list(segments(model))
        self.calls = {node.name: str(node.target) for node in model.graph.nodes if node.op == "call_module"}
        self.take(model)

    def take(self, model: fx.GraphModule) -> None:
        """Judge copies of this model from now on."""
        self.model, self.starts = model, [self.images]
        for part in self.parts:
            self.starts.append(part.run_all(model, self.starts[-1]))
        self.score = self._score(self.starts[-1])

    def of(self, changed: fx.GraphModule, paths: Collection[str]) -> Score:
        """The score of a model with the same calls, whose modules at `paths` alone are others."""
        first = next(
            index for index, part in enumerate(self.parts) if any(self.calls.get(name) in paths for name in part.nodes)
        )
        value = self.starts[first]
        for part in self.parts[first:]:
            value = part.run_all(changed, value)
        return self._score(value)

    def without(self, paths: Collection[str]) -> Score:
        """The score where these modules do not round."""
        with _exact(self.model, paths):
            return self.of(self.model, paths)

    def _score(self, answers: Tensor) -> Score:
        flat = answers.flatten(1)
        right = None if self.labels is None else float((answers.argmax(1) == self.labels).double().mean())
        if self.wanted is None:
            assert self.labels is not None
            return Score(float(F.cross_entropy(flat, self.labels)), right)
        return Score(error_of(flat, self.wanted.flatten(1)), right)


def error_of(answers: Tensor, wanted: Tensor) -> float:
    """Mean squared difference as a share of the variance of what is wanted."""
    return float((answers - wanted).square().mean() / or_one(wanted.var(correction=0)))


@contextmanager
def _exact(model: fx.GraphModule, paths: Collection[str]) -> Iterator[None]:
    found: list[Any] = [model.get_submodule(path) for path in paths]
    for module in found:
        module.enabled = False
    try:
        yield
    finally:
        for module in found:
            module.enabled = True
