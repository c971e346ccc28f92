"""A torch.export program (.pt2).

torch's own reader unpickles, loads compiled libraries and evaluates text of the file as Python. So the file is looked
through first, and only one that holds none of this is handed to it.
"""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.quantisation.fixed.programs import holds_quantisers, with_modules
from fastsnn_deploy.quantisation.programs import free_batch, plain_module, require_equal, rooted, without_guards
from fastsnn_deploy.quantisation.sources.base import Content, Loaded, Request, source

ENTRIES = re.compile(
    r"models/[\w.]+\.json|data/(weights|constants)/(\w+_config\.json|(weight|tensor)_\d+)|data/sample_inputs/[\w.]+\.pt"
    r"|\.?data/(version|serialization_id)|archive_format|archive_version|byteorder|version|extra/.*"
)
"""What a program without pickles and libraries consists of."""

TARGETS = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed)\.\w+\.\w+|_operator\.\w+|math\.\w+|torch\.sym_\w+|torch\._assert\w*"
)
NAMES = re.compile(r"[\w.]*")
EXPRESSIONS = re.compile(
    r"('?\b[suz]+\d+\b'?|\b(Symbol|Integer|Rational|Add|Mul|Pow|Max|Min|FloorDiv|Mod|PythonMod|CleanDiv|CeilDiv|int_oo|oo"
    r"|Eq|Ne|Le|Lt|Ge|Gt|True|False|positive|nonnegative|integer)\b|[\d\s+*/(),.<>=-])*"
)
PATHS = re.compile(r"[\w.\- ]*")
CHECKED = {"target": TARGETS, "name": NAMES, "expr_str": EXPRESSIONS} | dict.fromkeys(
    ("parameter_name", "buffer_name", "tensor_constant_name", "custom_obj_name"), PATHS
)
"""Texts of a program that end up in Python's source, and what they may be."""

QUANTISERS = "torch.ao.quantization.fx._decomposed"
"""What registers the operations of PT2E."""

IMPORTS = "default_factory"
"""What makes the reader of torch's trees import a module that the file names."""


def _is_program(content: Content) -> bool:
    return content.holds("models/", "serialized_exported_program")


@source("a torch.export program (.pt2)", _is_program)
def _read(request: Request) -> Loaded:
    path = request.path
    _require_safe(path)
    program = _program(path)
    graph_module = _flat(program)
    placeholders = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
    shape = next((tuple(node.meta["val"].shape) for node in placeholders if hasattr(node.meta.get("val"), "shape")), ())
    image = tuple(shape[1:]) if all(type(size) is int for size in shape[1:]) and len(shape) > 1 else None
    freed = bool(shape) and type(shape[0]) is int and free_batch(graph_module.graph, shape[0])
    kinds = {path: kind for node in graph_module.graph.nodes for path, kind in _stack(node)}
    module = plain_module(rooted(graph_module.graph, graph_module, kinds), graph_module.graph, image)
    if freed and image is not None:
        generator = torch.Generator().manual_seed(0)
        require_equal(module, program.module(check_guards=False), torch.randn(shape, generator=generator), path)
    return Loaded(with_modules(module) if holds_quantisers(module) else module)


def _program(path: Path) -> ExportedProgram:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if registers := find_spec(QUANTISERS):  # operations that programs of PT2E call
                import_module(registers.name)
            program = torch.export.load(io.BytesIO(path.read_bytes()))
    except Exception as error:  # whatever damaged content may set off in the reader
        reason = (str(error) or type(error).__name__).split("\n")[0]
        raise InputError(
            f"{path}: cannot be read as a torch.export program ({reason:.200}). Save it again with "
            f"torch.export.save of torch {torch.__version__.split('+')[0]}"
        ) from error
    if any(node.kwargs.get("training") is True or _trains(node) for node in program.graph.nodes):
        raise InputError(
            f"{path}: was exported in training mode. Call model.eval() before torch.export.export, and save it again"
        )
    return program


def _trains(node: fx.Node) -> bool:
    """Whether a batch norm normalises with the statistics of the batch."""
    name = str(node.target)
    return name.startswith("aten.batch_norm") and len(node.args) > 5 and node.args[5] is True


def _flat(program: ExportedProgram) -> fx.GraphModule:
    """The program as a module that takes tensors and gives tensors, without checks of its inputs."""
    module = program.module(check_guards=False)
    graph = module.graph
    graph.set_codegen(fx.graph.CodeGen())
    without_guards(graph)
    output = next(node for node in graph.nodes if node.op == "output")
    if program.call_spec.out_spec is not None and program.call_spec.out_spec.is_leaf():
        output.args = (output.args[0][0],)
    return module


def _stack(node: fx.Node) -> Iterator[tuple[str, str]]:
    """(path, class) of the user's modules around an operation."""
    for path, kind in (node.meta.get("nn_module_stack") or {}).values():
        if path:
            yield str(path), str(kind)


# looking through the file


def _require_safe(path: Path) -> None:
    """Raise InputError naming everything in a program that reading it would run."""
    try:
        with zipfile.ZipFile(path) as archive:
            problems = [*_unsafe(archive)]
    except (zipfile.BadZipFile, OSError, ValueError, RecursionError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{path}: is a damaged torch.export program ({error}). Save it again") from error
    if problems:
        raise InputError(f"{path}: holds what could run any code; refused", list(dict.fromkeys(problems)))


def _unsafe(archive: zipfile.ZipFile) -> Iterator[Problem]:
    for entry in archive.namelist():
        name = entry.partition("/")[2]
        if not ENTRIES.fullmatch(name):
            fix = "Save weights and program with torch.export.save of this torch, without compiled code"
            yield Problem(entry, "is a pickle, a library, or unknown", fix)
        elif name.endswith(".json"):
            yield from _unsafe_values(entry, json.loads(archive.read(entry)))
        elif name.endswith(".pt"):
            try:
                torch.load(io.BytesIO(archive.read(entry)), weights_only=True)
            except Exception:  # whatever refused or damaged bytes set off
                yield Problem(entry, "holds pickled objects", "Export with tensors as example inputs")


def _unsafe_values(where: str, value: Any, key: str = "") -> Iterator[Problem]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _unsafe_values(where, item, name)
        if value.get("use_pickle") is True:
            yield Problem(where, f"keeps {value.get('path_name')} as a pickle", "Save plain tensors")
    elif isinstance(value, list):
        for item in value:
            yield from _unsafe_values(where, item, key)
    elif isinstance(value, str) and IMPORTS in value:
        yield Problem(where, "names a function to import", "Take and return tensors only")
    elif isinstance(value, str) and key in CHECKED and not CHECKED[key].fullmatch(value):
        yield Problem(where, f"has the {key} {value!r:.60}, which is no operation of torch", "Use operations of aten")
