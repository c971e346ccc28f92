"""ONNX and QONNX: a graph of operators as a module of PyTorch's own layers.

What each operator becomes is in `onnx_rules` and `onnx_maps`.

onnx2torch (1.5.15) was tried first: it computes shapes from tensors as the network runs, which torch.export does not
follow, and reads weights in a way that hides whose they are.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.errors import InputError, LoweringError, Problem
from fastsnn_deploy.quantisation.fixed.quantiser import WeightGrid, is_fixed
from fastsnn_deploy.quantisation.graph_edit import UnsupportedError
from fastsnn_deploy.quantisation.sources.base import Content, Loaded, Request, source

Array = npt.NDArray[Any]
Value = Any
"""What an operator reads: a node of the new graph, a constant array, or None for an input that is left out."""

Rule = Callable[["Translator", Sequence[Value], dict[str, Any]], Any]

RULES: dict[str, Rule] = {}
"""Rule of each operator by its name: rule(translator, inputs, attributes) -> value, or list of values. A rule takes
each attribute that it knows out of the dict; what is left is refused."""

OWN = ("QuantizeLinear", "DequantizeLinear")
"""Operators whose rule is taken for constants too: they say what grid weights lie on."""

_LINEAR = ("Conv", "MatMul", "Add", "Concat", "AveragePool", "GlobalAveragePool")
OF_INTEGERS = {
    "Clip": "Clip of integers",
    **{name: name for name in ("DequantizeLinear", "QGemm", *(f"QLinear{name}" for name in _LINEAR))},
}
"""Operators that compute with the integers of a quantiser, and the names of their rules then."""

MOVES = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Slice", "Gather", "Split")
"""Operators that leave values on their grid, and integers what they are."""

BATCH = 3
"""Images that pass through where the file leaves the batch open."""


def operator(*names: str) -> Callable[[Rule], Rule]:
    """Register what operators become."""

    def decorator(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return decorator


def _is_onnx(content: Content) -> bool:
    """ONNX begins with its IR version, a small number, in protobuf's field 1; the graph or the producer follows."""
    start = content.start
    return (
        start[:1] == b"\x08"
        and 0 < start[1] < 64
        and start[2:3] in (b"\x12", b"\x1a", b"\x22", b"\x28", b"\x3a", b"\x42")
    )


@source("ONNX or QONNX", _is_onnx)
def _read(request: Request) -> Loaded:
    model = _parsed(request.path)
    module = Translator(model, request).run()
    kinds = {node.op_type for node in model.graph.node}
    name = "QONNX" if kinds & {"Quant", "IntQuant", "Trunc", "BipolarQuant"} else "ONNX"
    return Loaded(module, f"quantised {name}" if is_fixed(module) and name == "ONNX" else name)


def _parsed(path: Path) -> Any:
    try:
        onnx = import_module("onnx")
        inliner = import_module("onnx.inliner")
    except ImportError as error:
        raise InputError(
            f"{path}: is ONNX, and onnx is not installed. Install it with `pip install 'fastsnn-deploy[onnx]'`"
        ) from error
    try:
        model = onnx.load(str(path))
        if not model.graph.node:
            raise ValueError("it holds no operators")
        return inliner.inline_local_functions(model)
    except Exception as error:  # whatever damaged bytes may set off in the reader
        reason = (str(error) or type(error).__name__).split("\n")[0]
        raise InputError(f"{path}: is not an ONNX file or is damaged ({reason:.200}). Export it again") from error


class Translator:
    """One pass over an ONNX graph that builds a module. An example passes along, so that every shape is known."""

    def __init__(self, model: Any, request: Request) -> None:
        self.model, self.request = model, request
        self.opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 1)
        self.root, self.graph = nn.Module(), fx.Graph()
        self.values: dict[str, Value] = {"": None}
        self.examples: dict[fx.Node, Any] = {}
        self.problems: list[Problem] = []
        self.here: Any = None
        self.batch = BATCH
        self.codes: dict[str, tuple[Array, Array, int, int]] = {}
        """Names of values that are integers in the file: scale, zero point, least and greatest. Here they are real."""
        self.grids: dict[int, tuple[Array, WeightGrid]] = {}
        """Constants that lie on a grid, by id."""
        self.image_type = np.dtype(np.float32)

    def run(self) -> fx.GraphModule:
        """The module. Raises LoweringError listing every operator that has no form here."""
        from onnx import numpy_helper

        for tensor in self.model.graph.initializer:
            self.values[tensor.name] = numpy_helper.to_array(tensor)
        shape = self._image()
        for node in self.model.graph.node:
            self.here = node
            self._visit(node)
        outputs = [self.values.get(each.name) for each in self.model.graph.output]
        if len(outputs) != 1:
            self.problems.append(Problem("the graph", f"has {len(outputs)} outputs", "Export a network with one"))
        if self.problems:
            raise LoweringError(
                f"{self.request.path}: holds {len(self.problems)} operators that cannot be translated", self.problems
            )
        if not isinstance(outputs[0], fx.Node):
            raise InputError(f"{self.request.path}: its output does not depend on its input")
        self.graph.output(outputs[0])
        module = fx.GraphModule(self.root, self.graph, class_name="OnnxNetwork").eval()
        module.graph.eliminate_dead_code()
        module.recompile()
        module.meta["input_shape"] = shape
        return module

    def _image(self) -> tuple[int, ...]:
        """Make the input, and return the shape of one image."""
        from onnx import helper

        inputs = [each for each in self.model.graph.input if each.name not in self.values]
        if len(inputs) != 1:
            names = ", ".join(each.name for each in inputs)
            raise InputError(f"{self.request.path}: takes {len(inputs)} inputs ({names}). Export a network with one")
        sizes = [each.dim_value for each in inputs[0].type.tensor_type.shape.dim]
        if sizes and sizes[0] > 0:
            self.batch = sizes[0]
        given = self.request.input_shape
        if given is None and (len(sizes) < 2 or min(sizes[1:]) <= 0):
            raise InputError(
                f"{self.request.path}: leaves the size of its images open ({sizes}). Give --input-shape "
                "(input_shape=...)"
            )
        shape = tuple(sizes[1:] if given is None else given)
        self.image_type = helper.tensor_dtype_to_np_dtype(inputs[0].type.tensor_type.elem_type)
        image = self.graph.placeholder("image")
        self.values[inputs[0].name] = image
        self.examples[image] = torch.rand(self.batch, *shape, generator=torch.Generator().manual_seed(0))
        return shape

    # operators

    def _visit(self, node: Any) -> None:
        from onnx import helper

        inputs = [self.values.get(name) for name in node.input]
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
        try:
            found = self._translated(node, inputs, attributes)
        except UnsupportedError as error:
            self.problems.append(Problem(f"{node.op_type} '{node.name or node.output[0]}'", str(error), error.fix))
            found = [self._unknown(inputs) for _ in node.output]
        found = found if isinstance(found, list) else [found]
        self._keep_codes(node)
        self.values.update(zip(node.output, found, strict=False))

    def _translated(self, node: Any, inputs: list[Value], attributes: dict[str, Any]) -> Any:
        folds = not any(isinstance(value, fx.Node) for value in inputs)
        if folds and node.domain in ("", "ai.onnx") and node.op_type not in OWN:
            return self._folded(node, inputs)
        coded = bool(node.input) and node.input[0] in self.codes
        rule = RULES.get(OF_INTEGERS.get(node.op_type, node.op_type) if coded else node.op_type)
        if rule is None:
            raise UnsupportedError("is not supported", "Export the network without it")
        try:
            result = rule(self, inputs, attributes)
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, KeyError) as error:
            if isinstance(error, UnsupportedError):
                raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UnsupportedError(f"cannot be computed ({reason:.200})", "Check the file with onnx.checker") from error
        if attributes:
            what = ", ".join(f"{name}={value!r:.40}" for name, value in attributes.items())
            raise UnsupportedError(f"has {what}, which is not supported")
        return result

    def _keep_codes(self, node: Any) -> None:
        """Integers stay integers where they are only moved. Notes a problem where something else computes with them."""
        coded = next((self.codes[name] for name in node.input if name in self.codes), None)
        if coded is None or node.op_type not in RULES or node.op_type in OF_INTEGERS:
            return
        if node.op_type not in (*MOVES, "MaxPool"):
            what = "computes with integers that were not made real again"
            self.problems.append(
                Problem(f"{node.op_type} '{node.name or node.output[0]}'", what, "Use DequantizeLinear")
            )
        self.codes.update(dict.fromkeys(node.output, coded))

    def on_grid(self, values: Array, steps: Array, bits: int, refusals: tuple[tuple[str, str], ...] = ()) -> Array:
        """A constant, known to lie on a grid: its steps broadcast to it."""
        grid = WeightGrid(torch.from_numpy(np.array(steps, dtype=np.float32)), bits, refusals)
        self.grids[id(values)] = (values, grid)
        return values

    def grid_of(self, values: Array) -> WeightGrid | None:
        """The grid of a constant, None if it has none; steps of its shape."""
        _, grid = self.grids.get(id(values), (None, None))
        return grid and replace(grid, steps=grid.steps.expand(values.shape))

    def _folded(self, node: Any, inputs: list[Value]) -> list[Value]:
        """What an operator makes of constants alone."""
        grid = self.grid_of(inputs[0]) if node.op_type in MOVES and inputs else None
        found = self._computed(node, inputs)
        if node.op_type == "Clip" and found[0].dtype.kind in "iu":  # weights of fewer bits than their type
            ends = [int(each) for each in inputs[1:]]
            self.on_grid(found[0], np.ones(1), 1 + max(max(-end - 1, end).bit_length() for end in ends))
        if grid is not None:
            steps = self._computed(node, [grid.steps.numpy(), *inputs[1:]])
            for values, step in zip(found, steps, strict=True):
                self.on_grid(values, step, grid.bits, grid.refusals)
        return found

    def _computed(self, node: Any, inputs: list[Value]) -> list[Value]:
        from onnx import helper, numpy_helper
        from onnx.reference import ReferenceEvaluator

        held = [numpy_helper.from_array(v, n) for n, v in zip(node.input, inputs, strict=True) if v is not None]
        outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
        graph = helper.make_graph([node], "constants", [], outputs, held)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                version = [helper.make_opsetid("", self.opset)]
                return list(ReferenceEvaluator(helper.make_model(graph, opset_imports=version)).run(None, {}))
        except Exception as error:  # whatever the reference of an operator may set off
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UnsupportedError(f"cannot be computed from constants ({reason:.200})") from error

    def _unknown(self, inputs: list[Value]) -> Value:
        """Stands for a result that has no form, so that what follows is looked at too."""
        return next((value for value in inputs if isinstance(value, fx.Node)), None)

    # what rules call

    def example(self, value: Value) -> Tensor:
        """The example that arrives at a value."""
        found = self.examples[value]
        assert isinstance(found, Tensor)
        return found

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> fx.Node:
        """Put a function of torch behind values; arrays become buffers."""
        plain = tuple(self._argument(value) for value in arguments)
        node = self.graph.call_function(function, plain, options)
        with torch.no_grad():
            self.examples[node] = function(*fx.node.map_arg(plain, lambda n: self.examples[n]), **options)
        return node

    def layer(self, module: nn.Module, value: Value, weight: str = "") -> fx.Node:
        """Put a layer behind a value, under the name that its weights have in the file."""
        path = self._path(weight, type(module).__name__)
        *parents, last = path.split(".")
        place = self.root
        for part in parents:
            if part not in place._modules:
                place.add_module(part, nn.Module())
            place = place.get_submodule(part)
        place.add_module(last, module.eval())
        node = self.graph.call_module(path, (value,))
        with torch.no_grad():
            self.examples[node] = module(self.examples[value])
        return node

    def _argument(self, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        if value.size == 1 and value.dtype.kind == "f":
            return float(value.reshape(()))
        name = f"constant_{len(self.examples)}"
        self.root.register_buffer(name, torch.from_numpy(value.copy()))
        node = self.graph.get_attr(name)
        self.examples[node] = self.root.get_buffer(name)
        return node

    def _path(self, weight: str, kind: str) -> str:
        """A free module path: of the weights, of the operator, or of the kind of layer."""
        name = weight.removesuffix(".weight") if weight.endswith(".weight") else _scope(self.here)
        parts = [re.sub(r"\W", "_", part) for part in name.split(".") if part] or [kind.lower()]
        number, last = 1, parts[-1]
        while self._taken(parts):
            parts[-1], number = f"{last}_{number}", number + 1
        return ".".join(parts)

    def _taken(self, parts: list[str]) -> bool:
        place: nn.Module | None = self.root
        for part in parts[:-1]:
            place = place._modules.get(part) if place is not None else None
            if place is not None and type(place) is not nn.Module:
                return True
        return place is not None and hasattr(place, parts[-1])


def _scope(node: Any) -> str:
    """The path of the module that an operator was in: "layer1.0.conv" of PyTorch's /layer1/layer1.0/conv/Conv."""
    path = ""
    for part in node.name.strip("/").split("/")[:-1]:
        path = part if not path or part.startswith(f"{path}.") else f"{path}.{part}"
    return path
