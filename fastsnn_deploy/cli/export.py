"""`fastsnn-deploy export`: a checkpoint to a file for a target."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from fastsnn_deploy.cli.common import Data, DataRoot, Json, Preprocess, output, print_json, sample_images, show
from fastsnn_deploy.cli.sources import (
    Bits,
    InputShape,
    Key,
    Mean,
    ModelName,
    Output,
    RateSteps,
    ReplaceActivations,
    Std,
    TrustPickle,
    WeightBits,
    changes,
    is_quantised,
    numbers,
    opened,
    quantised,
)
from fastsnn_deploy.cli.tasks import TaskName
from fastsnn_deploy.targets import TARGETS, target_named


class InputSchedule(str, Enum):
    """How the image is injected."""

    once = "once"
    spread = "spread"
    constant = "constant"


class ScheduleName(str, Enum):
    """When neurons stop."""

    settle = "settle"
    window = "window"


class BiasSchedule(str, Enum):
    """How biases are injected."""

    wave = "wave"
    spread = "spread"
    initial = "initial"


CALIBRATION_IMAGES = 100
"""Test images, if there are as many, that a target that is not exact looks at to choose its units."""

TARGET_HELP = "; ".join(f"{name}: {each.summary.rstrip('.')}" for name, each in TARGETS.items()) + "."


def export(
    model: Annotated[
        Path,
        typer.Argument(help="Checkpoint of a quantised network (model.pt); a network that another program has "
                       "quantised (QONNX, ONNX with QDQ, .pt2 of PT2E); or a float one, as .pt2, TorchScript, ONNX or "
                       "weights, with --bits and --data."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", callback=output, help="File to write; default: model.net or .nir.")
    ] = None,
    target: Annotated[str, typer.Option(help=TARGET_HELP)] = "signed-if",
    file_format: Annotated[
        str, typer.Option("--format", help="netx: lava-dl HDF5; nir: NIR, with a report of what it cannot say.")
    ] = "netx",
    neurons: Annotated[
        str | None, typer.Option(help="Spikes: unary, graded, unsigned, burst4, ... Default: what the target asks for.")
    ] = None,
    schedule: Annotated[
        ScheduleName,
        typer.Option(
            help="settle: until every count is right; window: each layer stops after its window, as published."
        ),
    ] = ScheduleName.settle,
    steps: Annotated[
        int | None, typer.Option(min=1, help="With --schedule window: steps of each layer. Default: 2**bits - 1.")
    ] = None,
    allow_loss: Annotated[
        bool, typer.Option("--allow-loss", help="Let trained weights lose bits that potentials of 24 bits cannot hold.")
    ] = False,
    input_schedule: Annotated[
        InputSchedule,
        typer.Option(
            "--input",
            help="once: one graded spike a pixel; spread: over the window, as always with --schedule window, unless "
            "it is constant: the current and the counts of the official codes.",
        ),
    ] = InputSchedule.once,
    bias_schedule: Annotated[
        BiasSchedule, typer.Option("--bias", help="wave: with a layer's first synaptic input; spread: over the window.")
    ] = BiasSchedule.wave,
    start_delay: Annotated[
        int,
        typer.Option(
            "--start-delay", min=0,
            help="Steps that each layer waits from its first input before it fires: fewer spikes are taken back.",
        ),
    ] = 0,
    graph_file: Annotated[
        Path | None,
        typer.Option(
            "--graph", callback=output, help="Also write the spiking graph that the file holds (.safetensors)."
        ),
    ] = None,
    network: ModelName = None,
    key: Key = None,
    trust_pickle: TrustPickle = False,
    input_shape: InputShape = None,
    bits: Bits = None,
    weight_bits: WeightBits = None,
    mean: Mean = None,
    std: Std = None,
    chosen_output: Output = None,
    replace_activations: ReplaceActivations = None,
    rate_steps: RateSteps = None,
    checkpoint_file: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint", callback=output,
            help="Of a network in another form: quantised model to write, which verify takes. Default: model-4bit.pt, "
            "or model-quantised.pt if it is quantised already.",
        ),
    ] = None,
    data: Data = None,
    data_root: DataRoot = Path("data"),
    task: TaskName = None,
    preprocess: Preprocess = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Convert a quantised network to an integer spiking network and write it as lava-dl NetX HDF5 or NIR.

    What stock NetX lacks (signed neurons, several inputs, pooling) is a documented extension of the format;
    --target stock-lif does without.
    """
    from fastsnn_deploy.api import convert
    from fastsnn_deploy.files import planned
    from fastsnn_deploy.formats.base import format_named
    from fastsnn_deploy.formats.export import export as write_target
    from fastsnn_deploy.graph import save
    from fastsnn_deploy.quantisation import save as save_checkpoint

    chosen, suffix = target_named(target), format_named(file_format).suffix
    path = out or planned(model.with_suffix(suffix))
    sizes = numbers("--input-shape", input_shape, int)
    loaded = opened(model, network, key, trust_pickle, sizes)
    if not is_quantised(loaded.model) and checkpoint_file is None:
        made = f"{bits}bit" if bits is not None else "quantised"
        checkpoint_file = planned(path.with_name(f"{path.stem}-{made}.pt"))
    options = changes(chosen_output, replace_activations)
    checkpoint, notes = quantised(
        loaded, model, bits, weight_bits, mean, std, data, data_root, network, preprocess, rate_steps, task, sizes,
        **options,
    )  # fmt: skip
    graph = convert(
        checkpoint, neurons=neurons or "unary", schedule=schedule.value, steps=steps, input=input_schedule.value,
        bias=bias_schedule.value, start_delay=start_delay, allow_loss=allow_loss,
    )  # fmt: skip
    calibration = None
    if not chosen.exact:
        found = sample_images(graph, data, data_root, None, preprocess=preprocess)[0]
        calibration = graph.input.encode(found[:CALIBRATION_IMAGES])
    exported = write_target(graph, path, target, file_format, calibration)
    if graph_file is not None:
        save(exported.graph, graph_file)
    if checkpoint_file is not None:
        save_checkpoint(checkpoint, checkpoint_file)
        notes = (*notes, f"{checkpoint_file}: the quantised model, to verify {path} against")
    exported = replace(exported, notes=(*exported.notes, *notes))
    if as_json:
        print_json({**exported.to_dict(), "checkpoint": None if checkpoint_file is None else str(checkpoint_file)})
    else:
        show(*exported.report())
