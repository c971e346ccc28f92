"""Proof that a prepared network is the user's: with its quantisers off, both compute the same on probes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.errors import InputError, LoweringError, Problem
from fastsnn_deploy.graph.images import image_shape
from fastsnn_deploy.quantisation.graph_edit import problem_at
from fastsnn_deploy.quantisation.layers import QuantInput, quantisers_off

TOLERANCE = 1e-4
"""Largest difference, against the largest value of a layer; weights are folded in float32."""


def probes(shape: tuple[int, ...], seed: int = 0) -> Iterator[Tensor]:
    """Inputs that drive every branch: normal, large, negative, small, all equal; one to three images; float64."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    yield normal
    yield normal[:2].abs() * 30
    yield -normal[1:].abs() * 3
    yield normal[:1] * 0.01
    yield torch.full((2, *shape), 0.7, dtype=torch.float64)


def require_same(
    quantised: fx.GraphModule,
    original: nn.Module,
    shape: tuple[int, ...],
    raw: Callable[[Tensor], Tensor],
    within: Callable[[], AbstractContextManager[Any]] = nullcontext,
    most: int | None = None,
) -> None:
    """Raise LoweringError naming the first layer at which the prepared network is not the user's.

    original: in evaluation mode on the CPU, run within `within`. raw: turns the user's normalised images into those
    that the prepared network takes. most: of the probes, None for all.

    float32 is several times as fast, and proof enough where it agrees. Where it does not, as in a network that makes
    little differences large, float64 decides, and every layer is looked at.
    """
    ours, theirs = copy.deepcopy(quantised).eval(), copy.deepcopy(original)
    for images in islice(probes(shape), most):
        agree = False
        for kind in (torch.float32, torch.float64):
            ours, theirs = ours.to(kind), theirs.to(kind)
            exact = kind is torch.float64
            with torch.no_grad(), quantisers_off(ours), quantisers_off(theirs):
                record, run = _Record(theirs, exact), _Values(ours, exact)
                wanted = _answer(record, images.to(kind), within)
                agree = _same(run.run(raw(images).to(kind)), wanted)
            if agree:
                break
        if not agree:
            raise LoweringError("the captured network is not the one given", [_first_difference(run, record)])


def _answer(record: _Record, images: Tensor, within: Callable[[], AbstractContextManager[Any]]) -> Any:
    try:
        with within():
            return record.run(images)
    except RuntimeError as error:
        raise LoweringError(
            "the network cannot be compared with its captured form",
            [Problem("forward", f"does not take {len(images)} images ({str(error).splitlines()[0]})",
                     "Let forward take any batch")],
        ) from error  # fmt: skip


def holds_for_others(
    quantised: fx.GraphModule,
    original: nn.Module,
    shape: tuple[int, ...],
    raw: Callable[[Tensor], Tensor],
    within: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> bool:
    """True if the prepared network is the user's for larger images too, so that no size was built in."""
    if len(shape) == 1:
        return True
    try:
        require_same(quantised, original, (shape[0], *(size + 32 for size in shape[1:])), raw, within, most=2)
    except Exception:  # whatever the user's code raises on a size that it was not made for
        return False
    return True


def require_shape(quantised: fx.GraphModule, shape: tuple[int, ...]) -> None:
    """Raise InputError for images that a prepared network does not take: of other channels, or of another shape if it
    was prepared for one only."""
    shape = image_shape(shape)
    channels = next((len(each.offset) for each in quantised.modules() if isinstance(each, QuantInput)), 1)
    if channels > 1 and shape[0] != channels:
        raise InputError(f"input_shape {shape}: the network takes images of {channels} channels")
    only = quantised.meta.get("only_shape")
    if only is not None and tuple(shape) != only:
        raise InputError(
            f"the network was prepared for images of shape {only}, whose sizes its operations depend on, not for "
            f"{tuple(shape)}. Give input_shape={tuple(shape)} to fd.prepare"
        )


class _Values(fx.Interpreter):
    """Runs a graph, and keeps every value if wanted."""

    def __init__(self, module: fx.GraphModule, keep: bool) -> None:
        super().__init__(module, garbage_collect_values=not keep)
        self.keep = keep
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if self.keep:
            self.values[n] = result
        return result


class _Record:
    """Runs the user's network; if wanted, keeps what each module returned, by path, in the order of the calls."""

    def __init__(self, model: nn.Module, keep: bool) -> None:
        self.model, self.keep = model, keep
        self.results: dict[str, list[Tensor]] = {}

    def run(self, images: Tensor) -> Any:
        if not self.keep:
            return self.model(images)
        hooks = [module.register_forward_hook(self._keep(path)) for path, module in self.model.named_modules() if path]
        try:
            return self.model(images)
        finally:
            for hook in hooks:
                hook.remove()

    def _keep(self, path: str) -> Any:
        def hook(module: nn.Module, arguments: Any, result: Any) -> None:
            if isinstance(result, Tensor):
                self.results.setdefault(path, []).append(result.clone())

        return hook


def as_shown(shape: tuple[int, ...], dimensions: int) -> tuple[int, ...]:
    """Shape of a batch of values as the user's network has it: maps of one row may be lines there."""
    return (*shape[:2], shape[3]) if dimensions == 3 and len(shape) == 4 and shape[2] == 1 else shape


def _same(ours: Any, theirs: Any) -> bool:
    if not isinstance(theirs, Tensor) or as_shown(tuple(ours.shape), theirs.dim()) != theirs.shape:
        return False
    ours = ours.view(theirs.shape)
    scale = float(theirs.abs().max()) if theirs.numel() else 0.0
    return bool((ours - theirs).abs().max() <= TOLERANCE * scale + 1e-12) if theirs.numel() else True


def _first_difference(run: _Values, record: _Record) -> Problem:
    """The first layer whose values are not those of the user's module of that path."""
    fix = "Write hooks and what depends on more than the image as layers in forward, or leave them out"
    calls: dict[str, int] = {}
    last = None
    for node, value in run.values.items():
        path = node.meta.get("module", "")
        if node.op != "call_module" or path not in record.results:
            continue
        last = node
        number = calls.get(path, 0)
        calls[path] = number + 1
        results = record.results[path]
        if number >= len(results):
            continue
        theirs = results[number]
        if as_shown(tuple(value.shape), theirs.dim()) == theirs.shape and not _same(value, theirs):
            gap = float((value.view(theirs.shape) - theirs).abs().max())
            return problem_at(node, f"computes something else after capture (values differ by up to {gap:.3g})", fix)
    if last is None:
        return Problem("forward", "computes something else after capture", fix)
    return problem_at(last, "is the last layer that was captured as it is; what follows computes something else", fix)
