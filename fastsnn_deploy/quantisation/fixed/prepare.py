"""From a captured network that another program has quantised to our quantised model: its integers, its steps."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor, fx

from fastsnn_deploy.errors import LoweringError, Problem
from fastsnn_deploy.quantisation.capture import Captured
from fastsnn_deploy.quantisation.fixed.absorb import absorb
from fastsnn_deploy.quantisation.fixed.image import put_image, with_own_grid
from fastsnn_deploy.quantisation.fixed.layers import on_grid, own_grid
from fastsnn_deploy.quantisation.fixed.quantiser import grids_of, refusals
from fastsnn_deploy.quantisation.graph_edit import compiled, grouped, problem_at
from fastsnn_deploy.quantisation.image_grid import ImageGrid
from fastsnn_deploy.quantisation.layers import QUANT_WEIGHTED, QuantActivation, QuantInput
from fastsnn_deploy.quantisation.proof import holds_for_others, probes, require_same
from fastsnn_deploy.quantisation.structure import (
    AVERAGE,
    BETWEEN,
    KEEPS_GRID,
    MOVES,
    RELU,
    WEIGHTED,
    averages_image,
    behind,
    folds_into_linear,
    module_at,
    modules,
)

NO_QUANTISER = "Quantise it in the program that made the network, or give prepare the float network"


def prepared_fixed(captured: Captured, grid: ImageGrid | None) -> fx.GraphModule:
    """The quantised model with the integers and steps that the network has. grid: of raw images; None for its own.

    Raises LoweringError listing everything that has none, or that no spiking network of integers can hold.
    """
    quantised = captured.graph
    problems = [*refusals(captured.original), *_put_layers(quantised)]
    user_grid = put_image(quantised, captured.taken, grid, problems)
    compiled(quantised)
    shape = captured.shape

    def raw(images: Tensor) -> Tensor:
        return user_grid.raw(captured.as_taken(images))

    before = copy.deepcopy(quantised)
    absorb(quantised)
    compiled(quantised)
    problems += _not_rounded(quantised)
    if problems:
        raise LoweringError("the network is quantised, but not so that its integers can be taken", grouped(problems))
    require_same(before, captured.original, shape, raw)
    _require_equal(quantised, before, captured, raw)
    quantised.meta["captured_shape"] = captured.taken
    if len(shape) == 1 < len(captured.taken) or not holds_for_others(before, captured.original, shape, raw):
        quantised.meta["only_shape"] = captured.taken
    with_own_grid(quantised, own=grid is None)
    compiled(quantised)
    return quantised


def _put_layers(quantised: fx.GraphModule) -> Iterator[Problem]:
    """Quantised layers in place of those whose weights lie on a grid; problems with the others."""
    done: set[str] = set()
    for node, module in modules(quantised):
        if type(module) not in WEIGHTED or str(node.target) in done:
            continue
        done.add(str(node.target))
        grid = grids_of(module).get("weight")
        if grid is None:
            yield problem_at(node, "has float weights", NO_QUANTISER)
            continue
        known = bool(grid.refusals)
        grid = own_grid(module, grid)
        if grid.refusals:
            yield from () if known else (problem_at(node, what, fix) for what, fix in grid.refusals)
            continue
        parent, _, name = str(node.target).rpartition(".")
        setattr(quantised.get_submodule(parent), name, on_grid(module, grid).train(module.training))


def _not_rounded(quantised: fx.GraphModule) -> Iterator[Problem]:
    """Places where a neuron would have to send a real number."""
    on_grid: dict[fx.Node, bool] = {}
    for node in quantised.graph.nodes:
        module = module_at(quantised, node)
        sources = [on_grid[source] for source in node.all_input_nodes]
        if isinstance(module, RELU):
            yield problem_at(node, "is not followed by a quantiser", NO_QUANTISER)
        if isinstance(module, (*QUANT_WEIGHTED, *WEIGHTED, *BETWEEN, *MOVES)):
            for source in node.all_input_nodes:
                value = behind(quantised, source)
                maker = module_at(quantised, value)
                if not (on_grid[value] or isinstance(maker, RELU) or folds_into_linear(quantised, source, module)):
                    yield problem_at(
                        node, f"reads values of '{value.name}' that no quantiser has rounded", NO_QUANTISER
                    )
        made = isinstance(module, (QuantInput, QuantActivation)) or node.op == "placeholder"
        moves = isinstance(module, KEEPS_GRID) or node.target is torch.cat
        average = isinstance(module, AVERAGE) and averages_image(quantised, node)
        on_grid[node] = made or average or (moves and all(sources))


def _require_equal(quantised: fx.GraphModule, before: fx.GraphModule, captured: Captured, raw: object) -> None:
    """Raise LoweringError unless moving the activations has left every answer as it was, bit for bit."""
    ours, theirs = copy.deepcopy(quantised).eval(), copy.deepcopy(before).eval()
    for images in islice(probes(captured.shape), 3):
        image = raw(images).float()  # type: ignore[operator]
        with torch.no_grad():
            if not torch.equal(ours(image), theirs(image)):
                what = "does not compute the same with its activations where neurons are"
                raise LoweringError("the network cannot be taken exactly", [Problem("forward", what)])
