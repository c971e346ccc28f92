"""`fastsnn-deploy export`: a checkpoint to a file for a target."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from fastsnn_deploy.cli.common import Data, DataRoot, Json, print_json, sample_images, show


class TargetName(str, Enum):
    """What the network becomes."""

    signed_if = "signed-if"
    graded = "graded"
    stock_lif = "stock-lif"
    sigma_delta = "sigma-delta"


class FormatName(str, Enum):
    """File format."""

    netx = "netx"
    nir = "nir"


class InputSchedule(str, Enum):
    """How the image is injected."""

    once = "once"
    spread = "spread"


class BiasSchedule(str, Enum):
    """How biases are injected."""

    wave = "wave"
    spread = "spread"
    initial = "initial"


CALIBRATION_IMAGES = 100
"""Test images that a target that is not exact looks at to choose its units."""

TARGET_HELP = (
    "signed-if: signed integrate-and-fire, spikes of -1 and 1; graded: one spike carries a whole count; "
    "stock-lif: stock LIF neurons only, loads in unmodified lava-dl; "
    "sigma-delta: stock sigma-delta neurons, not exact, says by how much."
)


def export(
    model: Annotated[Path, typer.Argument(help="Checkpoint of a quantised network (model.pt).")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; default: model.net or .nir.")] = None,
    target: Annotated[TargetName, typer.Option(help=TARGET_HELP)] = TargetName.signed_if,
    file_format: Annotated[
        FormatName, typer.Option("--format", help="netx: lava-dl HDF5; nir: NIR, with a report of what it cannot say.")
    ] = FormatName.netx,
    input_schedule: Annotated[
        InputSchedule, typer.Option("--input", help="once: one graded spike a pixel; spread: over the window.")
    ] = InputSchedule.once,
    bias_schedule: Annotated[
        BiasSchedule, typer.Option("--bias", help="wave: with a layer's first synaptic input; spread: over the window.")
    ] = BiasSchedule.wave,
    graph_file: Annotated[
        Path | None, typer.Option("--graph", help="Also write the spiking graph (.safetensors).")
    ] = None,
    data: Data = None,
    data_root: DataRoot = Path("data"),
    as_json: Json = False,
) -> None:
    """Convert a quantised network to an integer spiking network and write it as lava-dl NetX HDF5 or NIR.

    What stock NetX lacks (signed neurons, several inputs, pooling) is a documented extension of the format;
    --target stock-lif does without.
    """
    from fastsnn_deploy import quantize
    from fastsnn_deploy.convert.convert import convert
    from fastsnn_deploy.formats.export import export as write_target
    from fastsnn_deploy.graph import save

    checkpoint = quantize.load(model)
    graph = convert(checkpoint, input_schedule=input_schedule.value, bias_schedule=bias_schedule.value)
    path = out or model.with_suffix(".net" if file_format is FormatName.netx else ".nir")
    calibration = None
    if target is TargetName.sigma_delta:
        calibration = graph.input.encode(sample_images(graph, data, data_root, CALIBRATION_IMAGES)[0])
    exported = write_target(graph, path, target.value, file_format.value, calibration)
    if graph_file is not None:
        save(graph, graph_file)
    if as_json:
        print_json(exported.to_dict())
    else:
        show(*exported.report())
