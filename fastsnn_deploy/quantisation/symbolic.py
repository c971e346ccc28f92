"""Capture by torch.fx: for networks of this package's own layers, and for what torch.export cannot take.

Functional calls (`F.relu`, `x.view(n, -1)`, ...) become modules, each call site its own. What is not known is
listed, all of it at once, with module path, source line, reason, and what to do.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from fastsnn_deploy.errors import LoweringError, Problem
from fastsnn_deploy.quantisation import layers
from fastsnn_deploy.quantisation.graph_edit import (
    ADVICE,
    FLOAT_MODULES,
    RESERVED_NAMES,
    UnsupportedError,
    add_module,
    problem_at,
    source_line,
)
from fastsnn_deploy.quantisation.known_modules import kind_of


class _Tracer(fx.Tracer):
    record_stack_traces = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return kind_of(m) is not None or super().is_leaf_module(m, module_qualified_name)


def symbolic(model: nn.Module) -> fx.GraphModule:
    """Trace `model` into a GraphModule of known and `FLOAT_MODULES` modules, `operator.add` and `torch.cat`.

    Parameters and buffers are shared with `model`. node.meta["module"] is the path in the user's network and
    node.meta["line"] the source line. Raises LoweringError listing everything that has no form here.
    """
    if isinstance(model, fx.GraphModule) and model.meta.get("canonical"):
        return model
    _require_free_names(model)
    if kind_of(model) is not None or type(model) in FLOAT_MODULES:
        model = nn.Sequential(model).train(model.training)
    tracer = _Tracer()
    try:
        graph = tracer.trace(model)
    except Exception as error:  # the user's forward runs here: anything can be raised
        raise LoweringError(
            f"{type(model).__name__} cannot be traced",
            [Problem(_innermost_line(error), str(error).split("\n")[0], "Remove control flow that depends on data")],
        ) from error
    module = fx.GraphModule(tracer.root, graph)
    problems: dict[fx.Node, Problem] = {}
    for node in list(graph.nodes):
        if "module" not in node.meta:  # nodes inserted by a rewrite have theirs already
            node.meta["module"], node.meta["line"] = _origin(node), source_line(node.stack_trace)
        _resolve_in_place(module, node)
        try:
            _canonicalise_node(module, node)
        except UnsupportedError as error:
            problems[node] = problem_at(node, str(error), error.fix)
    graph.eliminate_dead_code()
    found = [problems[node] if node in problems else _leftover(node) for node in graph.nodes]
    if real := [problem for problem in found if problem is not None]:
        raise LoweringError(f"{type(model).__name__} holds {len(real)} things without a spiking form", real)
    graph.lint()
    module.recompile()
    module.delete_all_unused_submodules()
    module.meta["canonical"] = True
    return module


def _require_free_names(model: nn.Module) -> None:
    problems = [
        Problem(name, "has a name that torch.fx uses itself", "Rename the attribute")
        for name, _ in model.named_children()
        if name in RESERVED_NAMES
    ]
    if problems:
        raise LoweringError(f"{type(model).__name__} cannot be traced", problems)


def _resolve_in_place(module: fx.GraphModule, node: fx.Node) -> None:
    """What is read after an in-place call sees its result: `relu_(x); return x` becomes `return relu(x)`."""
    source = node.args[0] if node.args else None
    if node.op == "call_module":
        in_place = getattr(module.get_submodule(str(node.target)), "inplace", False)
    else:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        in_place = node.target is operator.iadd or (name.endswith("_") and not name.endswith("__"))
        in_place = in_place or node.kwargs.get("inplace", False)
    if in_place and isinstance(source, fx.Node):
        source.replace_all_uses_with(node, delete_user_cb=lambda user: user > node)


def _leftover(node: fx.Node) -> Problem | None:
    """A call that was tolerated as part of a reshape, but whose result flows into a layer."""
    if node.op in ("placeholder", "output", "call_module") or node.target in (operator.add, torch.cat):
        return None
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    fix = "Only x.view(x.size(0), -1) may use sizes, and only x[:, :, ::s, ::s] indices"
    flows = any(user.op in ("call_module", "output") or user.target in (operator.add, torch.cat) for user in node.users)
    return problem_at(node, f"computes with the result of {name}()", fix) if flows else None


def _canonicalise_node(module: fx.GraphModule, node: fx.Node) -> None:
    if node.op in ("placeholder", "output"):
        return
    if node.op == "get_attr":
        raise UnsupportedError(f"uses the tensor '{node.target}' directly", "Fold constants into a layer")
    if node.op == "call_module":
        target = module.get_submodule(str(node.target))
        if kind_of(target) is None and type(target) not in FLOAT_MODULES:
            name = type(target).__name__
            raise UnsupportedError(f"{name} is not supported", ADVICE.get(name, "Replace it by a supported layer"))
        return
    if node.target in _IGNORED:
        return
    rule = _RULES.get(node.target)
    if rule is None:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        fix = ADVICE.get(name, "Replace it by a supported layer")
        raise UnsupportedError(f"calls {name}(), which is not supported", fix)
    new = rule(node)
    if new is None:
        return
    source = _argument(node, 0, "input")
    if not isinstance(source, fx.Node):
        raise UnsupportedError("its first argument is not a tensor of the network")
    with module.graph.inserting_before(node):
        for layer in new if isinstance(new, tuple) else (new,):
            source = module.graph.call_module(add_module(module, node, layer), (source,))
            source.meta.update(module=node.meta["module"], line=node.meta["line"])
    node.replace_all_uses_with(source)
    module.graph.erase_node(node)


def _argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _setting(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    """An argument that must be a constant."""
    value = _argument(node, position, name, default)
    for part in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(part, fx.Node):
            fix = "Write a number; a pool over the whole map is adaptive_avg_pool2d(x, 1)"
            raise UnsupportedError(f"its {name} depends on the shape of a tensor", fix)
    return value


def _max_pool(node: fx.Node) -> nn.Module:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    defaults = (None, None, 0, 1, False)
    values = [_setting(node, i + 1, n, d) for i, (n, d) in enumerate(zip(names, defaults, strict=True))]
    values[1] = values[1] or values[0]  # an empty stride means the kernel size
    return nn.MaxPool2d(**dict(zip(names, values, strict=True)))


def _avg_pool(node: fx.Node) -> nn.Module:
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    defaults = (None, None, 0, False, True, None)
    values = [_setting(node, i + 1, n, d) for i, (n, d) in enumerate(zip(names, defaults, strict=True))]
    values[1] = values[1] or values[0]
    return nn.AvgPool2d(**dict(zip(names, values, strict=True)))


def _mean(node: fx.Node) -> tuple[nn.Module, ...]:
    axes = _setting(node, 1, "dim")
    if not isinstance(axes, (tuple, list)) or sorted(a % 4 for a in axes) != [2, 3]:
        raise UnsupportedError(f"mean over axes {axes}", "Only the mean over height and width (2, 3) is supported")
    pool = nn.AdaptiveAvgPool2d(1)
    return (pool,) if _argument(node, 2, "keepdim", False) else (pool, nn.Flatten(1))


def _flatten(node: fx.Node) -> nn.Module:
    start, end = _setting(node, 1, "start_dim", 0), _setting(node, 2, "end_dim", -1)
    if start != 1 or end not in (-1, 3):
        raise UnsupportedError(f"flatten from axis {start} to {end}", "Only flatten(1) is supported")
    return nn.Flatten(1)


def _view(node: fx.Node) -> nn.Module:
    sizes = node.args[1:] if len(node.args) != 2 or isinstance(node.args[1], int) else node.args[1]
    sizes = tuple(sizes) if isinstance(sizes, (tuple, list)) else (sizes,)
    if len(sizes) != 2 or sizes == (-1, -1) or not (sizes[0] == -1 or _is_batch_size(sizes[0])):
        raise UnsupportedError(f"reshape to {sizes}", "Only x.view(x.size(0), -1), a flatten, is supported")
    return nn.Flatten(1)


def _is_batch_size(size: Any) -> bool:
    """True for x.size(0) and x.shape[0]."""
    if not isinstance(size, fx.Node):
        return False
    if size.target == "size":
        return bool(_argument(size, 1, "dim") == 0)
    whole = size.args[0] if size.target is operator.getitem else None
    of_shape = isinstance(whole, fx.Node) and (whole.target == "size" or whole.args[1:] == ("shape",))
    return of_shape and size.args[1:] == (0,)


def _interpolate(node: fx.Node) -> nn.Module:
    factor, mode = _setting(node, 2, "scale_factor"), _setting(node, 3, "mode", "nearest")
    if mode != "nearest" or factor is None:
        raise UnsupportedError(f"interpolate with mode '{mode}'", "Use mode='nearest' with a whole scale_factor")
    return nn.Upsample(scale_factor=factor, mode="nearest")


def _add(node: fx.Node) -> None:
    if len(node.args) != 2 or not all(isinstance(arg, fx.Node) for arg in node.args) or node.kwargs:
        raise UnsupportedError("adds something that is not the output of a layer", "Use a bias in a layer instead")
    node.op, node.target = "call_function", operator.add


def _cat(node: fx.Node) -> None:
    tensors, axis = _argument(node, 0, "tensors"), _argument(node, 1, "dim", 0)
    if not isinstance(tensors, (tuple, list)) or not all(isinstance(t, fx.Node) for t in tensors):
        raise UnsupportedError("concatenates something that is not a list of layer outputs", "List the tensors")
    if axis not in (1, -3):
        raise UnsupportedError(f"concatenates along axis {axis}", "Only the channel axis (dim=1) is supported")
    node.target, node.args, node.kwargs = torch.cat, (tuple(tensors), 1), {}


def _slice(node: fx.Node) -> nn.Module | None:
    source = node.args[0]
    index: Any = node.args[1]
    if isinstance(index, int) or not isinstance(source, fx.Node) or source.target in _IGNORED:
        return None  # x.shape[0] in a reshape
    whole = slice(None, None, None)
    steps = [
        s.step
        for s in (index if isinstance(index, tuple) else ())
        if isinstance(s, slice) and s.start in (None, 0) and s.stop is None
    ]
    if not isinstance(index, tuple) or len(index) != 4 or len(steps) != 4 or index[0] != whole or index[1] != whole:
        raise UnsupportedError(f"slices with {index}", "Only x[:, :, ::s, ::s] is supported")
    return layers.Subsample((steps[2] or 1, steps[3] or 1))


def _pad(node: fx.Node) -> nn.Module:
    pad, value = tuple(_setting(node, 1, "pad")), _setting(node, 3, "value", None)
    mode = _setting(node, 2, "mode", "constant")
    if len(pad) != 6 or any(pad[:4]) or value or mode != "constant" or min(pad) < 0:
        raise UnsupportedError(f"pads by {pad}", "Pad height and width in the convolution; only channels may be padded")
    return layers.PadChannels(pad[4], pad[5])


def _dropout(node: fx.Node) -> nn.Module:
    return nn.Dropout(_setting(node, 1, "p", 0.5))


_Rule = Callable[[fx.Node], nn.Module | tuple[nn.Module, ...] | None]

_IGNORED: set[Any] = {"size", "dim", getattr}
"""Calls whose result is only used in a reshape; dead after it is rewritten."""

_RULES: dict[Any, _Rule] = {
    **dict.fromkeys((F.relu, torch.relu, "relu", "relu_", F.relu_), lambda node: nn.ReLU()),
    F.relu6: lambda node: nn.ReLU6(),
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), _max_pool),
    **dict.fromkeys((F.avg_pool2d, torch._C._nn.avg_pool2d), _avg_pool),
    F.adaptive_avg_pool2d: lambda node: nn.AdaptiveAvgPool2d(_setting(node, 1, "output_size")),
    **dict.fromkeys((torch.mean, "mean"), _mean),
    **dict.fromkeys((torch.flatten, "flatten"), _flatten),
    **dict.fromkeys(("view", "reshape", torch.reshape), _view),
    F.interpolate: _interpolate,
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), _add),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), _cat),
    operator.getitem: _slice,
    F.pad: _pad,
    **dict.fromkeys((F.dropout, torch.dropout, F.dropout2d), _dropout),
}


def _origin(node: fx.Node) -> str:
    """Dotted path of the user's module in whose forward the node was made."""
    if node.op == "call_module":
        return str(node.target)
    stack = node.meta.get("nn_module_stack")
    return next(reversed(stack.values()))[0] if stack else ""


def _innermost_line(error: BaseException) -> str:
    trace = error.__traceback__
    lines = []
    while trace is not None:
        lines.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    own = [line for line in lines if "/torch/" not in line and "quantisation/symbolic" not in line]
    return own[-1] if own else "forward"
