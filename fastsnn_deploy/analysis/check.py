"""What will become of a network, layer by layer and for each target, before anything is trained: `fd.check`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsnn_deploy.errors import InputError, Problem, known_name, wrong_type
from fastsnn_deploy.files import path_of
from fastsnn_deploy.graph import Population, Readout, SpikingGraph, Synapse
from fastsnn_deploy.graph.images import image_shape
from fastsnn_deploy.graph.ranges import STATE_BITS
from fastsnn_deploy.graph.summary import layer_rows
from fastsnn_deploy.tables import Column, Result, Table, one_line, shape, shown, words
from fastsnn_deploy.targets import TARGETS, to_target

if TYPE_CHECKING:
    from torch import nn

    from fastsnn_deploy.quantisation import Checkpoint

IMAGES = 8
"""Random images that stand for the user's where there are none."""

WEIGHT_BITS = 8
"""Width of a synapse's mantissa."""

ESTIMATED = (
    "no images were given: steps are from random ones, so thresholds and bits are estimates. Give images (--data) for "
    "the real ones"
)


@dataclass(frozen=True)
class Check(Result):
    """What will become of a network. layers: a row of plain values each; targets: names to totals, None if refused.

    problems: everything that stands in the way, with module path and source line; empty if nothing does. refusals: what
    targets that nobody asked for cannot take; those in `targets` with totals can take the network.
    """

    network: str
    input_shape: tuple[int, ...]
    layers: tuple[dict[str, Any], ...]
    targets: dict[str, dict[str, int] | None]
    problems: tuple[Problem, ...]
    refusals: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Nothing stands in the way of the targets that were asked for, or of all but some where none was."""
        return not self.problems

    def __repr__(self) -> str:
        verdict = "no problems" if self.ok else f"{len(self.problems)} problems"
        return one_line(f"Check({self.network}, {shape(self.input_shape)}: {len(self.layers)} layers, {verdict})")

    def report(self) -> tuple[Table | str, ...]:
        """The table of layers, and every problem."""
        names = [name for name, totals in self.targets.items() if totals is not None]
        flat = [{**row, **row["targets"]} for row in self.layers]
        columns = {key: column for key, column in _COLUMNS.items() if any(row.get(key) for row in flat)}
        columns |= {name: words(name, drop=1) for name in names}
        rows = tuple(tuple(row.get(key) for key in columns) for row in flat)
        count = len(self.problems)
        verdict = "nothing stands in the way" if self.ok else f"{count} problem{'s' * (count > 1)}:"
        table = Table(f"What becomes of {self.network}", tuple(columns.values()), rows)
        others = (f"not for {problem}" for problem in self.refusals)
        return table, *self.notes, *others, verdict, *map(str, self.problems)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "network": self.network,
            "input_shape": list(self.input_shape),
            "ok": self.ok,
            "layers": [dict(row) for row in self.layers],
            "targets": dict(self.targets),
            "problems": list(map(asdict, self.problems)),
            "refusals": list(map(asdict, self.refusals)),
            "notes": list(self.notes),
        }


def check(
    model: nn.Module | Checkpoint | str | Path,
    images: Any = None,
    *,
    bits: int = 4,
    weight_bits: int = 8,
    targets: Sequence[str] | None = None,
    input_shape: Sequence[int] | None = None,
    **options: Any,
) -> Check:
    """What will become of each layer of a network for each target, and every problem, before anything is trained.

    Args:
        model: A float network, one that another project's modules have quantised, what `prepare` made, a Checkpoint,
            or a file that `load_model` reads without `model`.
        images: Raw images, as in `calibrate`; without them random ones are taken, and bits are estimates.
        bits: Of the activations of a float network, 1 to 8.
        weight_bits: Of its weights, 2 to 8.
        targets: Names of targets, each of which must take the network; None for all, of which one must.
        input_shape: (C, H, W) or (N,) of one image, if no images are given and no usual shape is meant.
        **options: As in `prepare`.

    Returns:
        A table of layers with the bits that they need and have, and all problems with their source lines.

    Raises:
        InputError: options that cannot be used, or a file that cannot be read. What stands in the network's way is no
            error, but in `problems`.

    Example:
        >>> import torch
        >>> found = check(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Sigmoid(), torch.nn.Conv2d(4, 4, 3)))
        >>> found.ok, found.problems[0].what
        (False, 'Sigmoid is not supported')
    """
    from torch import nn

    from fastsnn_deploy.quantisation import Checkpoint, prepare
    from fastsnn_deploy.quantisation.fixed.modules import quantised_elsewhere
    from fastsnn_deploy.quantisation.others import found_in
    from fastsnn_deploy.quantisation.others.take import from_quantised
    from fastsnn_deploy.quantisation.sources import Request, read_source

    if targets is not None and not isinstance(targets, (list, tuple)):
        raise wrong_type("targets", targets, "a list of names of targets")
    names = [known_name("target", name, TARGETS) for name in (TARGETS if targets is None else targets)]
    if input_shape is not None:
        input_shape = image_shape(input_shape, lengths=(1, 2, 3))
    if isinstance(model, (str, os.PathLike)):
        model = read_source(Request(path_of(model, "checkpoint"))).model
    if isinstance(model, Checkpoint):
        model.model.meta.setdefault("input_shape", model.input_shape)
        model = model.model
    if not isinstance(model, nn.Module):
        raise wrong_type("the network", model, "a torch.nn.Module, a Checkpoint, or a file")
    name = type(model).__name__
    if not _is_quantised(model):
        if images is not None and input_shape is None:
            input_shape = _shape_of(images)
        fixed, taken = quantised_elsewhere(model), bool(found_in(model))
        options |= {} if fixed or taken else {"bits": bits, "weight_bits": weight_bits}
        try:
            if taken:  # its thresholds are set, its bits chosen
                prepared = from_quantised(
                    model, weight_bits=weight_bits, input_shape=input_shape, images=images, **options
                )
            else:
                prepared = prepare(model, input_shape=input_shape, **options)
        except InputError as error:
            if not error.problems or error.message.startswith("these "):  # the options, not the network
                raise
            return Check(name, tuple(input_shape or ()), _refused(model, error), dict.fromkeys(names), error.problems)
        found = _converted(name, prepared, images, names, calibrated=fixed or taken)
    else:
        found = _converted(name, model, images, names, calibrated=True)
    if targets is None and any(totals is not None for totals in found.targets.values()):
        return replace(found, problems=(), refusals=found.problems)
    return found


def _is_quantised(model: nn.Module) -> bool:
    from fastsnn_deploy.quantisation.layers import QuantInput

    return any(isinstance(module, QuantInput) for module in model.modules())


def _shape_of(images: Any) -> tuple[int, ...] | None:
    """The shape of one image of a batch or of a named data set, None where only the network tells."""
    sizes = tuple(getattr(images, "shape", ()))
    return sizes if hasattr(images, "raw") else sizes[1:] if len(sizes) == 4 else None


def _converted(name: str, quantised: Any, images: Any, targets: list[str], calibrated: bool) -> Check:
    """The check of a quantised model: its integers, and each target's form of them."""
    from fastsnn_deploy.conversion.convert import convert
    from fastsnn_deploy.quantisation import calibrate
    from fastsnn_deploy.quantisation.given import as_checkpoint
    from fastsnn_deploy.quantisation.images import input_of, raw_levels

    size = tuple(quantised.meta.get("input_shape") or quantised.meta["captured_shape"])
    grid = input_of(quantised)
    drawn = np.random.default_rng(0).integers(grid.low, grid.high + 1, (IMAGES, *size)) * grid.step
    notes: tuple[str, ...] = ()
    if not calibrated:
        calibrate(quantised, drawn if images is None else images)
        notes = (ESTIMATED,) if images is None else ()
    try:
        graph = convert(as_checkpoint(quantised, size))
    except InputError as error:
        return Check(name, size, (), dict.fromkeys(targets), _problems(error), notes=notes)
    given = drawn if images is None else images.raw(slice(0, IMAGES)) if hasattr(images, "raw") else images
    emitted = graph.input.encode(raw_levels(quantised, given)[:IMAGES])
    totals: dict[str, dict[str, int] | None] = {}
    cells: dict[str, dict[str, str]] = {}
    problems: list[Problem] = []
    for target in targets:
        try:
            converted = to_target(graph, target, emitted)
        except InputError as error:
            totals[target] = None
            problems += [Problem(f"{target}: {p.where}".removesuffix(": "), p.what, p.fix) for p in _problems(error)]
            continue
        network = converted.network
        rows = layer_rows(network) if isinstance(network, SpikingGraph) else network.rows()
        totals[target], cells[target] = converted.totals, {str(row["layer"]): _cell(row) for row in rows}
    return Check(name, size, tuple(_rows(graph, cells)), totals, tuple(problems), notes=notes)


def _problems(error: InputError) -> tuple[Problem, ...]:
    return error.problems or (Problem("", error.message),)


def _rows(graph: SpikingGraph, cells: dict[str, dict[str, str]]) -> Iterator[dict[str, Any]]:
    for row in layer_rows(graph):
        node = graph[row["layer"]]
        synapses = [s for name in node.inputs if isinstance(s := graph[name], Synapse)]
        widest = max((int(np.abs(s.weight).max(initial=0)) for s in synapses if hasattr(s, "weight")), default=None)
        yield {
            "layer": node.name,
            "module": node.module,
            "becomes": f"{_kind(node)} of {shape(node.shape)}",
            "weight_bits": None if widest is None else [widest.bit_length() + 1, WEIGHT_BITS],
            "levels": node.ceiling - node.floor if isinstance(node, Population) else None,
            "potential_bits": None if row["potential_bits"] is None else [row["potential_bits"], STATE_BITS],
            "targets": {target: held.get(node.name, "as part of others") for target, held in cells.items()},
        }


def _kind(node: Any) -> str:
    if isinstance(node, Population):
        return "spiking neurons"
    return "readout" if isinstance(node, Readout) else type(node).__name__


def _cell(row: dict[str, Any]) -> str:
    spikes = row.get("spikes")
    return shape(row["shape"]) + (f", spikes {spikes[0]} to {spikes[1]}" if spikes else f" {row['type']}")


def _of(pair: Sequence[int] | None) -> str:
    return "" if pair is None else f"{shown(pair[0])} of {pair[1]}"


_COLUMNS = {
    "layer": words("layer"),
    "module": words("module", drop=5),
    "becomes": words("becomes"),
    "weight_bits": Column("weight bits", _of, drop=3),
    "levels": Column("counts", drop=4),
    "potential_bits": Column("potential bits", _of),
}


def _refused(model: nn.Module, error: InputError) -> tuple[dict[str, Any], ...]:
    """The layers of a network that cannot be captured, and which of them stand in the way."""
    wrong = {problem.where.split(" ")[0].rstrip(":") for problem in error.problems}
    return tuple(
        {
            "layer": path,
            "becomes": f"refused: {type(module).__name__}" if path in wrong else type(module).__name__,
            "targets": {},
        }
        for path, module in model.named_modules()
        if path and not list(module.children())
    )
