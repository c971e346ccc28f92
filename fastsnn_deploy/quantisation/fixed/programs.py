"""Quantisers that are operations of a program: of PyTorch 2 Export and fake quantisation.

Of activations they become `FixedQuantiser`s, of weights constants that lie on a grid.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.quantisation.fixed.quantiser import (
    DYNAMIC,
    ONE_SCALE,
    FixedQuantiser,
    WeightGrid,
    affine,
    put_grid,
    refused,
)
from fastsnn_deploy.quantisation.in_place import name_of
from fastsnn_deploy.quantisation.programs import free_batch, shape_of, without_guards

PER_CHANNEL = ("quantize_per_channel", "dequantize_per_channel")
PER_TENSOR = ("quantize_per_tensor", "dequantize_per_tensor")
FAKE = ("fake_quantize_per_tensor_affine", "fake_quantize_per_channel_affine")
OBSERVING = "fused_moving_avg_obs_fake_quant"


def holds_quantisers(module: nn.Module) -> bool:
    """Whether a module is a program with such operations."""
    names = (*PER_CHANNEL, *PER_TENSOR, *FAKE, OBSERVING)
    return isinstance(module, fx.GraphModule) and any(_name(node) in names for node in module.graph.nodes)


def with_modules(program: fx.GraphModule) -> fx.GraphModule:
    """A copy of a program whose quantisers are modules and grids, and which takes any batch."""
    made = copy.deepcopy(program)
    without_guards(made.graph)
    image = next((node for node in made.graph.nodes if node.op == "placeholder"), None)
    shape = shape_of(image)
    if shape and free_batch(made.graph, shape[0]):
        made.meta.setdefault("input_shape", shape[1:])
    constants: dict[fx.Node, Tensor] = {}
    for node in list(made.graph.nodes):
        if node.op == "get_attr":
            constants[node] = _attribute(made, str(node.target))
        elif node.op == "call_function":
            _replace(made, node, constants)
    made.graph.eliminate_dead_code()
    made.delete_all_unused_submodules()
    made.recompile()
    return made


def _replace(program: fx.GraphModule, node: fx.Node, constants: dict[fx.Node, Tensor]) -> None:
    arguments: Any = fx.node.map_arg((node.args, node.kwargs), lambda each: constants.get(each, each))
    if all(source in constants for source in node.all_input_nodes) and node.all_input_nodes:
        with torch.no_grad():
            result = node.target(*arguments[0], **arguments[1])  # type: ignore[operator]
        grid = _grid(node, arguments[0])
        if isinstance(result, Tensor):
            constants[node] = result
        if grid is not None and result.is_floating_point():
            _put_constant(program, node, result, grid)
            constants.pop(node)
        return
    name, values = _name(node), arguments[0]
    if name in ("dequantize_per_tensor", "dequantize_per_channel"):
        node.replace_all_uses_with(node.all_input_nodes[0])
        program.graph.erase_node(node)
        return
    quantiser = _quantiser(name, values)
    if quantiser is None:
        return
    path = _free(program, f"{node.name}_quantiser")
    program.add_submodule(path, quantiser)
    with program.graph.inserting_after(node):
        new = program.graph.call_module(path, (node.args[0],))
    new.meta.update(node.meta)
    node.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
    program.graph.erase_node(node)


def _quantiser(name: str, a: Any) -> FixedQuantiser | None:
    """The module of a quantiser of activations, None for other operations."""
    if name in PER_TENSOR or name == FAKE[0]:
        if any(isinstance(value, fx.Node) for value in a[1:3]):
            return refused("computes its scale from each image", DYNAMIC)
        scale, zero = (value.flatten().tolist() if isinstance(value, Tensor) else [value] for value in a[1:3])
        low, high = map(int, a[3:5] if name in PER_TENSOR else a[-2:])
        single = torch.tensor(scale, dtype=torch.float32).tolist()
        return affine(single, zero, low, high, _bits(low, high), "even_inverse")
    if name in PER_CHANNEL or name == FAKE[1]:
        return refused("has an activation scale for each channel", ONE_SCALE)
    if name == OBSERVING:
        return refused("observes the values that it rounds", "Export with observers off, in evaluation mode")
    return None


def _grid(node: fx.Node, a: Any) -> WeightGrid | None:
    """What a quantiser of weights puts them on, None for other operations."""
    name = _name(node)
    if name in PER_TENSOR or name == FAKE[0]:
        return WeightGrid(torch.as_tensor(a[1], dtype=torch.float32), _bits(*(a[3:5])))
    if name in PER_CHANNEL or name == FAKE[1]:
        axis, bounds = int(a[3]), a[4:6]
        shape = [-1 if i == axis % a[0].dim() else 1 for i in range(a[0].dim())]
        return WeightGrid(a[1].float().view(shape), _bits(*bounds))
    return None


def _bits(low: float, high: float) -> int:
    return math.ceil(math.log2(high - low + 1))


def _put_constant(program: fx.GraphModule, node: fx.Node, values: Tensor, grid: WeightGrid) -> None:
    name = _free(program, f"{node.name}_weight")
    program.register_parameter(name, nn.Parameter(values.detach().clone(), requires_grad=False))
    put_grid(program, grid, name)
    with program.graph.inserting_after(node):
        node.replace_all_uses_with(program.graph.get_attr(name))
    program.graph.erase_node(node)


def _name(node: fx.Node) -> str:
    return name_of(node) if node.op == "call_function" else ""


def _free(program: nn.Module, name: str) -> str:
    while hasattr(program, name):
        name += "_"
    return name


def _attribute(module: nn.Module, path: str) -> Tensor:
    parent, _, name = path.rpartition(".")
    found: Tensor = getattr(module.get_submodule(parent), name)
    return found
