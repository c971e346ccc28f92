"""`fastsnn-deploy export`: a checkpoint to a file for a target."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from fastsnn_deploy.cli.common import Data, DataRoot, Json, output, print_json, sample_images


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
    "signed-if: signed integrate-and-fire, spikes of -1 and 1; graded: one message carries a whole count; "
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
        losses = None if exported.loss_report is None else json.loads(exported.loss_report.to_json())
        report = {"file": str(path), "target": target.value, "format": file_format.value, **exported.totals}
        print_json(report | {"layers": exported.layers, "notes": exported.notes, "loss_report": losses})
        return
    console = output()
    console.print(_table(exported.layers))
    for note in exported.notes:
        console.print(note, highlight=False, soft_wrap=True)
    if exported.loss_report is not None:
        exported.loss_report.render(console)
    totals = ", ".join(f"{value:,} {name}" for name, value in exported.totals.items())
    console.print(f"{path}: {totals}", highlight=False, soft_wrap=True)


def _table(rows: tuple[dict[str, Any], ...]) -> Table:
    """One line a layer; columns are the keys that any row has a value for."""
    keys = list(dict.fromkeys(key for row in rows for key, value in row.items() if key != "module" and value))
    table = Table(title="Exported network", title_justify="left")
    for key in keys:
        numbers = any(isinstance(row.get(key), int) for row in rows)
        table.add_column(key, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(key, row.get(key)) for key in keys))
    return table


def _cell(key: str, value: Any) -> str:
    if value is None:
        return ""
    if key == "shape":
        return "x".join(map(str, value))
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list) and len(value) == 2 and all(isinstance(v, int) for v in value):
        return f"{value[0]:,} to {value[1]:,}"
    if isinstance(value, list):
        return "\n".join(_cell("", item) for item in value)
    return str(value)
