"""`fastsnn-deploy verify`: the proof that nothing was lost."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from fastsnn_deploy.cli.common import (
    Data,
    DataRoot,
    Download,
    Json,
    Preprocess,
    Samples,
    print_json,
    progress_bar,
    sample_images,
    show,
)
from fastsnn_deploy.cli.events import RECORDINGS, AsEvents, BinUs, recordings
from fastsnn_deploy.cli.tasks import TaskName, chosen_task

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fastsnn_deploy.graph.images import ImageReader


IMAGES = 100
"""Images that are verified at a time."""


class BackendName(str, Enum):
    """What runs the spiking network."""

    reference = "reference"
    cpu = "cpu"
    gpu = "gpu"
    lava = "lava"


class Models(str, Enum):
    """Lava's process model of a convolution."""

    fast = "fast"
    stock = "stock"


def verify(
    model: Annotated[Path, typer.Argument(help="Checkpoint of the quantised network (model.pt).")],
    net: Annotated[Path | None, typer.Argument(help="Exported file to check against it (model.net).")] = None,
    samples: Samples = 20,
    backend: Annotated[BackendName, typer.Option(
        help="What spikes: cpu and gpu are fast; lava also compares every neuron at every step on Lava."
    )]
    = BackendName.reference,
    data: Data = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    preprocess: Preprocess = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images at a time; one Lava run each. Default: 100, of recordings 4.")
    ] = None,
    models: Annotated[Models, typer.Option(help="Lava's model of a convolution: ours (fast) or stock.")] = Models.fast,
    timeout: Annotated[float, typer.Option(help="Seconds for one Lava run.")] = 600.0,
    task: TaskName = None,
    events: AsEvents = False,
    bin_us: BinUs = 1000.0,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Prove that the spiking network computes the quantised network's integers, neuron by neuron.

    Compares the settled count of every neuron of every layer with the integer network, and with --backend lava
    every neuron at every step with Lava; with --events, of a camera, which enter one by one, with the engine "cpu" too.
    Exit code 1 if a single integer differs. Besides, in what people look at
    (classes, boxes, pixels): how much of the answer differs from the quantised model's, which rounds in float32.
    """
    import torch

    from fastsnn_deploy.analysis.verify_stock import verify_network
    from fastsnn_deploy.conversion.convert import convert
    from fastsnn_deploy.formats import read_network
    from fastsnn_deploy.quantisation import load
    from fastsnn_deploy.tasks import Classification
    from fastsnn_deploy.tasks.trainer import stored

    checkpoint = load(model)
    truth = convert(checkpoint)
    entering: Any
    images: ImageReader | np.ndarray
    if events:
        entering, images, labels, name = recordings(truth, data, data_root, samples, download, preprocess, bin_us)
    else:
        images, labels, name = sample_images(truth, data, data_root, samples, download, task, preprocess)
        entering = images
    batch = batch or (RECORDINGS if events else IMAGES)
    options: dict[str, Any] = {
        "backend": backend.value, "batch": batch, "models": models.value, "timeout": timeout
    }  # fmt: skip
    with progress_bar("verifying", unit="recordings" if events else "images") as update:
        network = truth if net is None else read_network(net)
        result = verify_network(network, truth, entering, net=net, **options, progress=update)
    chosen = chosen_task(truth.metadata, task) or (None if result.outputs[0].ndim > 1 else Classification())
    result = replace(result, data=name)
    if chosen is not None:
        outputs = torch.from_numpy(result.outputs)
        quantised = quantised_outputs(checkpoint.model, images, truth.input.step)
        shape = (truth.input.shape[-2], truth.input.shape[-1]) if len(truth.input.shape) == 3 else (1, 1)
        figures = {}
        if labels is not None:
            for form, answer in (("integer network", outputs), ("quantised model", quantised)):
                meter = chosen.meter()
                meter.add(answer, labels)
                figures[form] = {chosen.metric: stored(meter.figures())[chosen.metric]}
        result = replace(result, quantised=chosen.agreement(outputs, quantised, shape), figures=figures)
    if as_json:
        print_json(result.to_dict())
    else:
        show(*result.report())
    if not result.exact:
        raise typer.Exit(1)


def quantised_outputs(quantised: nn.Module, images: ImageReader | np.ndarray, step: float) -> Tensor:
    """What the quantised PyTorch network (floating point) answers to integer levels: float [N, *output shape]."""
    import torch

    quantised.eval()
    with torch.no_grad():
        parts = (torch.from_numpy(images[start : start + 50]) for start in range(0, len(images), 50))
        return torch.cat([quantised(part.float() * step) for part in parts])
