"""A torch.export program as a graph of known modules. What each operation becomes is in `aten_rules`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from fastsnn_deploy.errors import LoweringError, Problem
from fastsnn_deploy.quantisation.fixed.quantiser import WeightGrid, grids_of
from fastsnn_deploy.quantisation.graph_edit import (
    ADVICE,
    UnsupportedError,
    grouped,
    legal_name,
    problem_at,
    source_line,
)
from fastsnn_deploy.quantisation.in_place import functional, live, name_of, writes
from fastsnn_deploy.quantisation.moved import Moved, as_map, layers_of, unmoved
from fastsnn_deploy.quantisation.replaced import replaceable


@dataclass(frozen=True, eq=False)
class Constant:
    """A parameter, a buffer, or what is computed from these alone. trains: some of it is trained. grid: what the values
    lie on, where another program has quantised them."""

    tensor: Tensor
    trains: bool = False
    grid: WeightGrid | None = None

    def t(self) -> Constant:
        """Transposed, [I, O] for [O, I]."""
        grid = self.grid and replace(self.grid, steps=self.grid.steps.expand(self.tensor.shape).t())
        return Constant(self.tensor.t(), self.trains, grid)


Rule = Callable[["Translator", dict[str, Any]], Any]

ATEN_RULES: dict[str, Rule] = {}
"""Rule of each operation by its name in aten: rule(translator, arguments by name) -> value, or list of values."""


def aten(*names: str) -> Callable[[Rule], Rule]:
    """Register what operations become."""

    def decorator(rule: Rule) -> Rule:
        ATEN_RULES.update(dict.fromkeys(names, rule))
        return rule

    return decorator


class Translator:
    """One pass over an exported program that builds the canonical graph.

    A value is a node of the new graph, a `Moved`, a `Constant`, or plain data. A line (C, L) is the map (C, 1, L),
    moved. original: the module that was exported. modes: training mode of each of its modules, by path. replace: put
    ReLU in the place of other rectifiers; `replaced` then lists them.
    """

    def __init__(
        self, program: ExportedProgram, original: nn.Module, modes: Mapping[str, bool], replace: bool = False
    ) -> None:
        self.original, self.modes, self.replace = original, modes, replace
        self.replaced: list[str] = []
        self.taken: tuple[int, ...] = ()
        self.root, self.graph = nn.Module(), fx.Graph()
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.values: dict[fx.Node, Any] = {}
        self.problems: list[Problem] = []
        self.placed: dict[Any, str] = {}
        self.keep: list[Any] = []
        """Constants whose ids are keys in `placed`."""
        self.here: fx.Node = next(iter(program.graph.nodes))
        self.program, self.groups = functional(program)
        self.live = live(self.program.graph)

    def run(self) -> fx.GraphModule:
        """The canonical graph. Raises LoweringError listing everything that has no form."""
        self._inputs()
        for node in self.program.graph.nodes:
            if node.op == "call_function" and node in self.live:
                self.here = node
                self._visit(node)
        self._output()
        name = type(self.original).__name__
        if self.problems:
            causes = grouped(self.problems)
            things = "thing" if len(causes) == 1 else "kinds of thing"
            raise LoweringError(f"{name} holds {len(causes)} {things} without a spiking form", causes)
        module = fx.GraphModule(self.root, self.graph)
        module.graph.eliminate_dead_code()
        module.delete_all_unused_submodules()
        return module

    # values

    def shape(self, value: fx.Node | Moved) -> tuple[int, ...]:
        """Shape of a value for one image."""
        return self.shapes[value] if isinstance(value, fx.Node) else value.shape

    def moved(self, value: fx.Node | Moved) -> Moved:
        """A value as positions."""
        return unmoved(value, self.shapes[value]) if isinstance(value, fx.Node) else value

    def tensor(self, value: Any) -> fx.Node:
        """The node of a value; layers that move it come into being here."""
        if isinstance(value, Constant):
            raise UnsupportedError(
                "reads a constant where it needs the output of a layer", "Fold constants into a layer"
            )
        if isinstance(value, fx.Node):
            return value
        if not isinstance(value, Moved):
            raise UnsupportedError("its first argument is not a tensor of the network")
        if value.made is None:
            node = value.node
            for layer in layers_of(as_map(value)):
                node = self.call(layer, node, own=False)
            value.made = node
        return value.made

    def call(self, layer: nn.Module, source: fx.Node, key: Any = None, own: bool = True) -> fx.Node:
        """Put a layer behind a node; calls with one key are calls of one layer.

        own: it is what the user's module computes, and so has its name; else it only prepares for that.
        """
        path = self.placed.get(key) if key is not None else None
        if path is None:
            path = self._register(layer, own)
            if key is not None:
                self.placed[key] = path
        node = self.graph.call_module(path, (source,))
        with torch.no_grad():
            was, probe = layer.training, torch.zeros(1, *self.shapes[source], dtype=torch.float32)
            self.shapes[node] = tuple(layer.eval()(probe).shape[1:])
            layer.train(was)
        self.mark(node)
        if not own:
            node.meta["module"] = self.path.rpartition(".")[0]
        return node

    def combine(self, function: Any, arguments: tuple[Any, ...], shape: tuple[int, ...]) -> fx.Node:
        """A sum or a concatenation."""
        node = self.graph.call_function(function, arguments)
        self.shapes[node] = shape
        return self.mark(node)

    def mark(self, node: fx.Node) -> fx.Node:
        """Note where in the user's program the node comes from."""
        node.meta.update(module=self.path, line=source_line(self.here.meta.get("stack_trace")))
        return node

    @property
    def stack(self) -> list[tuple[str, str]]:
        """(path, type) of the user's modules around the present operation, outermost first."""
        entries = (self.here.meta.get("nn_module_stack") or {}).values()
        known = [(str(path), getattr(kind, "__name__", str(kind))) for path, kind in entries]
        return [(path.removeprefix("L['self']."), kind) for path, kind in known if not path.startswith("_empty")]

    @property
    def path(self) -> str:
        return self.stack[-1][0] if self.stack else ""

    def module(self) -> nn.Module:
        """The user's module in whose forward the present operation is."""
        try:
            return self.original.get_submodule(self.path)
        except AttributeError:
            return self.original

    def _register(self, layer: nn.Module, own: bool) -> str:
        layer.train(self.modes.get(self.path, self.modes[""]))
        names = [legal_name(part) for part in self.path.split(".")] if own and self._in_torch() else []
        if not names or not self._free(names):
            base = legal_name(f"{self.here.name}_{type(layer).__name__.lower()}")
            names, number = [base], 1
            while not self._free(names):
                names, number = [f"{base}_{number}"], number + 1
        parent = self.root
        for name in names[:-1]:
            if name not in parent._modules:
                parent.add_module(name, nn.Module())
            parent = parent.get_submodule(name)
        parent.add_module(names[-1], layer)
        return ".".join(names)

    def _free(self, names: list[str]) -> bool:
        """True if no layer has the path, contains it, or lies in it."""
        parent: nn.Module | None = self.root
        for name in names[:-1]:
            parent = parent._modules.get(name) if parent is not None else None
            if parent is not None and type(parent) is not nn.Module:
                return False
        return parent is None or not hasattr(parent, names[-1])

    # the translation

    def _inputs(self) -> None:
        parameters = dict(self.original.named_parameters(remove_duplicate=False))
        state = {**parameters, **dict(self.original.named_buffers(remove_duplicate=False)), **self.program.constants}
        nodes = {node.name: node for node in self.program.graph.nodes if node.op == "placeholder"}
        images = 0
        for spec in self.program.graph_signature.input_specs:
            node = nodes[spec.arg.name]
            if spec.kind is InputKind.USER_INPUT:
                if not isinstance(node.meta.get("val"), Tensor):
                    self.values[node] = getattr(spec.arg, "value", None)
                    continue
                images += 1
                image, given = self.graph.placeholder(legal_name(node.name)), tuple(node.meta["val"].shape[1:])
                self.taken = self.shapes[image] = _image_shape(node, given)
                image.meta.update(module="", line="")
                self.values[node] = image if self.taken == given else unmoved(image, self.taken, given)
            else:
                tensor = state[str(spec.target)]
                path, _, name = str(spec.target).rpartition(".")
                self.values[node] = Constant(tensor, tensor.requires_grad, self._grid(path, name))
        if images != 1:
            self.problems.append(
                Problem("forward", f"takes {images} tensors", "Only networks with one input are supported")
            )

    def _grid(self, path: str, name: str) -> WeightGrid | None:
        try:
            return grids_of(self.original.get_submodule(path)).get(name)
        except AttributeError:  # a tensor that forward makes
            return None

    def _visit(self, node: fx.Node) -> None:
        try:
            self.values[node] = self._value(node)
        except UnsupportedError as error:
            own = type(self.module()).__name__ in ADVICE  # one reason, not all that its operations meet
            reason = self._unsupported(name_of(node)) if own else error
            self.problems.append(self._problem(str(reason), reason.fix))
            self.values[node] = self._unknown(node.meta.get("val"))
        if writes(node):
            for other in self.groups.get(node, ()):
                self.values[other] = self.values[node]

    def _value(self, node: fx.Node) -> Any:
        if node.target is operator.getitem:
            return self.values[node.args[0]][node.args[1]]  # type: ignore[index]
        arguments = self._arguments(node)
        if all(not isinstance(leaf, (fx.Node, Moved)) for leaf in _leaves(arguments)):
            return self._constant(node, arguments)
        name = name_of(node)
        rule = ATEN_RULES.get(name) or ATEN_RULES.get(name.removesuffix("_"))
        if self.replace and replaceable(name):
            self.replaced.append(type(self.module()).__name__ if self._in_torch() else name.removesuffix("_"))
            rule = ATEN_RULES["relu"]
        if rule is None:
            raise self._unsupported(name)
        return self._as_given(rule(self, arguments), node.meta.get("val"))

    def _as_given(self, made: Any, example: Any) -> Any:
        """What a rule made of a line, as the line that the network knows."""
        if isinstance(made, list) and isinstance(example, (list, tuple)):
            return [self._as_given(one, other) for one, other in zip(made, example, strict=False)]
        if isinstance(made, fx.Node) and isinstance(example, Tensor) and example.dim() == 3:
            channels, length = example.shape[1:]
            if self.shapes[made] == (channels, 1, length):
                return unmoved(made, self.shapes[made], (channels, length))
        return made

    def _arguments(self, node: fx.Node) -> dict[str, Any]:
        resolved: list[Any] = [fx.node.map_arg(value, lambda n: self.values[n]) for value in (node.args, node.kwargs)]
        if not hasattr(node.target, "_schema"):
            return {str(i): value for i, value in enumerate(resolved[0])}
        schema = node.target._schema.arguments
        bound = {a.name: a.default_value if a.has_default_value() else None for a in schema}
        bound.update({a.name: value for a, value in zip(schema, resolved[0], strict=False)})
        bound.update(dict(resolved[1]))
        return bound

    def _constant(self, node: fx.Node, arguments: dict[str, Any]) -> Any:
        if any(other.op == "placeholder" for other in self.groups.get(node, ())):
            raise UnsupportedError(
                f"changes a buffer in every forward pass, with {name_of(node)}()",
                "Keep buffers as they are in evaluation",
            )
        trains = any(leaf.trains for leaf in _leaves(arguments) if isinstance(leaf, Constant))
        plain: list[Any] = [
            _mapped(
                fx.node.map_arg(part, lambda n: self.values[n]),
                lambda leaf: leaf.tensor if isinstance(leaf, Constant) else leaf,
            )
            for part in (node.args, node.kwargs)
        ]
        if writes(node):
            plain[0] = (plain[0][0].clone(), *plain[0][1:])
        moved = arguments.get("self") if name_of(node) in _MOVES else None
        grid = moved.grid if isinstance(moved, Constant) else None
        with torch.no_grad():
            result = node.target(*plain[0], **plain[1])  # type: ignore[operator]
            if grid is not None and isinstance(moved, Constant):
                steps = grid.steps.expand(moved.tensor.shape)
                grid = replace(grid, steps=node.target(steps, *plain[0][1:], **plain[1]))  # type: ignore[operator]
                return Constant(result, trains, grid)
        return _mapped(
            list(result) if isinstance(result, (tuple, list)) else result,
            lambda leaf: Constant(leaf, trains) if isinstance(leaf, Tensor) else leaf,
        )

    def _unsupported(self, name: str) -> UnsupportedError:
        kind = type(self.module()).__name__
        if self._in_torch():
            return UnsupportedError(f"{kind} is not supported", ADVICE.get(kind, "Replace it by a supported layer"))
        return UnsupportedError(
            f"calls {name}(), which is not supported", ADVICE.get(name, "Replace it by a supported layer")
        )

    def _in_torch(self) -> bool:
        """True if the present operation is that of a layer of torch's own."""
        return self.path != "" and type(self.module()).__module__.startswith("torch.nn.modules")

    def _problem(self, what: str, fix: str) -> Problem:
        scratch = fx.Graph().placeholder(self.here.name)
        return problem_at(self.mark(scratch), what, fix)

    def _unknown(self, example: Any) -> Any:
        """Stands for a result that has no form, so that what follows is looked at too."""
        if isinstance(example, (tuple, list)):
            return [self._unknown(part) for part in example]
        if not isinstance(example, Tensor):
            return example
        node = self.graph.placeholder("unknown")
        self.shapes[node] = tuple(example.shape[1:])
        return node

    def _output(self) -> None:
        names = self.program.graph_signature.user_outputs
        returned = next(node for node in self.program.graph.nodes if node.op == "output").args[0]
        wanted = [node for node in returned if isinstance(node, fx.Node) and node.name in names]
        if not wanted:
            self.problems.append(Problem("forward", "returns no tensor", "Return one tensor"))
            return
        self.here = wanted[0]
        try:
            value = self.values[wanted[0]]
            self.mark(self.graph.output(self.tensor(value)))
        except UnsupportedError as error:
            self.problems.append(self._problem(str(error), error.fix))


def _image_shape(node: fx.Node, given: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the image that the captured network takes: a map, where the user's makes one of a line or a vector."""
    read = {tuple(user.meta["val"].shape[1:]) for user in node.users if isinstance(user.meta.get("val"), Tensor)}
    maps = {(shape[0], 1, shape[1]) if len(shape) == 2 else shape for shape in read}
    moved = all(name_of(user) in _RESHAPES for user in node.users)
    if len(given) < 3 and moved and len(maps) == 1 and len(shape := maps.pop()) == 3:
        return shape
    return (given[0], 1, given[1]) if len(given) == 2 else given


_MOVES = (
    "t",
    "transpose",
    "permute",
    "view",
    "reshape",
    "unsqueeze",
    "squeeze",
    "detach",
    "alias",
    "contiguous",
    "clone",
)
"""Operations that leave values on their grid."""

_RESHAPES = ("view", "_unsafe_view", "reshape", "unsqueeze", "unflatten")


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    return fx.node.map_aggregate(value, change)


def _leaves(value: Any) -> list[Any]:
    found: list[Any] = []
    fx.node.map_aggregate(value, lambda leaf: found.append(leaf))
    return found
