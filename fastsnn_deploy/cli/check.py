"""`fastsnn-deploy check`: what will become of a network, before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from fastsnn_deploy.cli.common import Data, DataRoot, Json, Preprocess, print_json, show
from fastsnn_deploy.cli.sources import (
    InputShape,
    Key,
    Mean,
    ModelName,
    Output,
    ReplaceActivations,
    Std,
    TrustPickle,
    changes,
    chosen_preprocessing,
    is_quantised,
    numbers,
    opened,
)
from fastsnn_deploy.targets import TARGETS


def check(
    model: Annotated[
        Path, typer.Argument(help="Any network: a checkpoint, .pt2, TorchScript, ONNX, or weights with --model.")
    ],
    network: ModelName = None,
    key: Key = None,
    trust_pickle: TrustPickle = False,
    input_shape: InputShape = None,
    bits: Annotated[int, typer.Option(min=1, max=8, help="Of the activations of a float network.")] = 4,
    weight_bits: Annotated[int, typer.Option(min=2, max=8, help="Of its weights.")] = 8,
    target: Annotated[
        list[str] | None, typer.Option(help=f"Only for this target, of {', '.join(TARGETS)}; may be repeated.")
    ] = None,
    mean: Mean = None,
    std: Std = None,
    output: Output = None,
    replace_activations: ReplaceActivations = None,
    data: Data = None,
    data_root: DataRoot = Path("data"),
    preprocess: Preprocess = None,
    as_json: Json = False,
) -> None:
    """Say what will become of each layer for each target, with all problems at once, before anything is trained.

    Exit code 2 if something stands in the way. Without --data, random images stand for real ones and bits are
    estimates.
    """
    from fastsnn_deploy.analysis.check import check as examine
    from fastsnn_deploy.graph.preprocessing import Preprocessing
    from fastsnn_deploy.quantisation.fixed.quantiser import is_fixed
    from fastsnn_deploy.quantisation.given import as_checkpoint
    from fastsnn_deploy.quantisation.images import input_of
    from fastsnn_deploy.training.data import load_chosen, load_for

    size = numbers("--input-shape", input_shape, int)
    loaded = opened(model, network, key, trust_pickle, size)
    options: dict[str, Any] = {"targets": target, "input_shape": size}
    images, notes, given = None, tuple[str, ...](), data not in (None, "random")
    if not is_quantised(loaded.model):
        choose, notes = chosen_preprocessing(network, preprocess, mean, std)
        images = load_chosen(str(data), "train", data_root, choose=choose) if given else None
        options |= {"bits": bits, "weight_bits": weight_bits} | changes(output, replace_activations)
        if not is_fixed(loaded.model):  # another program's network has its own grid of images
            options["preprocessing"] = choose(Preprocessing()) if images is None else images.preprocessing
    elif given:
        known = as_checkpoint(loaded.model).metadata
        images = load_for(known, input_of(loaded.model), str(data), "train", data_root, text=preprocess)
    found = replace(examine(loaded.model, images, **options), network=model.name)
    if as_json:
        print_json({"file": str(model), "kind": loaded.kind, **found.to_dict()})
    else:
        show(f"{model}: {loaded.kind}", *loaded.notes, *notes, *found.report())
    if not found.ok:
        raise typer.Exit(2)
