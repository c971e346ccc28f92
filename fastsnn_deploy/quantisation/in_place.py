"""What a torch.export program writes in place, and the program without that."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind


def name_of(node: fx.Node) -> str:
    """Name of an operation in aten, without namespace and overload."""
    schema = getattr(node.target, "_schema", None)
    return schema.name.split("::")[-1] if schema is not None else getattr(node.target, "__name__", str(node.target))


def writes(node: fx.Node) -> bool:
    """True for an operation that changes its first argument."""
    schema = getattr(node.target, "_schema", None)
    return node.op == "call_function" and schema is not None and schema.is_mutable and name_of(node) != "detach_"


def live(graph: fx.Graph) -> set[fx.Node]:
    """Nodes that the output depends on, through results and through what is written in place."""
    writers: dict[fx.Node, list[fx.Node]] = {}
    for node in graph.nodes:
        if writes(node) and isinstance(node.args[0], fx.Node):
            writers.setdefault(node.args[0], []).append(node)
    output = next(node for node in graph.nodes if node.op == "output")
    found: set[fx.Node] = set()
    waiting = list(output.all_input_nodes)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += [*node.all_input_nodes, *(w for w in writers.get(node, ()))]
    return found


class _Aliases(fx.Interpreter):
    """Runs a program with real tensors and notes where each lies in memory."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.places: dict[fx.Node, tuple[Any, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.places[n] = (
                result.untyped_storage().data_ptr(), tuple(result.shape), result.stride(), result.storage_offset(),
            )  # fmt: skip
        return result


def functional(program: ExportedProgram) -> tuple[ExportedProgram, dict[fx.Node, list[fx.Node]]]:
    """The program, and for each operation in place the values that it changes.

    Where one of them is a part of another (a slice, a transpose), torch.export's own form without operations in
    place is taken; it has forgotten dropout, which does nothing in evaluation.
    """
    writers = [node for node in program.graph.nodes if writes(node)]
    if not writers:
        return program, {}
    signature = program.graph_signature
    inputs: list[Any] = []
    for spec in signature.input_specs:
        if spec.kind is InputKind.USER_INPUT:
            inputs.append(None)
        else:
            tensor = program.state_dict.get(str(spec.target), program.constants.get(str(spec.target)))
            inputs.append(tensor.detach().clone() if isinstance(tensor, Tensor) else tensor)
    examples = iter(torch.utils._pytree.tree_leaves(program.example_inputs))
    inputs = [next(examples) if spec.kind is InputKind.USER_INPUT else value
              for spec, value in zip(signature.input_specs, inputs, strict=True)]  # fmt: skip
    run = _Aliases(program.graph_module)
    with torch.no_grad():
        run.run(*[value.clone() if isinstance(value, Tensor) else value for value in inputs])
    groups: dict[fx.Node, list[fx.Node]] = {}
    for node in writers:
        target = node.args[0]
        place = run.places.get(target)
        same = [n for n, p in run.places.items() if place is not None and p[0] == place[0] and n < node]
        if any(run.places[n] != place for n in same):
            return program.run_decompositions({}), {}
        groups[node] = same
    return program, groups
