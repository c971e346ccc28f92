"""How good the integer network's answers are: what every spiking run of it settles to, without the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastsnn_deploy.analysis.evaluate import checked, ranks
from fastsnn_deploy.analysis.structure import Network
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.integer_network import logits
from fastsnn_deploy.simulators.integer import IntegerNetwork, Progress
from fastsnn_deploy.tables import Result, Table, one_line, percent


@dataclass(frozen=True)
class IntegerEvaluation(Result):
    """The integer network on `images` images of `classes` classes. correct: by k, images whose label is among the first
    k classes; empty without labels. Of classes with equal logits the lowest comes first."""

    images: int
    classes: int
    correct: Mapping[int, int]

    def __repr__(self) -> str:
        right = "".join(f", top-{k} {percent(self.accuracy(k))}" for k in self.correct)
        return one_line(f"IntegerEvaluation({self.images:,} images{right})")

    def accuracy(self, k: int = 1) -> float:
        """Fraction of images whose label is among the first k classes. Raises KeyError for a k not asked for."""
        return self.correct[k] / max(self.images, 1)

    def report(self) -> tuple[Table | str, ...]:
        """Accuracy."""
        rows = {"images": f"{self.images:,}"}
        rows |= {
            f"top-{k}": f"{percent(self.accuracy(k))} ({right:,} right)"
            for k, right in self.correct.items()
            if k < self.classes
        }
        return (Table.facts("Integer network", rows),)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `json.dumps`, named as those of an evaluation in time."""
        return {
            "images": self.images,
            "mode": "integer",
            "accuracy": {f"top{k}": self.accuracy(k) for k in self.correct},
            "correct": {f"top{k}": right for k, right in self.correct.items()},
        }


def evaluate_integer(
    network: Network,
    levels: Any,
    labels: Any,
    *,
    engine: str = "cpu",
    threads: int | None = None,
    batch: int | None = None,
    topk: Sequence[int] = (1, 5),
    progress: Progress | None = None,
) -> IntegerEvaluation:
    """Classify images by the integer network, in one product a synapse (`passes.one_pass`).

    Its answers are those of the spiking network once it has settled, image by image: settled counts do not depend on
    when spikes come. Arguments are those of `evaluate`. Raises InputError for stock networks, which are not known to
    settle, and as `evaluate` does.
    """
    if not isinstance(network, SpikingGraph):
        raise InputError("only spiking graphs hold their integer network. Evaluate this file in time")
    levels, labels = checked(network, levels, labels, batch, None, topk, progress)
    opened = IntegerNetwork(network, engine, threads)
    size, correct = batch or opened.batch_size, dict.fromkeys(topk if labels is not None else (), 0)
    for start in range(0, len(levels), size):
        part = slice(start, start + size)
        answers = opened.answers(levels[part])
        if labels is not None:
            places = ranks(logits(network, {network.outputs[0]: answers}), labels[part])
            correct = {k: right + int(np.count_nonzero(places < k)) for k, right in correct.items()}
        if progress is not None:
            progress(start + len(answers), len(levels))
    return IntegerEvaluation(len(levels), network[network.outputs[0]].size, correct)
