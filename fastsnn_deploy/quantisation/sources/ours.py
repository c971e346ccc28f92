"""Our own checkpoint: a quantised model."""

from __future__ import annotations

from fastsnn_deploy.files import kind_of_file
from fastsnn_deploy.quantisation.checkpoint import load
from fastsnn_deploy.quantisation.sources.base import Content, Loaded, Request, source


def _is_ours(content: Content) -> bool:
    return kind_of_file(content.path) == "checkpoint"


@source("a checkpoint of fastsnn-deploy", _is_ours)
def _read(request: Request) -> Loaded:
    checkpoint = load(request.path)
    checkpoint.model.meta.update(input_shape=checkpoint.input_shape, metadata=dict(checkpoint.metadata))
    return Loaded(checkpoint.model, "a quantised model")
