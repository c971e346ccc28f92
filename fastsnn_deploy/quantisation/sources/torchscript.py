"""TorchScript (torch.jit.save), traced or scripted."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.quantisation.capture import SIZES
from fastsnn_deploy.quantisation.moved import BATCH
from fastsnn_deploy.quantisation.programs import free_batch, plain_module, put, require_equal, rooted
from fastsnn_deploy.quantisation.sources.base import Content, Loaded, Request, source

FORBIDDEN = ("aten::save", "aten::load", "aten::from_file", "prim::PythonOp", "aten::warn_file")
"""What reads or writes files, or is Python."""

HOW = "Export it with torch.export from the network in Python, or give --input-shape (input_shape=...)"


def _is_script(content: Content) -> bool:
    return content.holds("code/") and content.holds("constants.pkl")


@source("TorchScript", _is_script)
def _read(request: Request) -> Loaded:
    path = request.path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            script = torch.jit.load(str(path), map_location="cpu").eval().float()  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever damaged content may set off in the reader
        reason = [line for line in str(error).split("\n") if line.strip()]
        raise InputError(f"{path}: is damaged TorchScript ({(reason or ['?'])[0]:.200}). Save it again") from error
    _require_harmless(script, path)
    shape = _shape(script, request)
    graph = _traced(script, shape, path)
    module = plain_module(_renamed(script, graph), graph.graph, shape)
    generator = torch.Generator().manual_seed(0)
    require_equal(module, script, torch.randn(BATCH, *shape, generator=generator), path)
    return Loaded(module)


def _require_harmless(script: Any, path: Path) -> None:
    kinds = sorted({kind for kind in _kinds(script.inlined_graph) if not _harmless(kind)})
    if kinds:
        problems = [Problem(kind, "reads or writes files, or is no operation of torch") for kind in kinds]
        raise InputError(f"{path}: holds operations that are not run here", problems)


def _harmless(kind: str) -> bool:
    return kind.startswith(("aten::", "prim::")) and kind not in FORBIDDEN


def _kinds(block: Any) -> Iterator[str]:
    for node in block.nodes():
        yield node.kind()
        for inner in node.blocks():
            yield from _kinds(inner)


def _shape(script: nn.Module, request: Request) -> tuple[int, ...]:
    """The shape of one image: given, or the first usual one that passes."""
    given = request.input_shape
    reason = ""
    for shape in [tuple(given)] if given is not None else _usual(script):
        try:
            with torch.no_grad():
                script(torch.zeros(BATCH, *shape))
        except Exception as error:  # the program of the file runs here: anything can be raised
            reason = str(error).strip().splitlines()[-1]
            continue
        return shape
    raise InputError(f"{request.path}: no image of a usual shape passes through the TorchScript ({reason:.200}). {HOW}")


def _usual(script: nn.Module) -> Iterator[tuple[int, ...]]:
    weight = next((p for p in script.parameters() if p.dim() in (2, 4)), None)
    if weight is not None and weight.dim() == 2:
        features = weight.shape[1]
        size = round(features**0.5)
        yield (features,)
        yield (1, size, size)
    for channels in (weight.shape[1],) if weight is not None and weight.dim() == 4 else (3, 1):
        yield from ((channels, size, size) for size in SIZES)


def _traced(script: nn.Module, shape: tuple[int, ...], path: Path) -> fx.GraphModule:
    """The operations that an image meets, as aten's."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = make_fx(script, pre_dispatch=True)(torch.zeros(BATCH, *shape))
    except Exception as error:  # the program of the file runs here: anything can be raised
        reason = str(error).split("\n")[0]
        raise InputError(f"{path}: this TorchScript cannot be followed ({reason:.200}). {HOW}") from error
    free_batch(graph.graph, BATCH)
    return graph


def _renamed(script: nn.Module, graph: fx.GraphModule) -> nn.Module:
    """A module with the parameters under the names of the file, which also name the layers that read them."""
    held = {**dict(script.named_parameters()), **dict(script.named_buffers())}
    names = {(tensor.data_ptr(), tuple(tensor.shape)): name for name, tensor in held.items()}
    read = nn.Module()
    for node in graph.graph.nodes:
        if node.op != "get_attr":
            continue
        tensor = getattr(graph, str(node.target))
        name = names.get((tensor.data_ptr(), tuple(tensor.shape)), str(node.target))
        node.target = name
        put(read, name, held.get(name, tensor))
        for user in node.users:
            _name_layer(user, name.rpartition(".")[0])
    kinds = {path: _class(module) for path, module in script.named_modules() if path}
    return rooted(graph.graph, read, kinds)


def _class(module: nn.Module) -> str:
    name = str(getattr(module, "original_name", "Module"))
    return f"torch.nn.modules.{name}" if hasattr(nn, name) else f"torchscript.{name}"


def _name_layer(node: fx.Node, path: str) -> None:
    """Say whose operation a node is, as torch.export notes it."""
    if path and "nn_module_stack" not in node.meta:
        node.meta["nn_module_stack"] = {"L__self__": ("", "Program"), f"L__self__{path}": (path, "torch.nn.Module")}
