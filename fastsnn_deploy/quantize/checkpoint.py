"""`model.pt`: a twin as tensors and plain data, nothing that runs code when it is read.

The file holds the architecture itself (the list of calls and the constructor arguments of known modules), so that
it can be exported, verified and resumed without the program that made it.
"""

from __future__ import annotations

import keyword
import operator
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from fastsnn_deploy.errors import InputError, LoweringError, Problem
from fastsnn_deploy.files import atomic_path, existing_file
from fastsnn_deploy.quantize.canonical import canonicalise
from fastsnn_deploy.quantize.known_modules import construct, describe, kind_of
from fastsnn_deploy.quantize.layers import QuantActivation

FORMAT = "fastsnn-deploy checkpoint"
VERSION = 1

_FUNCTIONS = {"add": operator.add, "cat": torch.cat}
_PATH = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


@dataclass(frozen=True)
class Checkpoint:
    """A twin with what is needed to use it.

    input_shape: (C, H, W) or (N,) of one raw image. metadata: plain data about the network (data set, accuracy,
    recipe). training: optimiser state and progress for resuming; empty in a finished model.
    """

    twin: fx.GraphModule
    input_shape: tuple[int, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


def save(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write atomically. Raises LoweringError if the twin holds unsupported modules."""
    twin = canonicalise(checkpoint.twin)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "architecture": _architecture(twin),
        "state": twin.state_dict(),
        "input_shape": list(checkpoint.input_shape),
        "metadata": dict(checkpoint.metadata),
        "training": dict(checkpoint.training),
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        torch.save(content, file)


def load(path: str | Path, device: str = "cpu") -> Checkpoint:
    """Read a checkpoint without executing anything from it.

    Raises InputError if the file is missing, damaged, of another kind or version, or holds pickled objects, and
    lists all layers with NaN or infinite values.
    """
    content = read_plain(path, "checkpoint", device)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(
            f"{path}: is a PyTorch file, but not a checkpoint of fastsnn-deploy. Quantise the network with "
            "fastsnn_deploy.quantize.prepare, train it, and save it with fastsnn_deploy.quantize.save"
        )
    if content.get("version") != VERSION:
        raise InputError(f"{path}: checkpoint version {content.get('version')}, this program reads {VERSION}")
    try:
        twin = _rebuild(content["architecture"])
        twin.load_state_dict(content["state"])
        checkpoint = Checkpoint(
            twin=twin,
            input_shape=tuple(int(size) for size in content["input_shape"]),
            metadata=dict(content["metadata"]),
            training=dict(content["training"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"{path}: the checkpoint is damaged ({type(error).__name__}: {reason})") from error
    problems = [
        Problem(f"{path}: {name}", "holds NaN or infinity", "Train again with a smaller learning rate")
        for name, tensor in content["state"].items()
        if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]
    if problems:
        raise InputError(f"{path}: the checkpoint has unusable weights", problems)
    return checkpoint


def read_plain(path: str | Path, what: str, device: str = "cpu") -> Any:
    """Content of a PyTorch file that holds tensors and plain data only.

    Raises InputError if the `what` is missing, damaged, or holds pickled objects.
    """
    path = existing_file(path, what)
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        if "Weights only load failed" in str(error) and zipfile.is_zipfile(path):
            found = re.search(r"GLOBAL (\S+)", str(error))
            what = f" ({found.group(1)})" if found else ""
            raise InputError(
                f"{path}: holds pickled Python objects{what}, which could run any code; refused. Load it in your own "
                "program and save it with fastsnn_deploy.quantize.save"
            ) from error
        raise InputError(f"{path}: is not a PyTorch file or is damaged") from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is not a PyTorch file or is damaged ({str(error).split(chr(10))[0]})") from error


def _architecture(twin: fx.GraphModule) -> dict[str, Any]:
    nodes, modules = [], {}
    problems = []
    for node in twin.graph.nodes:
        target = str(node.target)
        if node.op == "call_module":
            module = twin.get_submodule(target)
            if kind_of(module) is None:
                fix = "Call fastsnn_deploy.quantize.prepare first"
                problems.append(Problem(target, f"{type(module).__name__} is not quantised", fix))
                continue
            modules[target] = describe(module)
        elif node.op == "call_function":
            target = next(name for name, function in _FUNCTIONS.items() if function is node.target)
        nodes.append(
            {
                "name": node.name,
                "op": node.op,
                "target": target,
                "inputs": [source.name for source in node.all_input_nodes],
                # x + x has one input node but two operands
                "operands": _operands(node),
                "module": node.meta.get("module", ""),
                "line": node.meta.get("line", ""),
            }
        )
    if problems:
        raise LoweringError("only quantised networks can be saved", problems)
    return {"nodes": nodes, "modules": modules, "tied": _tied(twin)}


def _operands(node: fx.Node) -> list[str]:
    arguments = node.args[0] if node.target is torch.cat else node.args
    return [arg.name for arg in arguments if isinstance(arg, fx.Node)]  # type: ignore[union-attr]


def _tied(twin: nn.Module) -> list[list[str]]:
    """Groups of activations that share one step."""
    groups: dict[int, list[str]] = {}
    for name, module in twin.named_modules():
        if isinstance(module, QuantActivation):
            groups.setdefault(id(module.step), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _rebuild(architecture: dict[str, Any]) -> fx.GraphModule:
    """A GraphModule from plain data. Names and paths are checked: they end up in generated source code."""
    root = nn.Module()
    for path, description in architecture["modules"].items():
        _check_name(path, path=True)
        parent = root
        *parents, last = path.split(".")
        for name in parents:
            if not hasattr(parent, name):
                parent.add_module(name, nn.Module())
            parent = parent.get_submodule(name)
        parent.add_module(last, construct(description))
    graph = fx.Graph()
    made: dict[str, fx.Node] = {}
    for entry in architecture["nodes"]:
        _check_name(entry["name"])
        node = _make_node(graph, entry, [made[name] for name in entry["operands"]])
        node.meta.update(module=str(entry["module"]), line=str(entry["line"]))
        made[entry["name"]] = node
    for first, *rest in architecture["tied"]:
        shared = root.get_submodule(first).step
        for path in rest:
            root.get_submodule(path).step = shared
    graph.lint()
    twin = fx.GraphModule(root, graph, class_name="Twin")
    twin.meta["canonical"] = True
    return twin


def _make_node(graph: fx.Graph, entry: dict[str, Any], operands: list[fx.Node]) -> fx.Node:
    op, target, name = entry["op"], entry["target"], entry["name"]
    if op == "placeholder":
        _check_name(target)
        return graph.create_node("placeholder", target, name=name)
    if op == "output":
        return graph.create_node("output", "output", (operands[0],), name="output")
    if op == "call_module":
        _check_name(target, path=True)
        return graph.create_node("call_module", target, (operands[0],), name=name)
    if op == "call_function":
        arguments: tuple[Any, ...] = (tuple(operands), 1) if target == "cat" else tuple(operands)
        return graph.create_node("call_function", _FUNCTIONS[target], arguments, name=name)
    raise ValueError(f"operation '{op}' is not known")


def _check_name(name: str, path: bool = False) -> None:
    if path and _PATH.fullmatch(name):
        return
    if not path and name.isidentifier() and not keyword.iskeyword(name):
        return
    raise ValueError(f"'{name}' is not a legal name")
