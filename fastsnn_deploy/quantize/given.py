"""A quantised model as users hand it over."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import fx

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.quantize.checkpoint import Checkpoint, load


def as_checkpoint(model: Any, input_shape: Sequence[int] | None = None) -> Checkpoint:
    """A quantised model, in whatever form it is given, with what is needed to use it.

    Args:
        model: What `prepare` made, a Checkpoint, or the path of one.
        input_shape: Of one raw image; may be left out if the model or the checkpoint knows it.

    Raises:
        InputError: it is no quantised model, or nobody says the shape of its images.
    """
    if isinstance(model, (str, Path)):
        model = load(model)
    if isinstance(model, Checkpoint):
        return model if input_shape is None else dataclasses.replace(model, input_shape=tuple(input_shape))
    if not isinstance(model, fx.GraphModule) and not hasattr(model, "parameters"):
        what = type(model).__name__
        raise InputError(f"got a {what}. Give a model of fd.prepare, a Checkpoint, or a file of fd.save")
    meta = getattr(model, "meta", {})
    shape = input_shape or meta.get("input_shape")
    if shape is None:
        raise InputError("the model has not seen an image. Say input_shape=(C, H, W), or (N,) for vectors")
    return Checkpoint(model, tuple(shape), meta.get("metadata", {}))
