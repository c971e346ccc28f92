"""A run of any engine with every step of every layer."""

from __future__ import annotations

import numpy as np

from fastsnn_deploy.errors import InputError, whole_number
from fastsnn_deploy.graph import Encoded, SpikeTrains
from fastsnn_deploy.graph.integer_network import answer_scales
from fastsnn_deploy.graph.run import Run
from fastsnn_deploy.graph.schedule import MOST_STEPS
from fastsnn_deploy.simulators.engine import Engine, recordable


def recorded_run(engine: Engine, images: Encoded | SpikeTrains, steps: int | None = None) -> Run:
    """What `reference.simulate` gives, from a faster engine; without a number of steps it ends when all has settled.

    Args:
        engine: Of the graph to run.
        images: Encoded images of that graph, int64 [N, *input shape], or SpikeTrains.
        steps: Exactly so many steps, at least 1; None: until every image has settled.

    Raises:
        InputError: no image, or a number of steps that is none.
    """
    if steps is not None:
        steps = whole_number("steps", steps, 1, MOST_STEPS)
    if not len(images):
        raise InputError("there is no image to run. Give at least one")
    names = [node.name for node in engine.graph.nodes if recordable(node)]
    try:
        run = engine.run(images if isinstance(images, SpikeTrains) else np.asarray(images), steps, names)
    except MemoryError as error:
        taken = "all" if steps is None else f"{steps:,}"
        raise InputError(
            f"memory does not hold {taken} steps of {len(names)} layers for {len(images)} images. Take fewer images or "
            "steps, or evaluate, which keeps totals only"
        ) from error

    def series(kind: str) -> dict[str, np.ndarray]:
        found = {name: getattr(run.recorded[name], kind) for name in names}
        return {name: values for name, values in found.items() if values is not None}

    return Run(
        steps=run.steps,
        spikes=series("spikes"),
        counts=series("counts"),
        potentials=series("potentials"),
        settle_steps=run.settle_steps,
        scales=answer_scales(engine.graph),
    )
