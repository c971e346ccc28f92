"""Graphs of aten operations as plain modules that take any batch: what .pt2 and TorchScript files have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.errors import InputError

NAME = re.compile(r"[\w.\- ]+")

SHAPED = ("view", "reshape", "_unsafe_view", "expand")
"""Operations whose sizes hold the batch that a program was made with."""


def plain_module(root: nn.Module, graph: fx.Graph, shape: tuple[int, ...] | None) -> fx.GraphModule:
    """A graph with its parameters as a module in evaluation mode that knows the shape of its images."""
    module = fx.GraphModule(root, graph, class_name="Program").eval()
    for name, child in root.named_children():  # with their classes, which fx does not copy
        module.add_module(name, child)
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()
    if shape is not None:
        module.meta["input_shape"] = shape
    return module


def without_guards(graph: fx.Graph) -> None:
    """Leave out what checks the inputs of an exported program."""
    for node in list(graph.nodes):
        if node.op == "call_module" and not node.users:
            graph.erase_node(node)


def free_batch(graph: fx.Graph, batch: int) -> bool:
    """Let sizes that are this batch be any; True if there were some. Nodes have their values in meta["val"]."""
    changed = False
    for node in graph.nodes:
        name = getattr(getattr(node.target, "_schema", None), "name", "").removeprefix("aten::")
        if node.op != "call_function" or name not in SHAPED:
            continue
        before, after = shape_of(node.args[0]), shape_of(node)
        if before and after and before[0] == after[0] == batch:
            node.args = (node.args[0], [-1, *after[1:]])
            changed = True
    return changed


def shape_of(node: object) -> tuple[int, ...]:
    """The shape of a value, () if it is none or not made of numbers."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    shape = tuple(value.shape) if isinstance(value, Tensor) else ()
    return shape if all(type(size) is int for size in shape) else ()


def require_equal(ours: nn.Module, theirs: nn.Module, image: Tensor, path: object) -> None:
    """Raise InputError unless the module answers exactly as the program that was read. image: [N, *shape]."""
    with torch.no_grad():
        mine, wanted = ours(image), theirs(image)
    wanted = wanted[0] if isinstance(wanted, (tuple, list)) else wanted
    mine = mine[0] if isinstance(mine, (tuple, list)) else mine
    if not isinstance(wanted, Tensor) or not torch.equal(mine, wanted):
        raise InputError(f"{path}: does not compute the same when its batch is free. Export it with a dynamic batch")


def rooted(graph: fx.Graph, held: nn.Module, kinds: Mapping[str, str]) -> nn.Module:
    """A module with what a graph reads of `held`, in submodules that have the names of the user's classes.

    kinds: the class of each of the user's modules by path, as "torch.nn.modules.conv.Conv2d".
    """
    root = nn.Module()
    for path in kinds:
        _place(root, path.split("."), kinds)
    for target in dict.fromkeys(str(node.target) for node in graph.nodes if node.op == "get_attr"):
        put(root, target, _attribute(held, target), kinds)
    return root


def put(root: nn.Module, target: str, tensor: Tensor, kinds: Mapping[str, str] | None = None) -> None:
    """Keep a tensor under a dotted name; the modules between come into being."""
    if not NAME.fullmatch(target):
        raise InputError(f"{target!r:.60} is no name of a parameter, and would end up in source code")
    *parents, last = target.split(".")
    place = _place(root, parents, kinds or {})
    if isinstance(tensor, nn.Parameter):
        place.register_parameter(last, tensor)
    else:
        place.register_buffer(last, tensor)


def _place(root: nn.Module, path: Sequence[str], kinds: Mapping[str, str]) -> nn.Module:
    place = root
    for depth, part in enumerate(path, 1):
        if part not in place._modules:
            home, _, name = kinds.get(".".join(path[:depth]), "torch.nn.Module").rpartition(".")
            place.add_module(part, type(name, (nn.Module,), {"__module__": home})())
        place = place.get_submodule(part)
    return place


def _attribute(held: nn.Module, target: str) -> Tensor:
    *parents, last = target.split(".")
    return cast(Tensor, getattr(held.get_submodule(".".join(parents)), last))
