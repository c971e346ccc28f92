"""Networks in files of other programs, and our own, as `nn.Module`: one file a kind, known by content."""

from __future__ import annotations

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.quantisation.sources import (  # noqa: F401  each registers its kind
    exported,
    onnx,
    onnx_maps,
    onnx_quantisers,
    onnx_rules,
    ours,
    torchscript,
    weights,
)
from fastsnn_deploy.quantisation.sources.base import SOURCES as SOURCES
from fastsnn_deploy.quantisation.sources.base import Content, Source
from fastsnn_deploy.quantisation.sources.base import Loaded as Loaded
from fastsnn_deploy.quantisation.sources.base import Request as Request
from fastsnn_deploy.quantisation.sources.base import look_at as look_at
from fastsnn_deploy.reading import damaged

NOT_READ = {
    b"\x89HDF": "an HDF5 file. A network of Keras can be saved as ONNX (tf2onnx)",
    b"TFL3": "a TensorFlow Lite file. Save the network as ONNX",
}
"""What is known and not read, by bytes near the start of the file."""


def read_source(request: Request) -> Loaded:
    """The network in a file. Raises InputError for what is no network, damaged, or not safe to read."""
    content = look_at(request.path)
    kind = kind_of(content)
    if kind.whole and request.model is not None:
        raise InputError(f"{request.path}: is {kind.name} and holds its network itself. Leave out --model")
    if kind.whole and request.key is not None:
        raise InputError(f"{request.path}: is {kind.name}, which has no keys to choose from. Leave out --key")
    with damaged(request.path, "file"):
        loaded = kind.read(request)
    return Loaded(loaded.model, loaded.kind or kind.name, loaded.notes)


def kind_of(content: Content) -> Source:
    """The kind of a file. Raises InputError, naming what is read, if it is none of them."""
    found = next((kind for kind in SOURCES if kind.holds(content)), None)
    if found is None:
        known = next(
            (what for mark, what in NOT_READ.items() if mark in content.start[:16]), "no network that is known"
        )
        raise InputError(f"{content.path}: is {known}. Give {', '.join(kind.name for kind in SOURCES)}")
    return found
