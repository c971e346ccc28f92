"""Lava's CPU simulator: the same graph with Lava's own Conv and Dense models, timed per step.

Lava works on one image at a time and takes as many steps as the network is deep, plus T. Starting it takes seconds,
so a step costs the difference between a longer and a shorter run, divided by the steps between them.
"""

from __future__ import annotations

import time
from typing import Literal

import numpy as np
from peers.base import Contender, Int64, NotAvailableError, Options, Values, contender, version_of

from fastsnn_deploy import lava
from fastsnn_deploy.errors import BackendError, DeployError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.lava.compatibility import require_lava

TIMEOUT = 3600.0


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
        return self._run(emitted[:1], self.graph.depth + self.steps)

    def seconds(self, emitted: Int64) -> float:
        """Time of a step, times the steps of an image, times the images."""
        timed = self.timed_steps
        shorter, longer = (self._seconds_of(emitted[:1], steps) for steps in (1, 1 + timed))
        return max(longer - shorter, 0.0) / timed * (self.graph.depth + self.steps) * len(emitted)

    @property
    def timed_steps(self) -> int:
        """Steps that are timed. The stock model costs the same in every step, whether spikes arrive or not."""
        return self.options.lava_steps

    def details(self) -> dict[str, object]:
        return {
            "version": version_of("lava-nc"),
            "models": self.models,
            "steps_timed": self.timed_steps,
            "steps_of_an_image": self.graph.depth + self.steps,
        }

    def _seconds_of(self, emitted: Int64, steps: int) -> float:
        start = time.perf_counter()
        self._run(emitted, steps)
        return time.perf_counter() - start

    def _run(self, emitted: Int64, steps: int) -> Values:
        try:
            run = lava.run(
                self.graph, emitted.astype(np.int64), steps, models=self.models, timeout=TIMEOUT, record="outputs"
            )
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

    @property
    def timed_steps(self) -> int:
        """All steps of an image: silent layers cost this model nothing."""
        return self.graph.depth + self.steps
