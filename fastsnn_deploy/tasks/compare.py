"""The twin, its integer network and the settled spiking network on the same images: equal integers, counted work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastsnn_deploy import simulate
from fastsnn_deploy.engine import open_engine
from fastsnn_deploy.errors import InputError, MismatchError, Problem
from fastsnn_deploy.evaluate import Evaluation, nothing
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.simulate import logits


@dataclass(frozen=True)
class Answers:
    """What two forms of one network answer to N images: real values, float32 [N, *output shape].

    integer: of the integer network, which knows no time; spiking: of the spiking network once it has settled.
    early: the spiking network's answer after so many steps, where asked for.
    work: settle steps, messages and synaptic operations of the spiking network. neurons: of hidden populations
    whose settled counts were compared too, on the first images.
    """

    integer: Tensor
    spiking: Tensor
    early: dict[int, Tensor]
    work: Evaluation
    neurons: int


def run_both(
    graph: SpikingGraph,
    levels: Tensor,
    *,
    engine: str = "cpu",
    threads: int | None = None,
    batch: int = 4,
    hidden: int = 2,
    early: Sequence[int] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Answers:
    """Run the integer network and the spiking network until it settles, and compare every output integer.

    levels: uint8 [N, *input shape], N at least 1. batch: images at a time, never changes a result. hidden: images,
    from the first, on which all counts of all populations are compared too. early: numbers of steps, at least 1, after
    which the answer is wanted as well. progress: called with (images done, all).
    Raises MismatchError naming the first images that differ, InputError if the graph has several outputs.
    """
    if len(graph.outputs) != 1:
        raise InputError(f"the network has {len(graph.outputs)} outputs, must have one")
    name = graph.outputs[0]
    runner = open_engine(graph, engine, threads)
    populations = [population.name for population in graph.populations]
    total, neurons = nothing(graph), 0
    integer, spiking, problems = [], [], []
    before: dict[int, list[Tensor]] = {steps: [] for steps in early}
    starts = [*range(0, min(hidden, len(levels))), *range(min(hidden, len(levels)), len(levels), batch)]
    for start, end in zip(starts, [*starts[1:], len(levels)], strict=True):
        emitted = graph.input.encode(levels[start:end].numpy())
        values = simulate.evaluate(graph, emitted)
        record = populations if start < hidden else ()
        run = runner.run(emitted, record=record)
        for i in range(len(emitted)):
            if different := int(np.count_nonzero(run.final(name)[i] != values[name][i])):
                problems.append(Problem(f"image {start + i}", f"{different} of {values[name][i].size} outputs differ"))
        for own in record:
            counts = run.recorded[own].counts
            assert counts is not None
            if different := int(np.count_nonzero(counts[-1] != values[own])):
                problems.append(Problem(f"image {start}", f"{different} counts of '{own}' differ"))
            neurons += values[own].size
        integer.append(_real(graph, name, values[name]))
        spiking.append(_real(graph, name, run.final(name)))
        for steps, parts in before.items():
            parts.append(_real(graph, name, run.outputs[name][min(steps, run.steps) - 1]))
        settled = np.bincount(run.settle_steps, minlength=1).astype(np.int64)
        total += Evaluation(graph, len(emitted), None, settled, (), run.activity)
        if progress is not None:
            progress(end, len(levels))
    if problems:
        raise MismatchError("the settled spiking network is not the integer network", problems)
    return Answers(torch.cat(integer), torch.cat(spiking), {t: torch.cat(p) for t, p in before.items()}, total, neurons)


def _real(graph: SpikingGraph, name: str, integers: np.ndarray) -> Tensor:
    return torch.from_numpy(logits(graph, {name: integers}).astype(np.float32))
