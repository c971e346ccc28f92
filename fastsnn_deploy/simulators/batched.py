"""The reference simulator behind the engines' interface: slow, plain, and the measure of the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import Readout
from fastsnn_deploy.graph.spike_trains import Emitted
from fastsnn_deploy.simulators.engine import BatchRun, Engine, Recording, Tallies, activity_of, engine
from fastsnn_deploy.simulators.reference import Simulation, finished


@engine("reference")
class ReferenceEngine(Engine):
    """`simulate.simulate` as an engine."""

    @property
    def batch_size(self) -> int:
        return 10

    def run(
        self, emitted: Emitted, steps: int | None = None, record: Collection[str] = (),
        tallies: Tallies | None = None,
    ) -> BatchRun:  # fmt: skip
        self.check(emitted, steps, record)
        run = finished(Simulation(self.graph, emitted), steps)
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
            activity={name: activity_of(series[:end], name, tallies) for name, series in run.spikes.items()},
            recorded={
                name: Recording(cut(run.spikes, name), cut(run.counts, name), cut(run.potentials, name))
                for name in record
            },
        )
