"""Lava's CPU simulator: the same graph with Lava's own Conv and Dense models, timed per step.

Lava works on one image at a time and takes as many steps as the network is deep, plus T. Starting it takes seconds
and is left out: a step costs the time between the starts of two steps, divided by the steps between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import numpy as np

from fastsnn_deploy.backends import lava
from fastsnn_deploy.backends.lava.compatibility import require_lava
from fastsnn_deploy.errors import BackendError, DeployError
from fastsnn_deploy.graph import SpikingGraph
from peers.base import Contender, Int64, NotAvailableError, Options, Values, contender, version_of

TIMEOUT = 3600.0

SHORTEST = 0.1
"""Seconds between first and last step that can be timed; progress is seen every 20 ms."""

FAST_IMAGES = 64


class Lava(Contender):
    """A Lava run of one image."""

    models: Literal["fast", "stock"]
    once = True

    def __init__(self, graph: SpikingGraph, steps: int, options: Options) -> None:
        super().__init__(graph, steps, options)
        try:
            require_lava()
        except BackendError as error:
            raise NotAvailableError(f"not installed: {error}") from error

    def run(self, emitted: Int64) -> object:
        return self._run(emitted[:1], self.image_steps, lambda done, length: None)

    def seconds(self, emitted: Int64) -> float:
        """Time of a step, times the steps of an image, times the images."""
        starts: dict[int, float] = {}
        images, steps = self.timed(len(emitted))
        self._run(emitted[:images], steps, lambda done, length: starts.setdefault(done, time.perf_counter()))
        starts.pop(0, None)
        first, last = min(starts, default=0), max(starts, default=0)
        if last - first < 1 or starts[last] - starts[first] < SHORTEST:
            raise NotAvailableError("the run is too short to be timed. Raise --lava-steps")
        return (starts[last] - starts[first]) / (last - first) * self.image_steps * len(emitted)

    @property
    def image_steps(self) -> int:
        """Steps of one image."""
        return self.graph.depth + self.steps

    def timed(self, images: int) -> tuple[int, int]:
        """Images and steps of the run that is timed. The stock model costs the same whether spikes arrive or not."""
        return 1, self.options.lava_steps + 1

    def details(self) -> dict[str, object]:
        return {
            "version": version_of("lava-nc"),
            "models": self.models,
            "steps_of_an_image": self.image_steps,
        }

    def _run(self, emitted: Int64, steps: int, progress: Callable[[int, int], object]) -> Values:
        try:
            run = lava.run(
                self.graph, emitted.astype(np.int64), steps, models=self.models, timeout=TIMEOUT, record="outputs",
                progress=progress,
            )  # fmt: skip
        except DeployError as error:
            raise NotAvailableError(f"cannot run this network: {str(error).splitlines()[0]}") from error
        return {name: run.final(name) for name in self.graph.outputs}


@contender("lava")
class Stock(Lava):
    """Lava with its own convolution model."""

    title = "Lava (its own Conv)"
    models = "stock"


@contender("lava-fast")
class Fast(Lava):
    """Lava with our convolution model."""

    title = "Lava (our Conv)"
    models = "fast"

    def timed(self, images: int) -> tuple[int, int]:
        """All steps of some images: silent layers cost this model nothing."""
        return min(images, FAST_IMAGES), self.image_steps
