"""Small steps on a captured graph: new modules at call sites, legal names, problems with their place."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable
from pathlib import Path

from torch import fx, nn

from fastsnn_deploy.errors import Problem

_HERE = str(Path(__file__).parent)

FLOAT_MODULES = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.ReLU, nn.ReLU6, nn.Hardtanh)
"""Modules that `prepare` replaces by quantised ones; legal in a float network, not in a quantised model."""

_RECTIFIERS = ("GELU", "SiLU", "Hardswish", "LeakyReLU", "ELU", "PReLU", "Mish", "Softplus", "SELU", "CELU", "RReLU")
_RECTIFIER = "Use ReLU: replace_activations='relu' does it, then fine-tune"
_GATE = "Use ReLU, or leave it out where it only makes probabilities"
_NORM = "Use BatchNorm2d, which folds into thresholds"
_LARGEST = "Remove it: the largest logit stays the largest"
_ATTENTION = "Attention has no exact integrate-and-fire form"
_RECURRENT = "Recurrent networks need not settle"
_PRODUCT = "Products of two activations have no exact spiking form; fold constants into weights"

ADVICE = {
    **dict.fromkeys((*_RECTIFIERS, *map(str.lower, _RECTIFIERS), "leaky_relu"), _RECTIFIER),
    **dict.fromkeys(("Sigmoid", "Tanh", "Hardsigmoid", "sigmoid", "tanh", "hardsigmoid"), _GATE),
    **dict.fromkeys(("Softmax", "LogSoftmax", "softmax", "log_softmax"), _LARGEST),
    **dict.fromkeys(("LayerNorm", "GroupNorm", "InstanceNorm2d", "layer_norm", "group_norm", "instance_norm"), _NORM),
    **dict.fromkeys(("MultiheadAttention", "scaled_dot_product_attention", "bmm"), _ATTENTION),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _RECURRENT),
    **dict.fromkeys(("mul", "einsum"), _PRODUCT),
    "LocalResponseNorm": "Remove it",
    "hardtanh": "Use ReLU",
}  # fmt: skip


class UnsupportedError(Exception):
    """A place that has no spiking form; becomes a Problem with its layer and line."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.fix = fix


RESERVED_NAMES = frozenset(dir(fx.GraphModule(nn.Module(), fx.Graph())))
"""Names that no layer at the top of a network may have: a GraphModule uses them itself."""


def legal_name(name: str) -> str:
    """A name for one attribute of generated source code, like `name`: "conv-1" becomes "conv_1", "class" "class_"."""
    legal = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return legal + "_" if keyword.iskeyword(legal) or legal in RESERVED_NAMES or legal == "self" else legal


def source_line(stack_trace: str | None) -> str:
    """file:line of the innermost frame that is neither torch's nor this package's, "" if there is none."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', stack_trace or "")
    own = [f for f in frames if "/torch/" not in f[0] and not f[0].startswith(("torch/", _HERE))]
    return f"{own[-1][0]}:{own[-1][1]}" if own else ""


def grouped(problems: Iterable[Problem]) -> list[Problem]:
    """One problem a cause: places that differ only in their sizes become one, which names the first of them.

    Example:
        >>> print(*grouped([Problem("a (net.py:7)", "pools 3 rows"), Problem("b (net.py:9)", "pools 5 rows")]))
        2 places, first a (net.py:7): pools 3 rows
    """
    causes: dict[tuple[str, str], list[Problem]] = {}
    for problem in dict.fromkeys(problems):
        causes.setdefault((re.sub(r"[\d., ]+", "#", problem.what), problem.fix), []).append(problem)
    found = []
    for first, *others in causes.values():
        where = f"{len(others) + 1} places, first {first.where}" if others else first.where
        found.append(Problem(where, first.what, first.fix))
    return found


def problem_at(node: fx.Node, what: str, fix: str = "") -> Problem:
    """A Problem that names the node's module path and source line."""
    path = node.meta.get("module") or node.name
    line = node.meta.get("line")
    return Problem(f"{path} ({line})" if line else path, what, fix)


def add_module(module: fx.GraphModule, node: fx.Node, new: nn.Module) -> str:
    """Register `new` at the root under a free name made from the node's name; return the name."""
    name, i = f"{node.name}_{type(new).__name__.lower()}", 1
    while hasattr(module, name):
        name, i = f"{node.name}_{type(new).__name__.lower()}_{i}", i + 1
    module.add_submodule(name, new.train(module.training))
    return name


def insert_after(module: fx.GraphModule, node: fx.Node, new: nn.Module, name: str = "") -> fx.Node:
    """Put `new` behind `node` for all its present users, under `name` if that is free."""
    path = name if name and not hasattr(module, name) else add_module(module, node, new)
    module.add_submodule(path, new.train(module.training))
    with module.graph.inserting_after(node):
        inserted = module.graph.call_module(path, (node,))
    inserted.meta.update(module=node.meta.get("module", ""), line=node.meta.get("line", ""))
    node.replace_all_uses_with(inserted, delete_user_cb=lambda user: user is not inserted)
    return inserted


def compiled(quantised: fx.GraphModule) -> None:
    """Make a graph that was changed a module again."""
    quantised.graph.lint()
    quantised.recompile()
    quantised.delete_all_unused_submodules()
