"""A quantised model as users hand it over."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastsnn_deploy.errors import InputError, wrong_type
from fastsnn_deploy.graph.images import image_shape
from fastsnn_deploy.quantisation.checkpoint import Checkpoint, load
from fastsnn_deploy.quantisation.images import require_quantised


def as_checkpoint(
    model: Any, input_shape: Sequence[int] | None = None, metadata: Mapping[str, Any] | None = None
) -> Checkpoint:
    """A quantised model, in whatever form it is given, with what is needed to use it.

    Args:
        model: What `prepare` made, a Checkpoint, or the path of one.
        input_shape: Of one raw image; may be left out if the model or the checkpoint knows it.
        metadata: Plain data, kept beside what the model knows already.

    Raises:
        InputError: it is no quantised model, or nobody says the shape of its images.
    """
    if metadata is not None and not isinstance(metadata, Mapping):
        raise wrong_type("metadata", metadata, "a dict of plain data")
    if isinstance(model, (str, os.PathLike)):
        model = load(Path(model))
    shape = None if input_shape is None else image_shape(input_shape)
    if isinstance(model, Checkpoint):
        shape, known = shape or model.input_shape, model.metadata
        return dataclasses.replace(model, input_shape=shape, metadata={**known, **(metadata or {})})
    require_quantised(model)
    meta = getattr(model, "meta", {})
    shape = shape or meta.get("input_shape")
    if shape is None:
        raise InputError("the model does not know its images yet. Say input_shape=(C, H, W), or (N,) for vectors")
    return Checkpoint(model, tuple(shape), {**meta.get("metadata", {}), **(metadata or {})})
