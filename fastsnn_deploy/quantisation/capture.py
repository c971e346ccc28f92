"""Capture any `nn.Module` as a graph of known modules, additions and concatenations, in evaluation mode.

torch.export captures; where it cannot, torch.fx is tried (`symbolic`). What is not known is listed, all of it at
once, with module path, source line, reason, and what to do.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.optim.swa_utils import AveragedModel

from fastsnn_deploy.errors import InputError, LoweringError, Problem
from fastsnn_deploy.graph.images import image_shape
from fastsnn_deploy.quantisation import aten_maps, aten_rules  # noqa: F401  they register
from fastsnn_deploy.quantisation.exported import Translator
from fastsnn_deploy.quantisation.fixed import brevitas, torch_ao  # noqa: F401  they register
from fastsnn_deploy.quantisation.fixed.modules import with_fixed_quantisers
from fastsnn_deploy.quantisation.fixed.programs import holds_quantisers, with_modules
from fastsnn_deploy.quantisation.fixed.quantiser import refusals
from fastsnn_deploy.quantisation.known_modules import KNOWN, kind_of
from fastsnn_deploy.quantisation.layers import QuantInput
from fastsnn_deploy.quantisation.moved import BATCH
from fastsnn_deploy.quantisation.outputs import choose
from fastsnn_deploy.quantisation.symbolic import symbolic

SIZES = (32, 64, 28, 224, 96, 128, 16, 8, 299, 48, 256, 512)
"""Heights and widths that are tried, in this order, where no shape is given."""


@dataclass(frozen=True)
class Captured:
    """graph: the canonical float network. original: a copy of the user's, in evaluation mode, float32 on the CPU.

    shape: of one image, with which it was captured. taken: of the image that the graph takes, which is a map where the
    user's network makes one of a line (C, L) or a vector. replaced: kinds of the activations that became ReLU, one for
    each place.
    """

    graph: fx.GraphModule
    original: nn.Module
    shape: tuple[int, ...]
    taken: tuple[int, ...]
    replaced: tuple[str, ...] = ()

    def as_taken(self, images: Tensor) -> Tensor:
        """The user's images as the graph takes them."""
        if len(self.shape) == 2 < len(self.taken):
            return images.unsqueeze(2 if self.taken == (self.shape[0], 1, self.shape[1]) else 1)
        return images if self.shape == self.taken else images.view(len(images), *self.taken)


def canonicalise(model: nn.Module) -> fx.GraphModule:
    """A network of known modules: `model` itself if it is one, else captured.

    Networks built from this package's own layers share their parameters with `model`; others are copied. node.meta
    ["module"] is the path in the user's network and node.meta["line"] the source line. Raises LoweringError listing
    everything that has no form here.
    """
    own = tuple(kind for kind, _ in KNOWN.values() if kind.__module__.startswith("fastsnn_deploy"))
    if (isinstance(model, fx.GraphModule) and model.meta.get("canonical")) or any(
        type(module) in own for module in model.modules()
    ):
        return symbolic(model)
    return capture(model).graph


def capture(
    model: nn.Module,
    input_shape: Sequence[int] | None = None,
    output: str | int | None = None,
    replace_activations: bool = False,
) -> Captured:
    """Capture a float network; the user's object stays as it is.

    input_shape: (C, H, W), (C, L) or (N,) of one image; if it is None, usual ones are tried. output: which tensor is
    the answer, if there are several. replace_activations: by ReLU, where they are rectifiers.
    Raises InputError for what is not a float network, or a shape that it does not take, LoweringError listing
    everything that has no form here.
    """
    original = evaluating_copy(model)
    if isinstance(original, fx.GraphModule) and holds_quantisers(original):
        original = with_modules(original)
    if input_shape is None and isinstance(original, fx.GraphModule):
        input_shape = original.meta.get("input_shape")  # a program from a file knows it
    _require_one_argument(original)
    modes = {path: module.training for path, module in unwrapped(model).named_modules()}
    if kind_of(original) is not None or not list(original.children()):
        original, modes = nn.Sequential(original).eval(), {"": modes[""], "0": modes[""]}
    shapes = _fitting(original, input_shape)
    original = with_fixed_quantisers(original, shapes[0] if shapes else None)
    several = choose(original, _result(original, shapes[0]), output) if shapes else []
    failure: Exception | None = None
    for shape in shapes:
        try:
            translator = _translator(original, shape, modes, replace_activations)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                graph = _finished(translator.run())
            if not several:
                return Captured(graph, original, shape, translator.taken, tuple(translator.replaced))
            break
        except LoweringError as error:
            failure = failure or error
    if several:
        found = failure.problems if isinstance(failure, LoweringError) else ()
        raise LoweringError("the network cannot be captured as it is", [*several, *found])
    if isinstance(failure, LoweringError) and failure.problems:
        raise LoweringError(failure.message, [*failure.problems, *refusals(original)]) from failure
    shape = shapes[0] if shapes else ()
    return Captured(_by_symbols(original, modes), original, shape, shape)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside DataParallel, DistributedDataParallel, AveragedModel and torch.compile."""
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
    while isinstance(model, parallel) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, parallel) else model._orig_mod  # type: ignore[assignment]
    return model


def evaluating_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, float32 on the CPU. Raises InputError for what is not a float network."""
    if not isinstance(model, nn.Module):
        raise InputError(f"prepare takes a torch.nn.Module, not a {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError("prepare cannot follow TorchScript. Save it, and read it with fd.load_model")
    if any(isinstance(module, QuantInput) for module in model.modules()):
        raise InputError("the model is prepared already. Train or calibrate it, or give prepare the float network")
    weights = {name for name, _ in model.named_parameters()}
    problems = [problem for name, tensor in _tensors(model) for problem in _unfit(name, tensor, name in weights)]
    if problems:
        raise InputError(f"{type(model).__name__} cannot be prepared", problems)
    model = unwrapped(model)
    memo: dict[int, Any] = {}  # old weight_norm keeps a computed tensor, which torch refuses to copy
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(model, memo).eval().to("cpu", torch.float32)


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _unfit(name: str, tensor: Tensor, weight: bool) -> Iterator[Problem]:
    if isinstance(tensor, nn.parameter.UninitializedParameter):
        yield Problem(name, "has no shape yet", "Run the network once before")
    elif tensor.is_meta:
        yield Problem(name, "is on the meta device, without values", "Load the weights first")
    elif tensor.layout != torch.strided:
        yield Problem(name, f"is {tensor.layout}", "Use dense tensors")
    elif tensor.is_complex() or tensor.is_quantized or (weight and not tensor.is_floating_point()):
        yield Problem(name, f"is {tensor.dtype}", "Use a floating-point network")
    elif tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
        yield Problem(name, "holds NaN or infinity", "Train again with a smaller learning rate")


def _require_one_argument(model: nn.Module) -> None:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(model.forward).parameters.values()
    needed = [p for p in parameters if p.kind in kinds and p.default is inspect.Parameter.empty]
    if len(needed) > 1:
        fix = "Only networks with one input are supported"
        what = f"takes {len(needed)} tensors"
        raise LoweringError("the network's signature is not supported", [Problem("forward", what, fix)])


def _fitting(model: nn.Module, given: Sequence[int] | None) -> list[tuple[int, ...]]:
    """Shapes that the network takes: the given one, or the first few usual ones."""
    if given is not None:
        shape = image_shape(given, lengths=(1, 2, 3))
        if (reason := _refusal(model, shape)) is not None:
            raise InputError(
                f"an image of shape {shape} does not pass through the network ({reason}). Check input_shape"
            )
        return [shape]
    found: list[tuple[int, ...]] = []
    for shape in dict.fromkeys(_usual(model)):
        if _refusal(model, shape) is None:
            found.append(shape)
        if len(found) == 3:
            break
    return found


def _usual(model: nn.Module) -> Iterator[tuple[int, ...]]:
    kinds = (
        nn.Conv1d,
        nn.Conv2d,
        nn.Conv3d,
        nn.Linear,
        nn.ConvTranspose2d,
        nn.modules.batchnorm._BatchNorm,
        nn.RNNBase,
    )
    channels: tuple[int, ...] = (3, 1)
    layer = next((module for module in model.modules() if isinstance(module, kinds)), None)
    if isinstance(layer, nn.RNNBase):
        yield (8, layer.input_size)
    if isinstance(layer, nn.Linear):
        for depth in channels:
            size = round((layer.in_features / depth) ** 0.5)
            if depth * size * size == layer.in_features:
                yield (depth, size, size)
        yield (layer.in_features,)
    if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)):
        channels = (layer.in_channels,)
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        channels = (layer.num_features,)
    if isinstance(layer, nn.Conv3d):
        yield (layer.in_channels, 8, 16, 16)
    for depth in channels:
        for size in SIZES:
            yield (depth, size, size) if not isinstance(layer, nn.Conv1d) else (depth, size)
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        yield channels


def _result(model: nn.Module, shape: tuple[int, ...]) -> Any:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return copy.deepcopy(model)(torch.zeros(BATCH, *shape, dtype=torch.float32))


def _refusal(model: nn.Module, shape: tuple[int, ...]) -> str | None:
    """Why an image of this shape does not pass, None if it does."""
    try:
        _result(model, shape)
    except Exception as error:  # the user's forward runs here: anything can be raised
        return str(error).split("\n")[0] or type(error).__name__
    return None


def _translator(model: nn.Module, shape: tuple[int, ...], modes: dict[str, bool], replace: bool) -> Translator:
    """The exported network, ready for translation."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(model, (torch.zeros(BATCH, *shape, dtype=torch.float32),), strict=False)
            return Translator(program, model, modes, replace)
    except Exception as error:  # the user's forward and torch.export run here: anything can be raised
        raise LoweringError(f"{type(model).__name__} cannot be exported: {error}") from error


def _by_symbols(model: nn.Module, modes: dict[str, bool]) -> fx.GraphModule:
    """What torch.fx makes of a network that torch.export does not take, or that takes none of the usual shapes."""
    hooks = ("_forward_hooks", "_forward_pre_hooks")
    problems = [
        Problem(path or "forward", "has a forward hook", "Write its computation into forward")
        for path, module in model.named_modules()
        if any(getattr(module, name) for name in hooks)
    ]
    if problems:
        raise LoweringError(f"{type(model).__name__} cannot be captured", problems)
    graph = symbolic(model)
    for path, module in graph.named_modules():
        module.training = modes.get(path, modes[""])
    return graph


def _finished(graph: fx.GraphModule) -> fx.GraphModule:
    graph.graph.lint()
    graph.recompile()
    graph.meta["canonical"] = True
    return graph
