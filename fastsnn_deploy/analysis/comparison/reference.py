"""What stands for the float network: the one that is given, or the quantised model with its quantisers off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph.preprocessing import Preprocessing
from fastsnn_deploy.quantisation.checkpoint import Checkpoint
from fastsnn_deploy.quantisation.images import input_of
from fastsnn_deploy.quantisation.layers import quantisers_off
from fastsnn_deploy.quantisation.prepare import prepare

WITHOUT = "float (the model without its quantisers)"
GIVE = "Give the float network to compare with it"
MOVES_WEIGHTS = ("bias correction", "rounding")
"""Stages of `quantize` after which the model without its quantisers is no longer the float network."""


@dataclass(frozen=True)
class Reference:
    """answers: a network of raw images whose answers are the float ones, quantisers off or on. layers: the one whose
    values the layers are compared with; it has the model's calls. form: what people call it. notes: what it is not."""

    answers: fx.GraphModule
    layers: fx.GraphModule
    form: str
    notes: tuple[str, ...]


def own_reference(model: fx.GraphModule, metadata: Mapping[str, Any]) -> Reference:
    """The quantised model without its quantisers, and whether that is the float network it was made from."""
    learned = [
        str(stage["name"])
        for stage in metadata.get("post_training", {}).get("stages", ())
        if stage["kept"] and stage["name"] in MOVES_WEIGHTS
    ]
    untouched = "calibrated" in metadata or ("post_training" in metadata and not learned)
    if untouched and "finetune" not in metadata and "recipe" not in metadata:
        note = "which is the float network: nothing has moved its weights"
    elif "recipe" in metadata or "finetune" in metadata:
        note = f"not a float network that was trained alone: its weights were trained with the quantisers. {GIVE}"
    elif learned:
        note = f"not quite the float network: {' and '.join(learned)} moved its weights. {GIVE}"
    else:
        note = f"which is the float network unless weights were trained or moved since `prepare`. {GIVE}"
    return Reference(model, model, WITHOUT, (f"float: the model without its quantisers, {note}",))


def given_reference(
    model: fx.GraphModule, checkpoint: Checkpoint, float_model: nn.Module, mean: Sequence[float] | None,
    std: Sequence[float] | None, options: Mapping[str, Any],
) -> Reference:  # fmt: skip
    """A float network as it takes raw images.

    mean, std: what its images were normalised with; None for what the checkpoint says, or its input. options: of
    `prepare`.

    Raises InputError if it answers with another shape, LoweringError if it cannot be captured.
    """
    grid, known = input_of(model), checkpoint.metadata
    own = Preprocessing.of(known) or Preprocessing(mean=tuple(grid.mean), std=(grid.std,))
    made = prepare(
        float_model, 8, 8, mean=own.mean if mean is None else mean, std=own.std if std is None else std,
        input_step=grid.step, input_levels=(grid.low, grid.high), input_shape=checkpoint.input_shape, **options,
    ).eval()  # fmt: skip
    image = torch.zeros(1, *checkpoint.input_shape)
    with torch.no_grad(), quantisers_off(made), quantisers_off(model):
        theirs, ours = tuple(made(image).shape[1:]), tuple(model(image).shape[1:])
    if theirs != ours:
        raise InputError(f"the float network answers with {list(theirs)}, the quantised model with {list(ours)}")
    equalised = any(
        stage["kept"] and stage["name"] == "equalisation" for stage in known.get("post_training", {}).get("stages", ())
    )
    if _calls(made) == _calls(model) and not equalised:
        return Reference(made, made, "float", ())
    why = "channels were equalised" if equalised else "its layers are others"
    return Reference(made, model, "float", (f"layers: against the model without its quantisers, as {why}",))


def _calls(model: fx.GraphModule) -> list[tuple[str, str, str]]:
    return [(node.name, node.op, str(node.target)) for node in model.graph.nodes]
