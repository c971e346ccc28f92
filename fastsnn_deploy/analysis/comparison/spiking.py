"""What a spiking network answers after each step, image by image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.kinds import kind_of
from fastsnn_deploy.analysis.structure import Network
from fastsnn_deploy.simulators import open_engine


@dataclass(frozen=True)
class SpikingAnswers:
    """predictions: int64 [T, N, ...], greatest channel after each step; what has settled stays as it is.

    answers: float64 [N, *output shape], at the end. settle_steps: int64 [N].
    """

    predictions: npt.NDArray[np.int64]
    answers: npt.NDArray[np.float64]
    settle_steps: npt.NDArray[np.int64]


def spiking_answers(
    network: Network, levels: Any, steps: int | None, progress: Callable[[int], None]
) -> SpikingAnswers:
    """Run images until each has settled, or for exactly so many steps. progress: called with images done."""
    engine, kind, name = open_engine(network), kind_of(network), next(iter(kind_of(network).outputs(network)))
    found, finals, settled = [], [], []
    for start in range(0, len(levels), engine.batch_size):
        emitted = kind.encode(network, levels[start : start + engine.batch_size])
        run = engine.run(emitted, steps)
        scores = [kind.logits(network, values) for values in run.outputs[name]]
        scores = scores or [np.zeros((len(emitted), *kind.outputs(network)[name]))]  # it never changes
        found.append(np.stack([score.argmax(1) for score in scores]))
        finals.append(scores[-1])
        settled.append(run.settle_steps)
        progress(start + len(emitted))
    longest = max(map(len, found))
    padded = [np.concatenate([part, np.repeat(part[-1:], longest - len(part), axis=0)]) for part in found]
    return SpikingAnswers(np.concatenate(padded, axis=1), np.concatenate(finals), np.concatenate(settled))
