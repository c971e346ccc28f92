"""The reference simulator behind the engines' interface: slow, plain, and the measure of the others."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import Readout
from fastsnn_deploy.graph.run import Run
from fastsnn_deploy.simulators.engine import Activity, BatchRun, Engine, Recording, engine
from fastsnn_deploy.simulators.reference import Simulation, finished


@engine("reference")
class ReferenceEngine(Engine):
    """`simulate.simulate` as an engine."""

    @property
    def batch_size(self) -> int:
        return 10

    def run(self, emitted: npt.NDArray[np.integer], steps: int | None = None, record: Collection[str] = ()) -> BatchRun:
        self.check(emitted, steps, record)
        run = finished(Simulation(self.graph, emitted.astype(np.int64)), steps)
        end = int(run.settle_steps.max(initial=0)) if steps is None else steps

        def cut(series: Mapping[str, npt.NDArray[np.int32]], name: str) -> npt.NDArray[np.int32] | None:
            return series[name][:end] if name in series else None

        outputs = {}
        for name in self.graph.outputs:
            kept = cut(run.potentials if isinstance(self.graph[name], Readout) else run.counts, name)
            assert kept is not None
            outputs[name] = kept
        return BatchRun(
            steps=end,
            settle_steps=run.settle_steps,
            outputs=outputs,
            activity={name: _activity(run, name, end) for name in run.spikes},
            recorded={
                name: Recording(cut(run.spikes, name), cut(run.counts, name), cut(run.potentials, name))
                for name in record
            },
        )


def _activity(run: Run, name: str, end: int) -> Activity:
    spikes = run.spikes[name][:end]
    shape = spikes.shape[2:]
    per_image = np.count_nonzero(spikes.reshape(*spikes.shape[:2], math.prod(shape)), axis=2)
    magnitude = np.abs(spikes.astype(np.int64))
    return Activity(
        spikes=np.count_nonzero(spikes, axis=(0, 1)).astype(np.int64).reshape(shape),
        payload=magnitude.sum((0, 1)),
        positive=int(np.count_nonzero(spikes > 0)),
        negative=int(np.count_nonzero(spikes < 0)),
        per_step=per_image.sum(1).astype(np.int64),
        most_in_step=int(per_image.max(initial=0)),
        largest=int(magnitude.max(initial=0)),
    )
