"""What `evaluate` and `verify` do with the events of a camera in place of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastsnn_deploy.cli.common import first_images, progress_bar
from fastsnn_deploy.errors import InputError

if TYPE_CHECKING:
    from fastsnn_deploy.analysis.events import EventEvaluation
    from fastsnn_deploy.formats import Network
    from fastsnn_deploy.graph import SpikingGraph
    from fastsnn_deploy.graph.images import ImageReader
    from fastsnn_deploy.graph.spike_trains import SpikeReader
    from fastsnn_deploy.training.images import Images

AsEvents = Annotated[
    bool,
    typer.Option("--events", help="Of a data set of events: run on the events themselves, one spike each, no frames."),
]
BinUs = Annotated[float, typer.Option("--bin-us", help="With --events: microseconds of a time step.")]

RECORDINGS = 4
"""Recordings that are verified at a time: the series of every neuron over all time bins are in memory."""


def event_data(
    network: Network, data: str | None, root: Path, samples: int | None, download: bool, preprocess: str | None
) -> Images:  # fmt: skip
    """The first test recordings, or all, on the network's grid. Raises InputError if nobody names a data set."""
    from fastsnn_deploy.training.data import load_for

    name = data or network.metadata.get("data")
    if name is None or name == "random":
        raise InputError("--events needs a data set of events. Name it with --data (docs/events.md)")
    return first_images(load_for(network.metadata, network.input, name, "test", root, download, preprocess), samples)


def recordings(
    graph: SpikingGraph, data: str | None, root: Path, samples: int | None, download: bool, preprocess: str | None,
    bin_us: float,
) -> tuple[SpikeReader, ImageReader, Any, str]:  # fmt: skip
    """(spikes, frames, labels, name) of the first test recordings."""
    found = event_data(graph, data, root, samples, download, preprocess)
    return found.spikes(graph.input, bin_us), found.reader(graph.input), found.labels.numpy(), found.name


def on_events(network: Network, recordings: Images, **options: Any) -> EventEvaluation:
    """`analysis.events.evaluate_events` with a progress bar."""
    from fastsnn_deploy.analysis.events import evaluate_events

    with progress_bar("evaluating", unit="recordings") as update:
        return evaluate_events(network, recordings, progress=update, **options)
