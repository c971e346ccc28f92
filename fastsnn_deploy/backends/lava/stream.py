"""Streaming on Lava: one run without a reset, in which the input emits only what changes between frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from fastsnn_deploy.backends.lava.backend import Progress, run
from fastsnn_deploy.backends.lava.compatibility import require_lava
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats import netx
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.simulators.streaming import Interval, Stream, changes, checked_frames, frame_lengths
from fastsnn_deploy.simulators.streaming import stream as simulated_stream


def stream(
    graph: SpikingGraph | str | Path,
    frames: Any,
    interval: Interval | None = None,
    *,
    models: Literal["fast", "stock"] = "fast",
    timeout: float = 600.0,
    record: Literal["all", "spikes"] = "all",
    progress: Progress | None = None,
) -> Stream:
    """Run a stream of frames through Lava's CPU simulator: the integers of `simulate.stream`, step by step.

    graph: a NetX file of `netx.write`, or a graph. frames: images, raw or Encoded.
    interval: steps from one frame to the next, one number or one for each frame; None takes those after which the
    reference simulator has nothing in flight, which costs a run of it. models, timeout, record, progress: as in
    `lava.run`. Raises InputError and BackendError as `lava.run` does.
    """
    require_lava()
    if record not in ("all", "spikes"):
        raise InputError(f"record='{record}': must be all or spikes")
    source = graph
    graph = graph if isinstance(graph, SpikingGraph) else netx.read(graph)
    frames = checked_frames(graph, frames)
    lengths = simulated_stream(graph, frames).lengths if interval is None else interval
    lengths = frame_lengths(graph, len(frames), lengths)
    starts = np.cumsum(lengths) - lengths
    series = run(
        source,
        changes(frames),
        int(lengths.sum()),
        models=models,
        timeout=timeout,
        record=record,
        progress=progress,
        starts=starts.tolist(),
    )
    return Stream(series, starts)
