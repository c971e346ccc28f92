"""`model.pt`: a quantised model as tensors and plain data, nothing that runs code when it is read.

The file holds the architecture itself (the list of calls and the constructor arguments of known modules), so that
it can be exported, verified and resumed without the program that made it.
"""

from __future__ import annotations

import io
import keyword
import operator
import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.errors import InputError, LoweringError, Problem, wrong_type
from fastsnn_deploy.files import ARCHIVE, existing_file, kind_of_file, write_file
from fastsnn_deploy.quantisation.capture import canonicalise
from fastsnn_deploy.quantisation.dry_run import require_passable
from fastsnn_deploy.quantisation.graph_edit import RESERVED_NAMES
from fastsnn_deploy.quantisation.known_modules import construct, describe, kind_of
from fastsnn_deploy.quantisation.layers import QuantActivation
from fastsnn_deploy.quantisation.packed import pack_weights, unpack_weights
from fastsnn_deploy.quantisation.plain_tensors import flaw
from fastsnn_deploy.quantisation.proof import require_shape
from fastsnn_deploy.quantisation.summary import module_rows, module_table
from fastsnn_deploy.reading import damaged, read_entries, reason_of
from fastsnn_deploy.tables import Result, Table, one_line, shape

FORMAT = "fastsnn-deploy checkpoint"
VERSION = 1
PACKED_VERSION = 2
"""With weights as integers: programs that know version 1 only must refuse it."""

_FUNCTIONS = {"add": operator.add, "cat": torch.cat}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATH = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


@dataclass(frozen=True)
class Checkpoint(Result):
    """A quantised model with what is needed to use it.

    input_shape: (C, H, W) or (N,) of one raw image. metadata: plain data about the network (data set, accuracy,
    recipe). training: optimiser state and progress for resuming; empty in a finished model.
    """

    model: fx.GraphModule
    input_shape: tuple[int, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        name = self.metadata.get("recipe") or self.metadata.get("data")
        return one_line(
            f"Checkpoint({f'{name}, ' if name else ''}{shape(self.input_shape)}, {parameters:,} parameters)"
        )

    def report(self) -> tuple[Table | str, ...]:
        """A table of the quantised modules."""
        return module_table(module_rows(self.model)), f"input: {shape(self.input_shape)}"

    def to_dict(self) -> dict[str, Any]:
        """Quantised modules, input shape and metadata as plain values, without weights."""
        return {
            "input_shape": list(self.input_shape),
            "layers": list(module_rows(self.model)),
            "metadata": dict(self.metadata),
        }


def save(checkpoint: Checkpoint, path: str | Path, again: bool = False, packed: bool = False) -> None:
    """Write a checkpoint, whole or not at all. again: as in `write_file`.

    packed: weights as the integers of their grid, at their bits. The network that is read back computes with the same
    integers and steps; what training had besides, the float weights between the integers, is gone. Layers of
    quantisers whose integers do not give themselves again are written in floating point.

    Raises LoweringError if the quantised model holds unsupported modules, InputError if metadata or training is not
    plain data, or the file cannot be written.
    """
    if not isinstance(packed, bool):
        raise wrong_type("packed", packed, "True or False")
    quantised = canonicalise(checkpoint.model)
    require_shape(quantised, checkpoint.input_shape)
    state, bits = pack_weights(quantised) if packed else (quantised.state_dict(), {})
    content = {
        "format": FORMAT,
        "version": PACKED_VERSION if bits else VERSION,
        "architecture": _architecture(quantised),
        "state": state,
        **({"bits": bits} if bits else {}),
        "input_shape": list(checkpoint.input_shape),
        "metadata": dict(checkpoint.metadata),
        "training": dict(checkpoint.training),
    }
    write_plain(content, path, again)


def _require_same_architecture(content: dict[str, Any]) -> None:
    """Raise ValueError if what a file would hold does not become the network that it was made from."""
    again = _restore(content, "cpu")
    if _architecture(again) != content["architecture"]:
        raise ValueError("the layers that are read are not those that were written")


def load(path: str | Path, device: str = "cpu") -> Checkpoint:
    """Read a checkpoint without executing anything from it.

    Raises InputError if the file is missing, damaged, of another kind or version, or holds pickled objects, and
    lists all layers with NaN or infinite values.
    """
    _require_no_other(path)
    content = read_plain(path, "checkpoint", device)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(
            f"{path}: is a PyTorch file, but not a checkpoint of fastsnn-deploy. Quantise the network with "
            "fd.prepare, train it, and save it with fd.save"
        )
    version = content.get("version")
    if type(version) is not int or version not in (VERSION, PACKED_VERSION):
        raise InputError(f"{path}: checkpoint version {version!s:.20}, this program reads up to {PACKED_VERSION}")
    with damaged(path, "checkpoint"):
        checkpoint = Checkpoint(
            model=_restore(content, device),
            input_shape=_shape(content["input_shape"]),
            metadata=dict(content["metadata"]),
            training=dict(content["training"]),
        )
    problems = [
        Problem(f"{path}: {name}", "holds NaN or infinity", "Train again with a smaller learning rate")
        for name, tensor in content["state"].items()
        if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]
    if problems:
        raise InputError(f"{path}: the checkpoint has unusable weights", problems)
    return checkpoint


def _require_no_other(path: str | Path) -> None:
    """Raise InputError for a whole network of another program, with the way to a quantised model."""
    from fastsnn_deploy.quantisation.sources import SOURCES, look_at  # each of them may load a checkpoint

    content = look_at(path)
    found = next((kind for kind in SOURCES if kind.whole and kind.holds(content)), None)
    if found is not None and kind_of_file(content.path) != "checkpoint":
        raise InputError(
            f"{content.path}: is {found.name}: a float network, not a quantised model. Load it with fd.load_model, "
            "then fd.prepare and fd.calibrate; or `fastsnn-deploy export` with --bits and --data"
        )


def read_plain(path: str | Path, what: str, device: str = "cpu") -> Any:
    """Content of a PyTorch file that holds tensors and plain data only.

    Raises InputError if the `what` is missing, damaged, or holds pickled objects.
    """
    path = existing_file(path, what)
    with path.open("rb") as file:
        packed = file.read(4) == ARCHIVE
    if packed:
        read_entries(path, what)
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        if "Weights only load failed" in str(error) and packed:
            found = re.search(r"GLOBAL (\S+)", str(error))
            what = f" ({found.group(1)})" if found else ""
            raise InputError(
                f"{path}: holds pickled Python objects{what}, which could run any code; refused. Load it in your own "
                "program and save it with fd.save"
            ) from error
        raise InputError(f"{path}: is not a PyTorch file or is damaged") from error
    except Exception as error:  # whatever damaged bytes may set off in the reader
        raise InputError(f"{path}: is not a PyTorch file or is damaged ({reason_of(error)})") from error


def write_plain(content: dict[str, Any], path: str | Path, again: bool = False) -> None:
    """Write what `read_plain` reads. Raises InputError naming each value that it could not read."""
    if problems := list(_not_plain(content, "")):
        raise InputError(f"{path}: only tensors and plain data can be saved", problems)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    written = buffer.getvalue()  # a getbuffer() left in a traceback crashes Python 3.12.1
    _require_read_back(content, written, path)
    write_file(path, written, again=again)


def _require_read_back(content: dict[str, Any], written: bytes, path: str | Path) -> None:
    """Raise InputError if the bytes do not hold the content, and for a checkpoint, the network."""
    try:
        again = torch.load(io.BytesIO(written), map_location="cpu", weights_only=True)
        if not _equal(content, again):
            raise ValueError("values differ")
        if again.get("format") == FORMAT:
            _require_same_architecture(again)
    except Exception as error:  # whatever reading may set off
        reason = str(error).split("\n")[0]
        raise InputError(f"{path}: cannot be written so that it reads back the same ({reason:.200})") from error


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        same = isinstance(second, Tensor) and first.dtype == second.dtype and first.shape == second.shape
        return same and bool(torch.equal(first.detach().cpu().nan_to_num(), second.nan_to_num()))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_equal(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(_equal, first, second))
    return bool(first == second or (first != first and second != second))


def _not_plain(value: Any, where: str) -> Iterator[Problem]:
    if isinstance(value, dict):  # an OrderedDict too
        for key, item in value.items():
            yield from _not_plain(key, where)
            yield from _not_plain(item, f"{where}.{key}" if where else str(key))
    elif type(value) in (list, tuple):
        for i, item in enumerate(value):
            yield from _not_plain(item, f"{where}[{i}]")
    elif type(value) not in (torch.Tensor, nn.Parameter, str, int, float, bool, type(None)):
        yield Problem(where, f"is a {type(value).__name__}", "Convert it to a number, string, list or dict")


def _architecture(quantised: fx.GraphModule) -> dict[str, Any]:
    nodes, modules = [], {}
    problems = []
    for node in quantised.graph.nodes:
        target = str(node.target)
        if node.op == "call_module":
            module = quantised.get_submodule(target)
            if kind_of(module) is None:
                fix = "Call fd.prepare first"
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
                "line": _without_folders(node.meta.get("line", "")),
            }
        )
    if problems:
        raise LoweringError("only quantised networks can be saved", problems)
    return {"nodes": nodes, "modules": modules, "tied": _tied(quantised)}


def _without_folders(line: str) -> str:
    """A source line with the file's last folder only: a checkpoint is passed on, and says nothing of its machine."""
    return "/".join(line.replace("\\", "/").rsplit("/", 2)[-2:])


def _operands(node: fx.Node) -> list[str]:
    arguments = node.args[0] if node.target is torch.cat else node.args
    return [arg.name for arg in arguments if isinstance(arg, fx.Node)]  # type: ignore[union-attr]


def _tied(quantised: nn.Module) -> list[list[str]]:
    """Groups of activations that share one step."""
    groups: dict[int, list[str]] = {}
    for name, module in quantised.named_modules():
        if isinstance(module, QuantActivation):
            groups.setdefault(id(module.learned), []).append(name)
    return sorted(sorted(names) for names in groups.values() if len(names) > 1)


def _restore(content: dict[str, Any], device: str) -> fx.GraphModule:
    """The quantised model with its weights. Memory is taken only after the file proved to hold weights of the same
    size."""
    architecture, state = content["architecture"], content["state"]
    with torch.device("meta"):
        quantised = _rebuild(architecture)
    if content["version"] == PACKED_VERSION:
        state = unpack_weights(quantised, state, content["bits"])
    wanted = quantised.state_dict()
    if wanted.keys() != state.keys():
        raise ValueError(f"weights are missing or unknown: {', '.join(sorted(wanted.keys() ^ state.keys())[:3])}")
    for name, tensor in state.items():
        expected = wanted[name]
        if (wrong := flaw(tensor)) is not None:
            raise ValueError(f"'{name}' {wrong}")
        if (tensor.shape, tensor.dtype) != (expected.shape, expected.dtype):
            raise ValueError(f"'{name}' is {tuple(tensor.shape)} {tensor.dtype}, not {tuple(expected.shape)}")
    require_passable(quantised, _shape(content["input_shape"]))
    quantised.to_empty(device=device)
    quantised.load_state_dict(state)
    for first, *rest in architecture["tied"]:
        for path in rest:
            _activation(quantised, path).share(_activation(quantised, first))
    return quantised


def _activation(quantised: fx.GraphModule, path: str) -> QuantActivation:
    module = quantised.get_submodule(path)
    if not isinstance(module, QuantActivation):
        raise ValueError(f"'{path}' has no step to share")
    return module


def _shape(sizes: list[int]) -> tuple[int, ...]:
    if not sizes or not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError(f"{sizes} is not the shape of an image")
    return tuple(sizes)


def _rebuild(architecture: dict[str, Any]) -> fx.GraphModule:
    """A GraphModule from plain data. Names and paths are checked: they end up in generated source code."""
    root = nn.Module()
    modules, entries = architecture["modules"], architecture["nodes"]
    for path, description in modules.items():
        _add_layer(root, path, construct(description))
    ops = [entry["op"] for entry in entries]
    if ops[:1] != ["placeholder"] or ops[-1:] != ["output"] or {"placeholder", "output"} & set(ops[1:-1]):
        raise ValueError("the network needs one input, first, and one output, last")
    graph = fx.Graph()
    made: dict[str, fx.Node] = {}
    for entry in entries:
        _check(_NAME, entry["name"])
        if entry["op"] == "call_module" and entry["target"] not in modules:
            raise ValueError(f"layer '{entry['target']}' is not described")
        node = _make_node(graph, entry, [made[name] for name in entry["operands"]])
        node.meta.update(module=str(entry["module"]), line=str(entry["line"]))
        made[entry["name"]] = node
    graph.lint()
    quantised = fx.GraphModule(root, graph, class_name="QuantisedModel")
    quantised.meta["canonical"] = True
    return quantised


def _add_layer(root: nn.Module, path: str, layer: nn.Module) -> None:
    _check(_PATH, path)
    *parents, last = path.split(".")
    if (parents or [last])[0] in RESERVED_NAMES:
        raise ValueError(f"'{path}' is not a legal name")
    parent = root
    for name in parents:
        if name not in parent._modules:
            parent.add_module(name, nn.Module())
        parent = parent.get_submodule(name)
        if type(parent) is not nn.Module:
            raise ValueError(f"'{path}' lies inside another layer")
    parent.add_module(last, layer)  # refuses names that nn.Module uses itself


def _make_node(graph: fx.Graph, entry: dict[str, Any], operands: list[fx.Node]) -> fx.Node:
    op, target, name = entry["op"], entry["target"], entry["name"]
    wanted = {"placeholder": 0, ("call_function", "add"): 2, ("call_function", "cat"): len(operands)}
    if len(operands) != wanted.get((op, target), wanted.get(op, 1)):
        raise ValueError(f"'{name}' has {len(operands)} operands")
    if op == "placeholder":
        _check(_NAME, target)
        return graph.create_node("placeholder", target, name=name)
    if op == "output":
        return graph.create_node("output", "output", (operands[0],), name="output")
    if op == "call_module":
        return graph.create_node("call_module", target, (operands[0],), name=name)
    if op == "call_function":
        arguments: tuple[Any, ...] = (tuple(operands), 1) if target == "cat" else tuple(operands)
        return graph.create_node("call_function", _FUNCTIONS[target], arguments, name=name)
    raise ValueError(f"operation '{op}' is not known")


def _check(pattern: re.Pattern[str], name: str) -> None:
    if not pattern.fullmatch(name) or keyword.iskeyword(name) or name == "self":
        raise ValueError(f"'{name}' is not a legal name")
