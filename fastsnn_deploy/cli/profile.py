"""`fastsnn-deploy profile`: counts and energy of an exported network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from fastsnn_deploy.cli.common import (
    Data,
    DataRoot,
    Download,
    Json,
    Samples,
    print_json,
    progress_bar,
    sample_images,
    show,
)

if TYPE_CHECKING:
    from fastsnn_deploy.analysis.hardware import Hardware
    from fastsnn_deploy.analysis.result import Profile
    from fastsnn_deploy.graph import SpikingGraph


def profile(
    net: Annotated[Path, typer.Argument(help="Exported network (model.net).")],
    hardware: Annotated[str, typer.Option(help="Hardware profile by name, or a .yaml file.")] = "loihi2",
    samples: Samples = 20,
    data: Data = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    engine: Annotated[str, typer.Option(help="Simulator: cpu, reference, or gpu.")] = "cpu",
    csv: Annotated[Path | None, typer.Option(help="Also write the table of layers to this CSV file.")] = None,
    as_json: Json = False,
) -> None:
    """Count spikes, synaptic operations and neuron updates per layer, and estimate energy from published constants.

    Every constant is shown with its status and source; the same network without spikes is counted beside it.
    """
    from fastsnn_deploy.analysis.hardware import load_hardware
    from fastsnn_deploy.files import atomic_write_text
    from fastsnn_deploy.formats import netx

    chosen = load_hardware(hardware)
    graph = netx.read(net)
    images, _, _ = sample_images(graph, data, data_root, samples, download)
    with progress_bar("profiling", unit="images") as update:
        result = _profile(graph, images, chosen, engine, update)
    if csv is not None:
        atomic_write_text(csv, result.layers().csv())
    if as_json:
        print_json(result.to_dict())
    else:
        show(*result.report())


def _profile(
    graph: SpikingGraph, images: np.ndarray, hardware: Hardware, engine: str, progress: Callable[[int, int], None]
) -> Profile:
    """Counts of a batched engine, or of the reference simulator for a network that is no classifier."""
    from fastsnn_deploy.analysis.ann import ann_counts
    from fastsnn_deploy.analysis.evaluate import evaluate
    from fastsnn_deploy.analysis.evaluation_counts import counts_of
    from fastsnn_deploy.analysis.result import priced, profile

    emitted = graph.input.encode(images)
    if len(graph.outputs) > 1 or len(graph[graph.outputs[0]].shape) > 1:
        return profile(graph, emitted, hardware, progress=progress)
    counts = counts_of(evaluate(graph, images, None, engine=engine, progress=progress))
    return priced(counts, ann_counts(graph, emitted), hardware)
