"""A quantised model as users hand it over, and in their files: `fd.save`, `fd.load`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import fx, nn

from fastsnn_deploy.errors import InputError, wrong_type
from fastsnn_deploy.graph.images import image_shape
from fastsnn_deploy.quantisation.checkpoint import Checkpoint
from fastsnn_deploy.quantisation.checkpoint import load as read_checkpoint
from fastsnn_deploy.quantisation.checkpoint import save as write_checkpoint
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
        model = read_checkpoint(Path(model))
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


def save(
    model: nn.Module | Checkpoint,
    path: str | Path,
    *,
    input_shape: Sequence[int] | None = None,
    metadata: Mapping[str, Any] | None = None,
    packed: bool = False,
) -> None:
    """Write a quantised model as tensors and plain data, no pickle.

    Args:
        model: What `prepare` made, or a Checkpoint.
        path: The file; it is complete, or not there.
        input_shape: As in `convert`.
        metadata: Plain data about the model, kept beside what it knows already.
        packed: Weights as the integers that the chip gets, at their bits: an eighth of the size with 4 bits. What is
            read back converts to the same graph; the float weights between them, which training moves, are gone.

    Raises:
        InputError: the file cannot be written, or metadata is not plain data.
    """
    write_checkpoint(as_checkpoint(model, input_shape, metadata), path, packed=packed)


def load(path: str | Path) -> fx.GraphModule:
    """Read a quantised model that `save` or `train` wrote; nothing in the file is executed.

    Args:
        path: The checkpoint.

    Returns:
        The module; `model.meta["input_shape"]` and `model.meta["metadata"]` are what the file says of it.

    Raises:
        InputError: a missing, damaged or foreign file.
    """
    checkpoint = read_checkpoint(path)
    checkpoint.model.meta.update(input_shape=checkpoint.input_shape, metadata=dict(checkpoint.metadata))
    return checkpoint.model
